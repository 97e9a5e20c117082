"""Judges images within bounds, and swaps the artifact that judges them."""
