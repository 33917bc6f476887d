# Every verb sets up what it needs; nothing else by hand.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: help install demo test test-slow check lint types fmt bench clean

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: $(INSTALLED)  ## make the virtual environment in .venv

$(INSTALLED): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

export PDFS
demo: install  ## documents in, trained Vary-toy out, report at the end; PDFS=folder for your own
	$(BIN)/python -m pipelines.run recipes/demo.yaml $(if $(PDFS),"pdfs=\"$$PDFS\"")
	@echo "open runs/demo/report.html"

test: install  ## the tests
	$(BIN)/python -m pytest -m 'not slow and not gpu' --numprocesses 2

test-slow: install  ## proofs that take minutes
	$(BIN)/python -m pytest -m slow

check: lint types test  ## what a change has to pass

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/mypy

fmt: install  ## format the code
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
	$(BIN)/python benchmarks/learn_ocr.py

clean:  ## remove the environment and the demo's run
	rm -rf $(VENV) runs/demo
