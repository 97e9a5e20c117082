"""Reads a stranger's request body and finds the images in it."""
