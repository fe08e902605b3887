# Two commands do all their set-up on a machine with Python 3.11 or newer and make: `make demo` and `make test`.
#
#   PYTHON       the interpreter the environment is made from        make PYTHON=python3.12 demo
#   VENV         the environment's folder, .venv by default
#   PIP_FLAGS    more options for pip, such as another index
#   DEMO_ARGS    options of `multiplet demo`                         make demo DEMO_ARGS="--events 3000"
#   PYTEST_ARGS  arguments of pytest                                 make test PYTEST_ARGS="tests/test_kinematics.py"

PYTHON ?= python3
VENV ?= .venv
PIP_FLAGS ?=
DEMO_ARGS ?=
PYTEST_ARGS ?=

BIN := $(VENV)/bin
DEMO := $(VENV)/.installed-demo
DEV := $(VENV)/.installed-dev
# --only-binary: where pythia8mc has no wheel this fails at once instead of compiling for hours.
INSTALL = $(BIN)/python -m pip install --disable-pip-version-check --only-binary=pythia8mc -c constraints.txt $(PIP_FLAGS)

.PHONY: help demo test quick check clean
.DELETE_ON_ERROR:

help:
	@echo "make demo    simulate, pretrain, fine-tune, report: demo/report.html; about seven minutes on two cores"
	@echo "make test    the whole test suite"
	@echo "make quick   the tests that take no more than a few seconds each"
	@echo "make check   ruff, import-linter and mypy"
	@echo "make clean   remove $(VENV), caches and build folders; data, runs and demo stay"

demo: $(DEMO)
	$(BIN)/multiplet demo $(DEMO_ARGS)

test: $(DEV)
	$(BIN)/python -m pytest $(PYTEST_ARGS)

quick: $(DEV)
	$(BIN)/python -m pytest -m "not slow" $(PYTEST_ARGS)

check: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

# The demo itself needs `simulate` alone; the others read the ROOT and HDF5 files that come next.
$(DEMO): pyproject.toml constraints.txt | $(BIN)/pip
	$(INSTALL) -e ".[simulate,root,hdf5]"
	@touch $@

# Holds all that the demo needs as well, so that one installation serves both.
$(DEV): pyproject.toml constraints.txt | $(BIN)/pip
	$(INSTALL) -e ".[simulate,root,hdf5,dev]"
	@touch $(DEMO) $@

$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "multiplet needs Python 3.11 or newer, this is " + sys.version.split()[0] + ": choose another, as in make PYTHON=python3.12 demo")'
	$(PYTHON) -m venv $(VENV)

clean:
	rm -rf $(VENV) build dist src/*.egg-info
	rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
