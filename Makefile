# make book   set up the environment, run every notebook, build the book, print the address to open
# make test   set up the environment, run every check
# make help   all targets
# Python 3.11, 3.12 or 3.13; name one with PYTHON=python3.12 make book

SHELL := /bin/sh
PYTHON ?=
BIN := .venv/bin
ENVIRONMENT := sh book/_tools/environment.sh

# One thread for BLAS and Numba: the models are small, sums keep their order on every machine,
# and in a container the libraries would start one thread for each core of the host.
export OMP_NUM_THREADS ?= 1
export OPENBLAS_NUM_THREADS ?= 1
export MKL_NUM_THREADS ?= 1
export NUMBA_NUM_THREADS ?= 1
# A helper that changed in another file does not make Numba forget the machine code of its callers:
# one cache for each state of the kernels.
KERNELS := $(shell cat quantlab/kernels/*.py quantlab/kernels/*/*.py | cksum | cut -d ' ' -f 1)
export NUMBA_CACHE_DIR ?= $(CURDIR)/_build/numba/$(KERNELS)
export PYTHONHASHSEED ?= 0

# Pages and tests ask no market: they use the simulator, or the replay that QUANTLAB_BYBIT_URL names.
OFFLINE := $(if $(QUANTLAB_BYBIT_URL),,1)

NOTEBOOKS := $(wildcard chapters/*.ipynb book/*.ipynb)
TESTED := README.md quantlab tests chapters/exercises $(NOTEBOOKS)

.PHONY: book test lab bench claims silicon serve lint lock screenshot clean help
.DEFAULT_GOAL := help

book: ## build the book and print the address to open
	@$(ENVIRONMENT) requirements.lock $(PYTHON)
	@$(if $(OFFLINE),QUANTLAB_OFFLINE=1) $(BIN)/python book/_tools/build.py

test: ## run every check, fastest first; the end says what was skipped and why
	@$(ENVIRONMENT) requirements-test.lock $(PYTHON)
	@$(if $(OFFLINE),QUANTLAB_OFFLINE=1) $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -q $(PYTEST_ARGS) $(TESTED)

lab: ## open the notebooks in JupyterLab
	@$(ENVIRONMENT) requirements.lock $(PYTHON)
	@$(BIN)/jupyter lab --ServerApp.root_dir="$(CURDIR)" book/index.ipynb

bench: ## time the kernels beside NumPy, onnxruntime and, if installed, torch; writes benchmarks/latest.md
	@$(ENVIRONMENT) requirements-test.lock $(PYTHON)
	@$(BIN)/python benchmarks/run.py

claims: ## run the chapters that measure claims, alone; writes book/claims.json
	@$(ENVIRONMENT) requirements.lock $(PYTHON)
	@$(if $(OFFLINE),QUANTLAB_OFFLINE=1) $(BIN)/python book/_tools/claims.py

silicon: ## place on a chip the circuits whose stored results are stale; writes benchmarks/silicon.json
	@$(ENVIRONMENT) requirements-test.lock $(PYTHON)
	@$(BIN)/python benchmarks/silicon.py

serve: book ## serve the built pages on this machine
	@$(BIN)/python -m http.server --bind 127.0.0.1 --directory _build/html 8000

lint: ## style checks, on files only
	@$(ENVIRONMENT) requirements-test.lock $(PYTHON)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/biome lint --error-on-warnings .
	@$(BIN)/nbstripout --verify $(NOTEBOOKS)
	@$(BIN)/python -m pytest -q tests/test_repository.py

lock: ## write both lock files anew from pyproject.toml (needs uv)
	uv pip compile --universal --fork-strategy fewest --python-version 3.11 --no-header --no-emit-index-url \
	  --no-annotate --extra book pyproject.toml -o requirements.lock
	uv pip compile --universal --fork-strategy fewest --python-version 3.11 --no-header --no-emit-index-url \
	  --no-annotate --extra book --extra test --constraint requirements.lock pyproject.toml -o requirements-test.lock
	cp requirements.lock .binder/requirements.txt

screenshot: book ## draw the picture of the README from the built landing page
	@$(ENVIRONMENT) requirements-test.lock $(PYTHON)
	@$(BIN)/python book/_tools/screenshot.py

clean: ## remove the built pages and caches; keep the environment
	rm -rf _build .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path "./.venv/*" -prune -exec rm -rf {} +

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1\t\2/p' Makefile | expand -t 18
