"""Surrounds every request: tokens, problems, routing, the access log."""
