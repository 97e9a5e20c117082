"""Keeps judged images on disk, finds them again, and says what labels tell of the rates."""
