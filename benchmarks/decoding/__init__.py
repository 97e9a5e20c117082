"""Measures what decoding costs and changes."""
