# The commands of the book. `make` lists them.
# PYTHON= names the interpreter that builds .venv; once there is one, it stays until its requirements change.

PYTHON ?= $(shell test -x .venv/bin/python && echo .venv/bin/python || echo python3)
BIN := .venv/bin
CHAPTER :=
ARGS :=
STRICT :=
BENCHMARKS := $(wildcard benchmarks/*.py)

.DEFAULT_GOAL := help
.PHONY: help book test lab work execute experiments bench check lint lock clean install install-dev

help:  ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

book: install  ## render the book to _build/html (STRICT=1: anew, and a warning is an error)
	@$(if $(STRICT),rm -rf _build)
	@$(BIN)/jupyter-book build book --quiet --path-output . --config _config.yml \
	  --toc "$(CURDIR)/_toc.yml" $(if $(STRICT),-W --keep-going) $(ARGS)

test: install  ## run the tests and every notebook, comparing all outputs (CHAPTER=foundations/backward: one chapter)
	@$(BIN)/python tools/verify.py $(CHAPTER) $(ARGS)

lab: install  ## open the book in JupyterLab
	@$(BIN)/python -m jupyterlab --ServerApp.root_dir="$(CURDIR)" --ServerApp.preferred_dir="$(CURDIR)/book" \
	  --LabApp.news_url=None --LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate $(ARGS)

work: install  ## copy the exercises to work/, never over what you have written there
	@$(BIN)/python tools/exercises.py work

execute: install  ## run notebooks in place and store their outputs (CHAPTER=...: one)
	@$(BIN)/python tools/execute.py $(CHAPTER)

experiments: install  ## run the long experiments; an interrupted one resumes (ARGS="--only NAME", ARGS=--list)
	@$(BIN)/python tools/experiments.py $(ARGS)

bench: install  ## run the benchmarks
	@$(if $(BENCHMARKS),,echo "There is no benchmark: they live in benchmarks/.")
	@for file in $(BENCHMARKS); do echo "== $$file"; $(BIN)/python $$file $(ARGS) || exit 1; done

check: install-dev  ## check the links of the rendered book, and every page in a headless browser
	@$(BIN)/python tools/check_links.py
	@$(BIN)/python tools/check_browser.py $(ARGS)

lint: install-dev  ## check the style of code and notebooks
	@$(BIN)/python -m ruff check .

lock: install-dev  ## resolve requirements.lock anew for Python 3.11 to 3.13
	@$(BIN)/python -m uv pip compile --quiet --universal --python-version 3.11 --no-annotate --no-header \
	  requirements.txt requirements-dev.txt --output-file requirements.lock $(ARGS)

clean:  ## remove what was built; .venv and work/ stay
	@rm -rf _build .pytest_cache .ruff_cache .hypothesis
	@find book src tests tools benchmarks \( -name __pycache__ -o -name .ipynb_checkpoints \) -prune -exec rm -rf {} +

install:  # what a reader needs: returns at once when nothing has changed
	@command -v "$(PYTHON)" >/dev/null || { echo "install: there is no $(PYTHON) here; install Python 3.11, 3.12 or 3.13, or name one with PYTHON=" >&2; exit 1; }
	@"$(PYTHON)" tools/install.py

install-dev: install  # and what a maintainer needs
	@"$(PYTHON)" tools/install.py --dev
