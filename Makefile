# make run, make test: everything that a fresh machine needs, and nothing more.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
HOST ?= 127.0.0.1
PORT ?= 8000
# An index that has CPU builds of PyTorch, for `make test` and `make train`; empty: pip's own configuration decides.
TORCH_INDEX ?=
DEV := .venv-dev/bin/python
INSTALL := -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: help run test coverage test-browser test-container test-fuzz test-integrations test-kubernetes test-ray test-replicas test-retraining fuzz soak bench bench-serving bench-growth bench-scoring bench-reduction bench-training bench-detection bench-gate bench-ray bench-scaling example-digits example-month train tutorial lint format lock clean

help:  ## This list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

# An environment without its stamp is one whose installation was interrupted: it starts over.
define make_environment
@$(PYTHON) -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	echo "$(PYTHON) is not Python 3.11 or newer with its venv module (Debian: apt-get install python3-venv)." >&2; \
	echo "Another one is taken by name: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
@test -e $@ || rm -rf $(@D)
$(PYTHON) -m venv $(@D)
endef

.venv/.installed: pyproject.toml constraints.txt
	@echo "Setting up .venv: what serving needs, without PyTorch (about a minute, once)."
	$(make_environment)
	.venv/bin/python $(INSTALL) --editable .
	@touch $@

.venv-dev/.installed: pyproject.toml constraints.txt
	@echo "Setting up .venv-dev: PyTorch, tests and linters (some minutes, once)."
	$(make_environment)
	@if [ -n "$(TORCH_INDEX)" ]; then $(DEV) $(INSTALL) --no-deps --index-url "$(TORCH_INDEX)" 'torch>=2.6,<2.14' || \
		echo "TORCH_INDEX has no fitting PyTorch; pip's own configuration decides." >&2; fi
	$(DEV) $(INSTALL) --editable '.[dev]'
	@touch $@

run: .venv/.installed  ## Serve the default artifact on HOST:PORT (127.0.0.1:8000)
	@exec env HOST='$(HOST)' PORT='$(PORT)' .venv/bin/python -m app serve

test: lint  ## Lint, types and tests
	OMP_NUM_THREADS=1 $(DEV) -m pytest -m "not slow" -n 2

coverage: .venv-dev/.installed  ## Which lines no fast test reaches
	OMP_NUM_THREADS=1 $(DEV) -m pytest -m "not slow" -n 2 --cov=app --cov=imagegate --cov=training --cov-report=term-missing:skip-covered

lint: .venv-dev/.installed  ## ruff, mypy and the rule between the rooms
	$(DEV) -m ruff check .
	$(DEV) -m ruff format --check .
	$(DEV) -m mypy --strict app imagegate training testing
	.venv-dev/bin/lint-imports --cache-dir .ruff_cache/imports

test-container: .venv-dev/.installed  ## Build the image and run it, locked down
	tests/project/container.sh $(DEV) -m pytest -m container -s

# nginx, promtool, and gjson with a compiler for it come from Debian; everything else is a Python package.
test-integrations: .venv-integrations/.installed  ## nginx, Envoy, promtool, web frameworks, and the clients of Triton and KServe
	@command -v nginx >/dev/null && command -v go >/dev/null && command -v promtool >/dev/null && \
		test -d /usr/share/gocode/src/github.com/tidwall/gjson || \
		{ apt-get -qq update; DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends \
		nginx-light prometheus golang-go golang-github-tidwall-gjson-dev; }
	.venv-integrations/bin/python -m pytest -m integrations tests/project/test_integrations.py tests/project/test_stacks.py tests/project/test_monitoring.py

.venv-integrations/.installed: pyproject.toml constraints.txt
	$(make_environment)
	.venv-integrations/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[integrations]'
	@touch $@

.venv-kubernetes/.installed: pyproject.toml
	$(make_environment)
	.venv-kubernetes/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[kubernetes]'
	@touch $@

# What kubectl would send; without kubectl, the base alone, which needs no rendering.
test-kubernetes: .venv-kubernetes/.installed  ## The manifests against the schemas of Kubernetes, offline
	.venv-kubernetes/bin/kubernetes-validate --strict --no-warn deploy/kubernetes/base/[!k]*.yaml
	@command -v kubectl >/dev/null || { echo "No kubectl: the overlays are not rendered, and not validated."; exit 0; }; \
	set -o pipefail; for folder in base overlays/example overlays/two-gates; do \
		kubectl kustomize deploy/kubernetes/$$folder | \
			.venv-kubernetes/bin/kubernetes-validate --strict --no-warn - || exit 1; done

# Ray is large, and neither the service nor the other tests have a use for it.
.venv-ray/.installed: pyproject.toml
	$(make_environment)
	.venv-ray/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[ray-tests]'
	@touch $@

test-ray: .venv-ray/.installed  ## Scoring with Ray Data: a cluster that loses a machine, killed runs, S3
	.venv-ray/bin/python -m pytest -m ray tests/offline/test_cluster.py

test-replicas: .venv-dev/.installed  ## Replicas behind nginx, stopped, started and swapped under load
	command -v nginx > /dev/null || \
		{ apt-get update --quiet && apt-get install --yes --no-install-recommends nginx-light; }
	$(DEV) -m pytest -m replicas -s

example-digits: .venv-dev/.installed  ## A gate in front of a classifier of real digits: train, serve, compare, draw
	$(DEV) -m examples.digits

example-month: .venv-dev/.installed  ## A month of a gate in a minute: shadow, drift, review, recalibration, candidate, promotion
	$(DEV) -m examples.month

