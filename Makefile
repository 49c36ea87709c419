# The README's commands and CI are these targets. ARGS go to the command: make train ARGS="--method mappo"
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help setup setup-test train test test-fast lint types format bench doctor clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install what a run needs into .venv
	@scripts/setup runtime

setup-test:
	@scripts/setup test

train: setup ## set up, then train the small preset; ARGS are those of `bidist train`
	@$(BIN)/bidist train $(ARGS)

test: setup-test lint types ## lint, types and all tests; ARGS go to pytest
	$(BIN)/pytest $(ARGS)

test-fast: setup-test ## the tests that are quick
	$(BIN)/pytest -m "not slow" $(ARGS)

lint: setup-test ## ruff: rules and format
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: setup-test ## mypy, strict
	$(BIN)/mypy

format: setup-test ## let ruff mend what it can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: setup ## measure throughput; ARGS are those of `bidist bench`
	@$(BIN)/bidist bench $(ARGS)

doctor: setup ## check this machine
	@$(BIN)/bidist doctor

clean: ## remove .venv, caches and build leftovers; runs stay
	rm -rf .venv build *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
