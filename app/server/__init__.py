"""Starts, replaces and drains the serving processes."""
