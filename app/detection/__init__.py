"""Turns the bytes of an image into 28x28 grey levels and a score; training shares this code."""
