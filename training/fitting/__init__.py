"""Fits the network and its views, calibrates the threshold, and evaluates the result."""
