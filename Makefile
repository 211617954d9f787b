# One command per task, the same for people and for CI. All that a fresh machine needs is Python with venv,
# and make; everything else is installed into .venv, and again only when what it was made from changes.
#
#   PYTHON   the interpreter that .venv is made with     make test PYTHON=python3.12
#   ARGS     passed on to the command                    make test ARGS="-k zip"
#            tests run in as many processes as there are cores: ARGS="-n 0" runs them in one

PYTHON ?= python3
ARGS ?=

# Images of containers often set it. Without bytecode, each of the hundreds of processes that the tests start
# compiles PyTorch anew.
unexport PYTHONDONTWRITEBYTECODE

VENV := .venv
BIN := $(VENV)/bin
INSTALL = $(BIN)/uv pip install --python $(VENV)
SLOW := ; the first time takes minutes, because PyTorch is large
CONTRIB := $(patsubst %/,%,$(dir $(wildcard contrib/*/pyproject.toml)))
# Ray is large, and only .ci/run's stage `interop` tests with it.
CONTRIB := $(filter-out contrib/ipfs-dataset-ray,$(CONTRIB))
# zarr reads version 3 of its format from Python 3.11 on.
ifneq ($(shell $(PYTHON) -c 'import sys; print(sys.version_info >= (3, 11))'),True)
CONTRIB := $(filter-out contrib/ipfs-dataset-zarr,$(CONTRIB))
endif

# Many tests wait for a time-out or for another process: three processes keep two cores busy.
TEST_PROCESSES = $(shell $(PYTHON) -c 'import os; print((os.cpu_count() * 3 + 1) // 2)')

.DEFAULT_GOAL := help
.PHONY: help demo test lint format types docs bench clean

help: ## Lists these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.has-demo ## Exports a small dataset to the embedded store, streams it back, trains on it
	$(BIN)/python -u examples/quickstart.py $(ARGS)

test: $(VENV)/.has-test ## Runs all tests; those with real nodes where there are any
	$(BIN)/python -u -m pytest -n $(TEST_PROCESSES) --dist worksteal $(ARGS)

lint: $(VENV)/.has-lint ## Checks style and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.has-lint ## Formats the code and mends what ruff can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(VENV)/.has-dev ## Checks types, ours and those that users meet
	$(BIN)/mypy $(ARGS)
	$(BIN)/python -m pytest -q tests/consumer

docs: $(VENV)/.has-dev ## Builds what in the documentation is generated
	@if [ -f docs/build.py ]; then $(BIN)/python docs/build.py $(ARGS); else echo "docs/ has nothing to build"; fi

bench: $(VENV)/.has-bench ## Measures beside peers and limits; ARGS="--quick", ARGS="scaling"
	$(BIN)/python -m benchmarks $(ARGS)

clean: ## Removes .venv and everything that tools left
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage*
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

# `$(VENV)/.has-test` stands for: the project, its contributed plugins and the group "test" are installed.
# uv shows on a terminal what it downloads, and everywhere what it installs.
$(VENV)/.has-%: pyproject.toml $(CONTRIB:=/pyproject.toml) | $(BIN)/uv
	@echo "Installing the project, its contributed plugins and the tools for '$*' into $(VENV)$(SLOW)"
	@$(INSTALL) --editable . $(addprefix --editable ./,$(CONTRIB)) --group $*
	@touch $@

# The demo uses no contributed plugin.
$(VENV)/.has-demo: pyproject.toml | $(BIN)/uv
	@echo "Installing the project and what the demo uses into $(VENV)$(SLOW)"
	@$(INSTALL) --editable . --group demo
	@touch $@

$(BIN)/uv:
	@echo "Making an environment in $(VENV), with uv, which installs the rest"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
