"""The command `imagegate`, which an installed package has in place of `python -m app` and `python -m training`."""
