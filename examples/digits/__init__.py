"""A gate in front of a classifier of real handwritten digits: `make example-digits`."""
