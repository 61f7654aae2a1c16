# Everything runs in .venv, which `make` builds itself. `make help` lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= python3
BIN := .venv/bin
PACKAGES := libs/images libs/retrieval libs/runtime libs/model services/trainer services/embedder services/indexer
SOURCES := $(addsuffix /src,$(PACKAGES)) clients/python/src protos/src protos/setup.py libs/model/golden benchmarks examples tests
PROTOS := $(shell find protos -name '*.proto' -o -name 'setup.py' -path 'protos/*' -o -path 'protos/src/*.py')
PROJECTS := $(addsuffix /pyproject.toml,$(PACKAGES) clients/python)
COMPILED := services/indexer/setup.py $(wildcard services/indexer/cpp/*)
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z-]+:.*?## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

.PHONY: setup
setup: .venv/.ready ## Build .venv with everything in it

# numpy and pybind11 are what hnswlib and the indexer's compiled parts are built with, and no build is isolated.
.venv/.python:
	$(PYTHON) -m venv .venv
	$(PIP) setuptools wheel numpy pybind11
	touch $@

# The stubs come first and in isolation: they are made with an older protobuf than they run on.
.venv/.protos: .venv/.python protos/pyproject.toml $(PROTOS)
	rm -rf protos/build
	$(PIP) --force-reinstall --no-deps ./protos
	touch $@

.venv/.ready: .venv/.protos constraints.txt requirements-dev.txt $(PROJECTS) $(COMPILED)
	$(PIP) --no-build-isolation $(addprefix --editable ./,$(PACKAGES)) --editable './clients/python[local]' --requirement requirements-dev.txt
	touch $@

.PHONY: demo
demo: ## Train, embed, index with DBA, submit, score and report on emoji of seven vendors
	@start=$$(date +%s.%N); $(MAKE) --no-print-directory setup; \
	$(BIN)/python -m examples.emoji.demo --out out/demo --install-seconds $$(echo "$$(date +%s.%N) $$start" | awk '{print $$1-$$2}')

.PHONY: test
test: setup lint types protos-check ## Check style, types and contracts, then run the tests (up to 15 minutes)
	$(BIN)/pytest --numprocesses 2 --dist loadfile

.PHONY: test-slow
test-slow: setup ## Run the tests that take a minute and more each
	$(BIN)/pytest -m slow

.PHONY: lint
lint: setup ## Check style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

.PHONY: types
types: setup ## Check types
	$(BIN)/mypy $(SOURCES)
	$(BIN)/mypy services/indexer/setup.py

.PHONY: format
format: setup ## Put every file into the one format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

build/googleapis: .venv/.ready
	mkdir -p $@/google/rpc
	cp $$($(BIN)/python -c 'import google.rpc; print(google.rpc.__path__[0])')/{status,code,error_details}.proto $@/google/rpc/
	touch $@

.PHONY: protos-check
protos-check: build/googleapis ## Lint the contracts and compare them with the last release
	$(BIN)/buf lint protos
	$(BIN)/buf breaking protos --against protos/released.binpb

.PHONY: protos-release
protos-release: build/googleapis ## Keep the present contracts as those of a release
	$(BIN)/buf build protos --exclude-source-info --output protos/released.binpb

# The demo's, which benchmarks take too. Where they are already this does nothing.
.PHONY: pictures
pictures: setup
	$(BIN)/python -m examples.emoji.dataset --out out/demo/data

.PHONY: bench-indexer
bench-indexer: pictures ## Measure the indexer against its peers (about an hour and a half)
	$(BIN)/python -m benchmarks.indexer --out out/bench-indexer

.PHONY: faults-indexer
faults-indexer: setup ## Kill, fill and damage the indexer, and hold it to what it acknowledged (about 20 minutes)
	$(BIN)/python -m benchmarks.faults --out out/faults-indexer

.PHONY: bench-embedder
bench-embedder: setup ## Measure the embedder against the bare network and LitServe, under overload and for long (about 65 minutes)
	$(BIN)/python -m benchmarks.embedder --out out/bench-embedder

.PHONY: bench-trainer
bench-trainer: pictures ## Measure a job against a plain loop, two-pass mining, and the time to an mAP on the demo's emoji (about 20 minutes)
	$(BIN)/python -m benchmarks.trainer --out out/bench-trainer

# Where there is a GPU there may be no network, so this takes the python that is there, and the sources.
.PHONY: gpu-check
gpu-check: ## On a CUDA device: train, prove bundles across devices, run out of memory, compare speed with a plain loop (10 minutes)
	PYTHONPATH=$(subst $(subst ,, ),:,$(addsuffix /src,$(PACKAGES))) $(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON)) -m benchmarks.gpu_check --out out/gpu-check/report.json

.PHONY: clean
clean: ## Remove what was built, but for .venv
	rm -rf build out .mypy_cache .ruff_cache .pytest_cache protos/build
