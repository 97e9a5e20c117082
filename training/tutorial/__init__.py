"""The experiments of the tutorial page and of its notebook: `docs/tutorial.md`, `docs/tutorial.ipynb`."""
