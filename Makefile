# Targets set up their environment when they first need it. `make` lists the targets.

PYTHON  ?= python3
TORCH   ?= torch==2.13.0
VENV    ?= .venv
WORKERS ?= 3
BIN     := $(VENV)/bin
READY   := $(VENV)/.ready
PIP     := $(BIN)/python -m pip install -qq --disable-pip-version-check
PYTEST  := $(BIN)/python -m pytest -n $(WORKERS) --dist loadscope --no-loadscope-reorder

# Processes of one environment share their compiled modules; otherwise each one compiles them again.
unexport PYTHONDONTWRITEBYTECODE

# No telemetry.
export DO_NOT_TRACK := 1
export PREFECT_SERVER_ANALYTICS_ENABLED := false

.DEFAULT_GOAL := help
.PHONY: help run serve wheel test test-fast coverage smoke check lint format hooks refresh-docs docs bench bench-lists lock audit clean

help:  ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' Makefile
	@echo '  Options of a command go into ARGS, as in: make run ARGS="--source ml-1m"'

run: $(READY)  ## run one night on MovieLens 100K
	@$(BIN)/recsys nightly $(ARGS)

serve: $(READY)  ## run Prefect with all deployments on loopback
	@$(BIN)/recsys serve $(ARGS)

wheel: $(READY)  ## build the package for pip, pipx and uvx into dist/
	@$(BIN)/python -m hatchling build --target wheel

test: $(READY)  ## run all tests
	$(PYTEST) $(ARGS)

test-fast: $(READY)  ## run the tests of the inner loop: no servers, no whole nights
	$(PYTEST) --fast $(ARGS)

# Coverage is a separate target that CI does not run, because tracing every line makes the suite slower.
coverage: $(READY)  ## run all tests with coverage of branches and child processes; fail below the floor
	rm -rf build/coverage
	mkdir -p build/coverage
	$(BIN)/coverage run -m pytest -n $(WORKERS) --dist loadscope --no-loadscope-reorder $(ARGS)
	$(BIN)/coverage combine -q
	$(BIN)/coverage report

# For the second Python version, in its own environment: make smoke PYTHON=python3.12 VENV=.venv-3.12
smoke: $(READY)  ## import every module and publish a small night
	$(BIN)/python -m tests.smoke

check: $(READY)  ## run ruff, its formatter, codespell and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	$(BIN)/mypy

lint: check  ## the same as check

format: $(READY)  ## format the code and apply the safe fixes of ruff
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

hooks: $(READY)  ## run the checks before each commit
	$(BIN)/pre-commit install

refresh-docs: $(READY)  ## write the outputs and pages that the documentation generates
	$(BIN)/python -m tests.refresh_docs

docs: $(READY)  ## build the documentation site into build/site
	$(BIN)/python -m zensical build --strict --clean

bench: $(READY)  ## measure the figures in docs/benchmarks.md
	$(BIN)/python -m tests.bench $(ARGS)

bench-lists: $(READY)  ## measure the quality of lists: ARGS="quality", …
	$(BIN)/python -m tests.bench_lists $(ARGS)

# Torch is installed first, by its exact version. Pip takes the CPU build if the index offers one, else the CUDA build.
# All other packages are installed from the lock, with hashes.
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; ok = (3, 11) <= v < (3, 13); \
	  ok or sys.exit("recsys runs on Python 3.11 and 3.12; $(PYTHON) is %d.%d. Next: make PYTHON=python3.11 $(MAKECMDGOALS)" % v)'
	@echo "setting up $(VENV) (once, one to four minutes): torch"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) "$(TORCH)"
	@echo "setting up $(VENV): the packages of requirements.lock"
	@$(PIP) --no-deps --require-hashes -r requirements.lock
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

# One lock for every platform and both Python versions. It does not contain uv: see "Raising dependencies" in
# CONTRIBUTING.md.
lock:  ## resolve requirements.lock again from pyproject.toml (needs uv)
	uv pip compile --config-file .ci/uv.toml --universal --generate-hashes --no-header --no-emit-package torch \
	  --python-version 3.11 --extra dev --upgrade pyproject.toml --output-file requirements.lock

# Needs a package registry that publishes advisories. With --strict, a package that cannot be looked up is a failure.
audit:  ## look up known vulnerabilities of the locked packages
	test -x .venv-audit/bin/pip-audit || ($(PYTHON) -m venv .venv-audit && .venv-audit/bin/python -m pip install -qq pip-audit)
	.venv-audit/bin/pip-audit --strict --disable-pip --require-hashes --requirement requirements.lock

clean:  ## remove environments, caches and build outputs; keep downloads and published tables
	rm -rf $(VENV) .venv-3.12 .venv-audit .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
