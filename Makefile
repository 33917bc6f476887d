# Every verb sets up what it needs; nothing else by hand.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
TOOLS := $(VENV)/.tools

.PHONY: help install tools demo test test-slow check lint types fmt bench clean

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: $(INSTALLED)  ## make the virtual environment in .venv, with all that a user needs

tools: $(TOOLS)  ## the same, and what the tests need

$(INSTALLED): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[all]'
	@touch $@

$(TOOLS): $(INSTALLED)
	$(BIN)/python -m pip install --quiet --editable '.[all,dev]'
	@touch $@

export PDFS
demo: install  ## documents in, trained Vary-toy out, report at the end; PDFS=folder for your own
	$(BIN)/python -m pipelines.run recipes/demo.yaml $(if $(PDFS),"pdfs=\"$$PDFS\"")
	@echo "open runs/demo/report.html"

test: tools  ## the tests
	$(BIN)/python -m pytest -m 'not slow and not gpu' --numprocesses 2

test-slow: tools  ## proofs that take minutes
	$(BIN)/python -m pytest -m slow

check: lint types test  ## what a change has to pass

lint: tools
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: tools
	$(BIN)/mypy

fmt: tools  ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(VENV)/.docs: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	@touch $@

.PHONY: docs
docs: $(VENV)/.docs  ## the documentation site, in build/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

bench: install  ## does it learn? (about 15 minutes)
	$(BIN)/python -m benchmarks.learn_ocr

clean:  ## remove the environment and the demo's run
	rm -rf $(VENV) runs/demo
