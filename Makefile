# make run, make test: everything that a fresh machine needs, and nothing more.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
HOST ?= 127.0.0.1
PORT ?= 8000
# An index that has CPU builds of PyTorch, for `make test` and `make train`; empty: pip's own configuration decides.
TORCH_INDEX ?=
DEV := .venv-dev/bin/python

.PHONY: help run test test-browser train lint format lock clean

help:  ## This list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

.venv-dev/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-dev
	@if [ -n "$(TORCH_INDEX)" ]; then \
		$(DEV) -m pip install --quiet --no-deps --index-url "$(TORCH_INDEX)" 'torch>=2.6,<2.14' || true; fi
	$(DEV) -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

run: .venv/.installed  ## Serve the default artifact on HOST:PORT (127.0.0.1:8000)
	.venv/bin/python -m app serve --host $(HOST) --port $(PORT)

test: .venv-dev/.installed  ## Lint, types and tests
	$(DEV) -m ruff check .
	$(DEV) -m ruff format --check .
	$(DEV) -m mypy --strict app training
	$(DEV) -m pytest -m "not slow"

.venv-dev/.browser: .venv-dev/.installed
	command -v chromium > /dev/null || apt-get install --yes --no-install-recommends chromium
	$(DEV) -m pip install --quiet --editable '.[browser]'
	touch $@

test-browser: .venv-dev/.browser  ## The page in Chromium
	$(DEV) -m pytest -m browser

train: .venv-dev/.installed  ## Train the default artifact anew
	$(DEV) -m training --output model_artifacts/circles

format: .venv-dev/.installed  ## Let ruff mend and format the code
	$(DEV) -m ruff check --fix .
	$(DEV) -m ruff format .

lock: .venv-dev/.installed  ## Write constraints.txt from what is installed and tested
	$(DEV) -m pip freeze --exclude-editable --exclude torch | grep -v ' @ ' > constraints.txt

clean:  ## Remove environments and caches
	rm -rf .venv .venv-dev .mypy_cache .pytest_cache .ruff_cache
