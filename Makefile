# make demo         one application with three packages, in Flask and in Quart
# make test         every promise, on SQLite, PostgreSQL and MariaDB
# make check        format, lint, types, the import order, the documents
# make docs         the documentation, in build/docs/index.html
# make transcripts  what every command shows, as pictures and text, in build/transcripts/index.html
# make bench        Ampho and other tools side by side, which takes hours; BENCH_ARGS="--sizes 50x20" takes minutes
#
# Each does its own set-up, in .venv, from a Python of 3.11 or newer.
#
#   PYTHON=python3.12      the Python to make .venv with
#   REQUIREMENTS=lowest    the lowest supported versions instead of the newest
#   AMPHO_WHEEL=dist/...   install this wheel instead of the working tree
#   PYTEST_ARGS="-k plan"  more arguments for pytest
#   COVERAGE=0             the least share of covered lines and of covered branches, in percent, where every server
#                          is installed; elsewhere the share is information

PYTHON ?= python3
REQUIREMENTS ?= dev
AMPHO_WHEEL ?=
PYTEST_ARGS ?=
COVERAGE ?= 95
WORKERS ?= 3
BENCH_ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# The stamps name what is installed, so that another choice installs again.
LIBRARIES := $(VENV)/.libraries-$(REQUIREMENTS)
DEMO := $(VENV)/.demo
BENCH := $(VENV)/.bench
DOCS := $(VENV)/.docs
SPHINX := $(BIN)/sphinx-build --fail-on-warning --nitpicky --keep-going --fresh-env --quiet -b html docs build/docs
READY := $(VENV)/.ready-$(REQUIREMENTS)-$(or $(notdir $(AMPHO_WHEEL)),tree)

.DELETE_ON_ERROR:
.PHONY: demo test check docs transcripts bench format wheel lock clean venv

demo: $(DEMO)
	$(BIN)/python examples/demo.py

# Each process would compile the package, and pytest its plug-ins and the tests, if no bytecode were written.
test: $(READY)
	$(BIN)/python -m compileall -q ampho
	$(BIN)/coverage erase
	env -u PYTHONDONTWRITEBYTECODE $(BIN)/coverage run $(BIN)/pytest --numprocesses=$(WORKERS) --dist=worksteal $(PYTEST_ARGS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --fail-under=0
	$(BIN)/python tests/covered.py $(COVERAGE) $(if $(PYTEST_ARGS),--partial)

check: $(READY) $(DOCS)
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports
	PATH="$(abspath $(BIN)):$$PATH" PYRIGHT_PYTHON_IGNORE_WARNINGS=1 pyright
	PATH="$(abspath $(BIN)):$$PATH" PYRIGHT_PYTHON_IGNORE_WARNINGS=1 pyright --verifytypes ampho --ignoreexternal
	$(BIN)/python docs/check.py
	$(SPHINX)

docs: $(READY) $(DOCS)
	$(SPHINX)

transcripts: $(READY)
	$(BIN)/python tests/transcripts.py build/transcripts

bench: $(READY) $(BENCH)
	$(BIN)/python benchmarks/run.py $(BENCH_ARGS)

format: $(READY)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

wheel: $(LIBRARIES)
	rm -rf dist
	$(BIN)/python -m build --wheel --no-isolation

# Python 3.11 knows of the lowest versions, so use that one. What newer Pythons add is put in by hand: Quart 0.23.
lock:
	for pins in dev lowest; do \
	  rm -rf build/lock && $(PYTHON) -m venv build/lock && \
	  build/lock/bin/pip install --quiet --requirement requirements/$$pins.in && \
	  { echo "# Made from $$pins.in by \`make lock\`."; \
	    build/lock/bin/pip freeze --exclude ampho | LC_ALL=C sort --ignore-case; } > requirements/$$pins.txt || exit 1; \
	done
	for more in bench docs; do \
	  rm -rf build/lock && $(PYTHON) -m venv build/lock && \
	  build/lock/bin/pip install --quiet --requirement requirements/dev.txt --requirement requirements/$$more.in && \
	  sed 's/ *;.*//' requirements/dev.txt > build/lock/dev.txt && \
	  { echo "# Made from $$more.in by \`make lock\`: what it needs on top of dev.txt."; \
	    build/lock/bin/pip freeze | grep --ignore-case --line-regexp --fixed-strings --invert-match \
	    --file=build/lock/dev.txt | LC_ALL=C sort --ignore-case; } > requirements/$$more.txt || exit 1; \
	done
	rm -rf build/lock

clean:
	rm -rf $(VENV) build dist .demo .coverage .coverage.* .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache

venv: $(READY)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Ampho needs Python 3.11 or newer: make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)

# The demo needs little of what the tests need, and has all of it where they were set up.
$(DEMO): pyproject.toml requirements/dev.txt | $(BIN)/python
	test -e $(READY) || $(PIP) install --constraint requirements/dev.txt --editable '.[flask,quart]'
	@touch $@

# What is compared, on top of what the tests need.
$(BENCH): requirements/bench.txt | $(READY)
	$(PIP) install --requirement $<
	@touch $@

# What the documentation is built with.
$(DOCS): requirements/docs.txt | $(READY)
	$(PIP) install --requirement $<
	@touch $@

$(LIBRARIES): requirements/$(REQUIREMENTS).txt | $(BIN)/python
	$(PIP) install --requirement $<
	@rm -f $(VENV)/.libraries-* $(VENV)/.ready-*
	@touch $@

$(READY): pyproject.toml $(LIBRARIES) $(AMPHO_WHEEL)
	$(PIP) install --no-deps --force-reinstall $(or $(AMPHO_WHEEL),--editable .)
	@rm -f $(VENV)/.ready-*
	@touch $@
