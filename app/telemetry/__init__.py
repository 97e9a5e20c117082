"""Counts and logs what happens."""
