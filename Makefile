# Needs Python 3.10 or newer and make; all else is installed into .venv, at the versions of dev.lock.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# A stamp for each set of packages in .venv: what all of them begin with, and what a target needs.
NEW    := $(VENV)/.new
READY  := $(VENV)/.ready
DEMO   := $(VENV)/.demo
DOCS   := $(VENV)/.docs
TYPED  := runtime generated/durabletask_payloads_walkers codegen tests
STUBS  := generated/durabletask-stubs
SIDE_BY_SIDE := --numprocesses auto --dist worksteal --durations 20 --ignore tests/installed
PURGE  := protos/durabletask/largepayloads/large_payload_purge.proto --package durabletask_payloads_protos

.DEFAULT_GOAL := help
.PHONY: help setup protos generate check test test-quick test-installed test-sdk-matrix test-sdk-suite \
	test-python-matrix coverage defects mutants fuzz soak demo docs bench lock clean
# Where it is set, as in many images, each of the hundreds of processes that the tests start would compile all anew.
export PYTHONDONTWRITEBYTECODE =

help: ## Show what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-19s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(NEW): pyproject.toml dev.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed, this is " + sys.version.split()[0] + ": make PYTHON=python3.x ...")'
	$(PYTHON) -m venv --clear $(VENV)
	@touch $@

$(READY): $(NEW)
	$(PIP) -r dev.lock
	$(PIP) --no-deps --no-build-isolation -e .
	@touch $@ $(DEMO) $(DOCS)

# A tenth of the lock, so that the first run of the demo takes seconds.
$(DEMO): $(NEW)
	$(PIP) --constraint dev.lock -e '.[sdk,cli]'
	@touch $@

# The group docs of pyproject.toml. Of the package itself the command line runs, for its help.
$(DOCS): $(DEMO)
	$(PIP) --constraint dev.lock mkdocs-material 'mkdocstrings[python]'
	@touch $@

setup: $(READY) ## Make .venv (every other target does it by itself)

protos: $(READY) ## Import the .proto of the locked durabletask wheel and show what changed
	$(BIN)/durabletask-payloads-codegen import-proto durabletask.internal.orchestrator_service_pb2 --output protos

generate: $(READY) ## Write generated/ from protos/
	$(BIN)/durabletask-payloads-codegen generate
	$(BIN)/durabletask-payloads-codegen classes $(PURGE)

check: $(READY) ## Lint, format, types (mypy and pyright, strict; others on the wheel) and drift of generated/
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/durabletask-payloads-codegen check
	$(BIN)/durabletask-payloads-codegen classes $(PURGE) --check
	$(BIN)/mypy
	$(BIN)/pyright
	$(BIN)/pytest --quiet -m tools tests/codegen tests/examples tests/generated
	$(BIN)/python -m tests.checkers

test: $(READY) ## Run the tests, on all cores
	$(BIN)/pytest $(SIDE_BY_SIDE) -m "not tools"

test-quick: $(READY) ## Run the tests that are not slow
	$(BIN)/pytest $(SIDE_BY_SIDE) -m "not slow and not tools"

test-installed: $(READY) ## Run the tests of the wheel, of forks and of releases of the SDK, in environments of their own
	$(BIN)/pytest --numprocesses 2 --dist loadfile --durations 20 tests/installed

test-sdk-matrix: $(READY) ## Run the end-to-end tests with other releases of the SDK (ARGS="1.4.0 1.12.0")
	$(BIN)/python -m tests.sdk_matrix $(ARGS)

coverage: $(READY) ## Run the tests and show which lines and branches of codegen and runtime they miss: at most 5%
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest $(SIDE_BY_SIDE)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

defects: $(READY) ## Plant known defects, one by one, and show which tests find each (ARGS="outage/* */azure")
	$(BIN)/python -m tests.mutation.defects $(ARGS)

test-sdk-suite: $(READY) ## Run the SDK's own tests with interceptors in all clients and workers (ARGS="1.4.0 1.12.0")
	$(BIN)/python -m tests.sdk_suite $(ARGS)

soak: $(READY) ## Run orchestrations while everything fails, for an hour (ARGS="--minutes 60")
	$(BIN)/python -m tests.slow.soak $(ARGS)

mutants: $(READY) ## Mutate the modules that matter most; fail if tests miss one that is not explained (ARGS="tokens codec")
	$(BIN)/python -m tests.mutation $(ARGS)

fuzz: $(READY) ## Inputs at random for what reads from outside (ARGS="--seconds 600 --seed N --only TARGET")
	$(BIN)/python -m tests.fuzz $(ARGS)

test-python-matrix: $(READY) ## Run the tests on each Python there is, with the oldest and newest dependencies (ARGS=--help)
	$(BIN)/python -m tests.python_matrix $(ARGS)

demo: $(DEMO) ## A 5 MB orchestration: refused by gRPC without us, completed with us (ARGS="--store azurite")
	$(BIN)/durabletask-payloads demo $(ARGS)

docs: $(DOCS) ## Build the documentation into build/docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict --config-file tests/examples/docs/mkdocs.yml
	@echo "build/docs/index.html"

bench: $(READY) ## Measure against the durabletask wheel
	$(BIN)/python -m tests.benchmarks $(ARGS)

lock: ## Renew dev.lock from pyproject.toml
	$(PYTHON) -m venv build/lock && build/lock/bin/pip install --quiet uv
	build/lock/bin/uv pip compile --quiet --upgrade --universal --python-version 3.10 pyproject.toml --all-extras --group dev --group docs --no-header --output-file dev.lock

clean: ## Remove what the other targets made
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
