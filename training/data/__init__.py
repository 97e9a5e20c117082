"""Draws or loads normal images, splits them, and draws anomalies."""