# One part of it: `make bench-detection ONLY="--only circles"`; parts are listed by `--help`.
bench-detection: .venv-dev/.benchmarks  ## How well images are told apart, beside other models (an hour on one core)
	OMP_NUM_THREADS=1 $(DEV) -m benchmarks.detection $(ONLY)

bench-gate: .venv-dev/.installed  ## What the gate costs a request to the classifier behind it
	$(DEV) -m benchmarks.serving.gate

bench-scaling: .venv-dev/.installed  ## What scoring costs, for a thousand to a million files and one or two cores
	$(DEV) -m benchmarks.offline.scaling

.venv-dev/.browser: .venv-dev/.installed
	command -v chromium > /dev/null || \
		{ apt-get update --quiet && apt-get install --yes --no-install-recommends chromium; }
	$(DEV) $(INSTALL) --editable '.[browser]'
	@touch $@

test-browser: .venv-dev/.browser  ## The page in Chromium
	$(DEV) -m pytest -m browser

.venv-dev/.fuzz: .venv-dev/.installed
	$(DEV) $(INSTALL) --editable '.[fuzz]'
	@touch $@

test-fuzz: .venv-dev/.fuzz  ## Pillow's own test images, some minutes of fuzzing, and the OpenAPI contract
	$(DEV) -m pytest -m fuzz -s

# Which decoder to fuzz, and for how long: `make fuzz TARGET=fuzz_body SECONDS=600`.
TARGET ?= fuzz_images
SECONDS ?= 3600
fuzz: .venv-dev/.fuzz  ## Fuzz for an hour; findings land in build/fuzz
	@mkdir -p build/fuzz
	$(DEV) -m tests.hostile.fuzz.$(TARGET) -max_total_time=$(SECONDS)

soak: .venv-dev/.installed  ## A real server under a mix of good, bad and large images for 20 minutes
	$(DEV) -m benchmarks.serving.soak

test-retraining: .venv-dev/.installed  ## Train the default artifact anew, and compare its figures (6 minutes)
	$(DEV) -m pytest -m retraining

# `make train DATA=FOLDER OUTPUT=ARTIFACT TRAIN="--anomalies BAD"`: your own images; without DATA the default artifact.
# What is wrong with that is said before the set-up, which takes minutes.
ifneq ($(filter train,$(MAKECMDGOALS)),)
$(foreach name,data output train,$(if $(findstring command line,$(origin $(name))),$(error $(name)= is written in capitals: make train DATA=FOLDER OUTPUT=ARTIFACT TRAIN="--anomalies BAD")))
$(if $(DATA),$(if $(shell test -d "$(DATA)" && echo folder),,$(error DATA=$(DATA) is not a folder: it names that of your normal images)))
endif

train: .venv-dev/.installed  ## Train on DATA into OUTPUT, with the options of TRAIN; without DATA the default artifact
	$(DEV) -m training $(if $(DATA),--data "$(DATA)") --output "$(or $(OUTPUT),model_artifacts/$(if $(DATA),mine,circles))" $(TRAIN)

tutorial: .venv-dev/.installed  ## Make docs/tutorial.md and its pictures anew (a few minutes, one core)
	OMP_NUM_THREADS=1 $(DEV) -m docs.tutorial

.venv-dev/.benchmarks: .venv-dev/.installed
	$(DEV) $(INSTALL) --editable '.[benchmarks]'
	@touch $@

bench: .venv-dev/.benchmarks  ## A quick look at every speed, printed (2 minutes)
	$(DEV) -m benchmarks.serving --quick
	$(DEV) -m benchmarks.offline.scoring --quick

bench-serving: .venv-dev/.benchmarks  ## Requests a second beside peers and ceilings, into benchmarks/ and docs/ (15 minutes)
	$(DEV) -m benchmarks.serving

bench-growth: .venv-dev/.installed  ## What more workers, keeping, a candidate, traces and forwarding cost, into docs/ (4 minutes)
	$(DEV) -m benchmarks.serving.growth

bench-scoring: .venv-dev/.benchmarks  ## Files a second of `app score` beside merely decoding them (3 minutes)
	$(DEV) -m benchmarks.offline.scoring

bench-training: .venv-dev/.installed  ## The tutorial's training in its own way and in ours, with the same losses (3 minutes)
	$(DEV) -m benchmarks.training.training

bench-ray: .venv-ray/.installed  ## What `app score --engine ray` costs beside the local command (4 minutes)
	.venv-ray/bin/python -m benchmarks.offline.scoring --ray

bench-reduction: .venv-dev/.installed  ## What decoding JPEGs at a fraction does to grey levels and verdicts
	$(DEV) -m benchmarks.decoding.reduction

format: .venv-dev/.installed  ## Let ruff mend and format the code
	$(DEV) -m ruff check --fix .
	$(DEV) -m ruff format .

# PyTorch and what belongs to one build of it stay out: CPU and CUDA builds differ in version and in company.
lock: .venv-dev/.installed  ## Write constraints.txt: the versions installed, which the tests have seen
	@{ echo "# Made by \`make lock\`. For newer versions: empty this file, then \`make clean test lock\`."; \
		$(DEV) -m pip freeze --exclude-editable | grep -vE ' @ |^(torch|triton|cuda|nvidia)[-_=]' | LC_ALL=C sort -f; \
		} > .venv-dev/constraints.txt
	cp .venv-dev/constraints.txt constraints.txt
	@touch $<

clean:  ## Remove environments and caches
	rm -rf .venv .venv-dev .venv-integrations .venv-kubernetes .venv-ray .mypy_cache .pytest_cache .ruff_cache .hypothesis
