"""Defines the networks and their scores, and exports the graph."""
