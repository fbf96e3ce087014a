# Every target makes the environment that it needs inside this checkout; `make help` lists them.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# The first Python that runs and can read pyproject.toml; tools/bootstrap then chooses the one for .venv.
ifndef PYTHON
PYTHON := $(shell for p in .venv/bin/python python3 python3.13 python3.12 python3.11 /usr/bin/python3; do \
	"$$p" -c 'import tomllib' 2>/dev/null && echo "$$p" && break; done)
endif
BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest
WORKERS ?= 2
STATES ?= 400000
ARGS ?=
SEEDS ?= 3000
FIRST ?= 0

.PHONY: help
help: ## List the targets.
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | awk -F'\t' '{ printf "  %-14s %s\n", $$1, $$2 }'

.PHONY: environment
environment: ## Make .venv with the package and all tools, or bring it up to date.
	@test -n "$(PYTHON)" || { echo "wfe needs Python 3.11 or newer; none was found on PATH." >&2; exit 1; }
	@$(PYTHON) tools/bootstrap

.PHONY: run
run: environment ## Run the pipeline examples/ci.yaml on this checkout, with the embedded SQLite store in .wfe/.
	@mkdir -p .wfe
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/wfe run examples/ci.yaml --db sqlite:///.wfe/ci.db $(ARGS)

.PHONY: test
test: check ## Run everything that CI runs: check, unit tests on every Python, then all tests with real servers.
	@tools/unit-everywhere
	@WFE_REQUIRE_SERVERS=1 $(PYTEST) -n $(WORKERS) --dist worksteal $(ARGS)

.PHONY: check
check: format-check lint types layers ## Check format, lint, types and layers; changes nothing.

.PHONY: format-check
format-check: environment
	@$(BIN)/ruff format --check --quiet . || { echo "not formatted (see above): run make format" >&2; exit 1; }

.PHONY: lint
lint: environment ## Lint with every rule that pyproject.toml does not except.
	@$(BIN)/ruff check --quiet .

.PHONY: types
types: environment ## Check types with mypy and pyright, both strict.
	@$(BIN)/mypy
	@PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright

.PHONY: layers
layers: environment ## Check that imports point down only.
	@report=$$($(BIN)/lint-imports --no-logo --no-cache) || { echo "$$report"; exit 1; }

.PHONY: unit
unit: environment ## Run the unit tests alone: no server, no waiting.
	@$(PYTEST) -q tests/unit -m "not slow" $(ARGS)

.PHONY: crash
crash: environment ## Kill hosts and servers at random moments: all the rounds that the guarantees name.
	@WFE_REQUIRE_SERVERS=1 $(PYTEST) -v -m crash --full $(ARGS)

.PHONY: search
search: environment ## Visit every state of the small models (STATES of each at most) and check every rule in each.
	@$(BIN)/python -m wfe.testing.search --states $(STATES) $(ARGS)

.PHONY: simulate
simulate: environment ## Simulate SEEDS (default 3000) random runs with faults, from seed FIRST on.
	@$(BIN)/python -m wfe.testing.simulation --seeds $(SEEDS) --first $(FIRST) --jobs $(WORKERS) $(ARGS)

.PHONY: canaries
canaries: environment ## Plant every fault of tests/canaries, one at a time: the checks must notice each.
	@WFE_REQUIRE_SERVERS=1 $(PYTEST) -v tests/canaries --full $(ARGS)

.PHONY: bench
bench: environment ## Measure against DBOS, interleaved, and write the table to docs/benchmarks.md.
	@$(BIN)/python -m bench $(ARGS)

.PHONY: format
format: environment ## Format the code and mend what the linter can mend by itself.
	@$(BIN)/ruff check --quiet --fix-only .
	@$(BIN)/ruff format --quiet .

.PHONY: clean
clean: ## Remove environments, caches, builds and the databases of `make run`.
	@rm -rf .venv .venv-* .wfe .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache build dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
