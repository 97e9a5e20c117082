"""A month of a gate in a minute: `make example-month`."""
