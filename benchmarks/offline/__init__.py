"""Measures scoring many files: speed and scaling."""
