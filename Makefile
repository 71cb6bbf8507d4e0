# `make` alone prints this help.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
PRESET ?= geometric_lambda
ARGS ?=
PIP_INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
SOURCES = setup.cfg setup.py constraints.txt pyproject.toml
# Where it is set, as in many containers, each process would compile the package anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup train web test unit check fix docs bench clean browser nginx redis

help:  ## Show this help
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 10
	@echo "PYTHON=$(PYTHON) makes $(VENV); ARGS='...' passes flags on to train, web, test, unit and bench"

# An environment that was left half made, or whose Python is gone, is made again.
$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "MoE Hub needs Python 3.11 or newer, which $(PYTHON) is not; as in: make setup PYTHON=python3.12" >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@touch $@

$(VENV)/.web-installed: $(VENV)/.made $(SOURCES)
	@echo "Installing MoE Hub into $(VENV); the first time this takes a few minutes"
	@$(PIP_INSTALL) torch
	@$(PIP_INSTALL) --editable '.[web,terminal]'
	@touch $@

$(VENV)/.test-installed: $(VENV)/.web-installed
	@$(PIP_INSTALL) --editable '.[test]'
	@touch $@

$(VENV)/.docs-installed: $(VENV)/.web-installed
	@$(PIP_INSTALL) --editable '.[docs]'
	@touch $@

# $(call from_system,TEST,PACKAGE,OTHERWISE): where TEST fails, installs PACKAGE; without apt-get it does OTHERWISE.
define from_system
	@$(1) || { echo "Installing $(2) with the system's package manager"; \
	  if command -v apt-get >/dev/null; then \
	    AS_ROOT=$$(test "$$(id -u)" = 0 || echo sudo); \
	    $$AS_ROOT apt-get update -qq && \
	    $$AS_ROOT env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $(2) >/dev/null; \
	  else $(3); fi; }
endef

browser:
	$(call from_system,command -v chromium >/dev/null || command -v google-chrome >/dev/null,chromium,echo "Install chromium and run this again" >&2; exit 1)

# For tests that skip themselves where these are missing: of a proxy, and of Celery workers.
nginx:
	$(call from_system,command -v nginx >/dev/null || test -x /usr/sbin/nginx,nginx-light,echo "No nginx here: its tests are skipped")

redis:
	$(call from_system,command -v redis-server >/dev/null,redis-server,echo "No redis-server here: its test is skipped")

setup: $(VENV)/.web-installed  ## Make .venv and install the package with its web extras

train: $(VENV)/.web-installed  ## Train PRESET=geometric_lambda; ARGS="--set train.max_steps=50" passes flags on
	@$(BIN)/python -m moe_hub.train --preset $(PRESET) $(ARGS)

web: $(VENV)/.web-installed  ## Open the dashboard on http://127.0.0.1:8050
	@$(BIN)/python -m moe_hub.web $(ARGS)

test: $(VENV)/.test-installed browser nginx redis  ## Run all tests, browser and training tests included
	@$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile $(ARGS)

unit: $(VENV)/.test-installed  ## Run the unit tests alone (one to two minutes on two cores)
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile -m "not browser and not training and not slow" $(ARGS)

check: $(VENV)/.test-installed  ## Formatter, linter, types, import layers, documents: changes nothing
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python docs/references.py --check
	@$(BIN)/python docs/links.py

fix: $(VENV)/.test-installed  ## Format, apply safe lint fixes, write the references
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .
	@$(BIN)/python docs/references.py

docs: $(VENV)/.docs-installed  ## Build the guide as a static site in build/docs; a broken link is an error
	@$(BIN)/python docs/references.py --check
	@$(BIN)/python docs/links.py
	@$(BIN)/python -m sphinx --builder html --fail-on-warning --keep-going --nitpicky --quiet docs build/docs
	@echo "build/docs/guide/index.html"

bench: $(VENV)/.test-installed  ## Benchmarks: a table of ratios, and JSON in bench-results/
	@$(BIN)/python -m benchmarks $(ARGS)

clean:  ## Remove .venv and caches; runs stay
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find moe_hub tests benchmarks -name __pycache__ -prune -exec rm -rf {} +
