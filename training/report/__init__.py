"""Writes what a training run found: facts, plots, pictures and the page."""
