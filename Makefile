# The kit's commands. Each does all its own set-up: a virtual environment in .venv, filled once, again only when
# pyproject.toml or constraints.txt change. `make help` lists them.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# Notebooks must run in this environment, whatever kernels the user has installed elsewhere.
export JUPYTER_PREFER_ENV_PATH := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help setup demo lab doctor lint test test-all test-oldest test-newest prose notebooks book exercises colab bench reproduce clean
.DEFAULT_GOAL := help

help:  ## list the commands
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 13

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo "The kit needs Python 3.11 or later as $(PYTHON). Install one, or: make $(MAKECMDGOALS) PYTHON=/path/to/python3.12"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
		{ rm -rf $(VENV); echo "Python cannot make a virtual environment. On Debian or Ubuntu: apt-get install python3-venv"; exit 1; }
	@echo "Installing the kit into $(VENV): about 5 GB with torch, a few minutes, once."
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[notebooks,export,exercises,test]'
	@$(BIN)/python -m ipykernel install --sys-prefix --name rdlib --display-name 'Reverse distillation kit' >/dev/null
	@touch $@

setup: $(READY)  ## install everything into .venv

# By environment, unexpanded: a path may hold spaces, quotes, $ and #. What make exports of itself would be expanded.
unexport DATA
demo: export RDLIB_DEMO_FOLDER := $(value DATA)
demo: $(READY)  ## train, test and look: build/quickstart.html (DATA=folder for your own images)
	@$(BIN)/python notebooks/demo.py

lab: $(READY)  ## open the notebooks in JupyterLab (ARGS=... for its own options)
	@$(BIN)/jupyter lab --notebook-dir=. notebooks/00_quickstart.ipynb $(ARGS)

doctor: $(READY)  ## what this machine has, and what to do about what is missing
	@$(BIN)/python -m rdlib doctor

lint: $(READY)  ## the code without running it: style (ruff), types (mypy), layers (import-linter)
	@$(BIN)/ruff check --quiet --output-format concise
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/lint-imports --no-logo

test: lint  ## what has to pass after every change, notebooks included
	@$(BIN)/python -m pytest

test-all: lint  ## everything that has to pass: the slow tests too
	@$(BIN)/python -m pytest -m 'not network'

# One test is left out: it is about the table that the last line writes.
test-oldest: RESOLUTION := lowest-direct
test-oldest:  ## the unit tests with the oldest versions that pyproject.toml admits, in .venv-oldest
test-newest: RESOLUTION := highest
test-newest:  ## the unit tests with the newest versions, whatever constraints.txt says, in .venv-newest
test-oldest test-newest: ENV = $(@:test-%=.venv-%)
test-oldest test-newest:
	@$(PYTHON) -m venv $(ENV)
	@$(ENV)/bin/python -m pip install --quiet uv
	@echo "Installing the $(@:test-%=%) versions into $(ENV): about 6 GB, a few minutes."
	@$(ENV)/bin/uv pip install --quiet --python $(ENV)/bin/python --upgrade --resolution $(RESOLUTION) \
		--only-binary :all: --no-binary rdlib --editable '.[notebooks,export,exercises,test]'
	@$(ENV)/bin/python -m ipykernel install --sys-prefix --name rdlib --display-name 'Reverse distillation kit' >/dev/null
	@$(ENV)/bin/python -m pytest tests --deselect tests/test_project.py::test_every_bound_was_run
	@$(ENV)/bin/python tests/versions.py $(@:test-%=%)

prose: $(READY)  ## the text: numbers, glossary, length, words to avoid; apart from make test
	@$(BIN)/python -m pytest tests/prose/check_*.py

notebooks: $(READY)  ## run every notebook and store its outputs
	@$(BIN)/python tests/store_notebooks.py notebooks/*.ipynb

book: $(READY)  ## the notebooks as pages to read without a kernel: build/book/index.html
	@$(BIN)/python notebooks/book.py

exercises: $(READY)  ## what students get, and what the teacher grades with: build/exercises (ARGS="--variant 7")
	@$(BIN)/python notebooks/exercises/make.py $(ARGS)

colab: $(READY)  ## the kit as one file to upload to Google Colab: build/colab.zip
	@$(BIN)/python notebooks/colab.py

bench: $(READY)  ## speed against the official recipe, side by side in one run; of the explorers; of drawing
	@$(BIN)/python tests/benchmarks/speed.py
	@$(BIN)/python tests/benchmarks/widgets.py
	@$(BIN)/python tests/benchmarks/rendering.py

reproduce: $(READY)  ## a table of the paper (TABLE=ocbe ARGS="--on mvtec --jobs 2"); without TABLE, what there is
	@$(BIN)/python -m rdlib reproduce $(TABLE) $(ARGS)

clean:  ## remove what the commands made, except the environments
	rm -rf build dist *.egg-info
