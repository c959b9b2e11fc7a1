# `make` lists the targets. `make up` and `make test` need only make and Python 3.11 or newer.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
WHEEL := build/wheel
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help up down lint unit test wheel-test test-all bench clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

up: $(INSTALLED) ## Run everything here until Ctrl-C (ARGS="--fresh --rate 50")
	$(BIN)/sendtrace up $(ARGS)

down: $(INSTALLED) ## Stop a stack that was left behind
	$(BIN)/sendtrace down

lint: $(INSTALLED) ## Formatting, lint, types, and who may import whom
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

unit: $(INSTALLED) ## Only tests/unit: seconds, no servers
	$(BIN)/pytest tests/unit

test: lint ## Lint, and every test there is
	$(BIN)/pytest

# The tests once more, against what is shipped: the wheel goes before the tree on the path.
wheel-test: $(INSTALLED)
	rm -rf $(WHEEL)
	$(BIN)/python -m hatchling build -t wheel -d $(WHEEL)/dist
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-index \
		--target $(WHEEL)/installed $(WHEEL)/dist/*.whl
	PYTHONPATH=$(CURDIR)/$(WHEEL)/installed $(BIN)/python -P -c \
		'import schemas; assert "$(WHEEL)" in schemas.__file__, schemas.__file__'
	PYTHONPATH=$(CURDIR)/$(WHEEL)/installed $(BIN)/pytest tests/unit

test-all: test wheel-test ## Everything: `make test`, and the tests against the wheel

bench: $(INSTALLED) ## Measure what docs and BENCH promise
	$(BIN)/python bench/run.py

clean: ## Remove what was built here (not the data of `make up`)
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp is written last: an installation that was interrupted starts over.
$(INSTALLED): requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else \
		"Python 3.11 or newer is needed; name one with: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes \
		-r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps \
		--no-build-isolation -e .
	@touch $@
