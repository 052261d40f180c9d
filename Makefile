# Everything runs in .venv, made from the pinned lock on first use.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup quickstart test test-fast test-slow check format benchmark

# With PYTHONDONTWRITEBYTECODE set every `import vllm` compiles thousands of files again; the rest keeps libraries quiet.
export PYTHONDONTWRITEBYTECODE =
export DO_NOT_TRACK = 1

BIN := .venv/bin
# Two files side by side: much of the time a test waits for one thread of a process that starts.
PYTEST := $(BIN)/pytest -n 2 --dist loadfile

help:            ## this list
	@grep -E '^[a-z-]+:.*##' Makefile | sed 's/:.*##/ /' | column -t -s '	'

setup:           ## make .venv from locks/*.lock; a second call does nothing
	@locks/bootstrap.sh

quickstart: setup ## the embedded default: minutes, offline
	@$(BIN)/psomerge quickstart

test: setup      ## all tests but those marked slow, gpu, network
	$(PYTEST)

test-fast: setup ## those that start no process, in at most three minutes
	$(PYTEST) -m "not heavy and not slow and not gpu and not network"

test-slow: setup ## the long tests too
	$(PYTEST) -m "not gpu and not network"

check: setup     ## format, lint, types, layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/basedpyright
	$(BIN)/lint-imports

format: setup    ## rewrite the code in the house format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

benchmark: setup ## the figures of the README
	$(BIN)/python -m benchmarks
