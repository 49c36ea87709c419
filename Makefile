# The README, CI and pre-commit use these targets. ARGS go to the command: make train ARGS="--method mappo"
BIN := .venv/bin
# Two processes per core, at most eight; one that has finished its share takes over half of another's.
PYTEST := $(BIN)/pytest --numprocesses auto --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help setup setup-test bots train test test-fast lint types mutation format docs bench doctor clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install everything a run needs into .venv
	@scripts/setup runtime

setup-test: ## the same, and everything the tests need
	@scripts/setup test

bots: ## download the bots of the official scenarios, if they are missing
	@scripts/setup runtime --retry-bots

train: setup ## set up, then train the small preset; ARGS go to `bidist train`
	@$(BIN)/bidist train $(ARGS)

test: setup-test lint types ## lint, types and all tests with their coverage; ARGS go to pytest, which then measures none
	$(PYTEST) --strict-skips $(or $(ARGS),--cov)

test-fast: setup-test ## the quick tests
	$(PYTEST) -m "not slow" $(ARGS)

lint: setup-test ## ruff: rules and format
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: setup-test ## mypy, strict
	$(BIN)/mypy

mutation: setup-test ## how many changes of the code the tests notice, in half an hour; ARGS go to `mutmut run`
	@$(BIN)/python -m mutmut --version >/dev/null 2>&1 || $(BIN)/pip install --no-build-isolation --editable '.[mutation]'
	$(BIN)/python -m mutmut run $(ARGS)
	@$(BIN)/python -m mutmut results
	@$(BIN)/python -m mutmut export-cicd-stats && cp mutants/mutmut-cicd-stats.json results/mutation.json

format: setup-test ## let ruff fix what it can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: setup ## build the documentation into site/; a broken link fails
	@$(BIN)/python -m mkdocs --version >/dev/null 2>&1 || $(BIN)/pip install --no-build-isolation --editable '.[docs]'
	$(BIN)/python -m mkdocs build --strict

bench: setup ## measure throughput; ARGS go to `bidist bench`
	@$(BIN)/bidist bench $(ARGS)

doctor: setup ## check this machine
	@$(BIN)/bidist doctor

clean: ## remove .venv, caches and build output; runs stay
	rm -rf .venv build site mutants .coverage *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
