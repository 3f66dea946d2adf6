# make demo   a fresh checkout to a report, on a CPU
# make test   what CI runs
# make bench  what is claimed about speed and memory, measured
#
# PIP_ARGS is passed to pip: where the index's torch is a CUDA build of gigabytes, point pip to
# PyTorch's CPU builds with PIP_ARGS="--extra-index-url URL".

PYTHON ?= python3
VENV ?= .venv
PIP_ARGS ?=
BIN = $(VENV)/bin
PIP = $(BIN)/pip --disable-pip-version-check install --quiet -c constraints.txt $(PIP_ARGS)

.PHONY: demo test check test-slow bench clean help

help:
	@sed -n 's/^# //p' Makefile

demo: $(VENV)/.installed
	$(BIN)/tuneproof demo

# Two processes, each module of tests in one of them: models are tiny, and one thread serves them.
test: $(VENV)/.installed-test check
	$(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile

check: $(VENV)/.installed-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# Real models, minutes each.
test-slow: $(VENV)/.installed-test
	$(BIN)/python -m pytest -m slow

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "tuneproof needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V 2>&1)."; \
		  echo "Name another: make demo PYTHON=python3.12"; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV) (once, a minute or two)"
	@$(PIP) -e . || \
		{ echo "pip could not install. Check the network and pip's index settings;"; \
		  echo "extra arguments go into PIP_ARGS, see the top of the Makefile."; exit 2; }
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	@$(PIP) -e '.[test,serve,browser]'
	@touch $@

# Each script prints a table, and says what it needs.
bench: $(VENV)/.installed-test
	@$(PIP) -e '.[bench]'
	@for script in memory score train generate judge report; do \
		echo "== bench/$$script.py"; $(BIN)/python bench/$$script.py || exit 1; done

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache
