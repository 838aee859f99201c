# `make app` generates an application beside this folder; `make test` runs the tests of the template.

PYTHON ?= python3
BIN := .venv/bin
OUTPUT ?= ..

.PHONY: help app check test lint

help: ## Show the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-6s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

app: .venv/cookiecutter ## Generate the default application in ../my-flask-app and install it
	$(BIN)/cookiecutter --no-input --output-dir "$(OUTPUT)" .
	$(MAKE) -C "$(OUTPUT)/my-flask-app" setup
	@echo "Run it: make -C $(OUTPUT)/my-flask-app run"

check: .venv/tests lint ## Check the style, and run the tests for daily work: within a minute
	$(BIN)/pytest -m daily

test: .venv/tests ## Run all tests of the template: within a quarter of an hour
	$(BIN)/pytest

lint: .venv/tests ## Check the style and the types of the template's own code
	$(BIN)/ruff check benchmarks hooks tests
	$(BIN)/ruff format --check benchmarks hooks tests
	$(BIN)/mypy

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or later is needed: make PYTHON=python3.13" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip

.venv/cookiecutter: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --group cookiecutter
	@touch $@

.venv/tests: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --group dev
	@touch $@
