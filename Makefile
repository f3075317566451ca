# Everything a fresh machine needs is one of these targets; each sets up what it uses, once.
#
#   make run     one nightly run on real MovieLens, ending in a summary
#   make test    the test suite
#   make check   ruff, formatter, mypy strict
#   make serve   Prefect server, work pool, worker and deployments on loopback
#   make bench   the figures in docs/benchmarks.md, measured anew
#   make bench-lists ARGS="quality"   how good lists are, one question at a time: tests/bench_lists.py names them
#   make lock    resolve requirements.lock again from pyproject.toml
#   make clean   remove what was built; fetched archives and published tables stay

PYTHON ?= python3
TORCH  ?= torch==2.13.0
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

# Nothing phones home.
export DO_NOT_TRACK := 1
export PREFECT_SERVER_ANALYTICS_ENABLED := false

.PHONY: run test check serve bench bench-lists lock clean

run: $(READY)
	@$(BIN)/recsys nightly $(ARGS)

test: $(READY)
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder $(ARGS)

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

serve: $(READY)
	@$(BIN)/python -m deployments.serve $(ARGS)

bench: $(READY)
	$(BIN)/python -m tests.bench $(ARGS)

bench-lists: $(READY)
	$(BIN)/python -m tests.bench_lists $(ARGS)

# Torch comes first and by its exact version: pip then takes the CPU build where the machine offers one, and
# the CUDA build elsewhere. Everything else comes from the lock, by hash.
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; ok = (3, 11) <= v < (3, 13); \
	  ok or sys.exit("recsys runs on Python 3.11 and 3.12; $(PYTHON) is %d.%d. Next: make PYTHON=python3.11 $(MAKECMDGOALS)" % v)'
	@echo "setting up $(VENV) (once, about a minute)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check "$(TORCH)"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

# Universal: one lock for every platform and both Python versions. Needs uv, which is not part of the lock.
lock:
	uv pip compile --universal --generate-hashes --no-header --no-emit-package torch \
	  --python-version 3.11 --extra dev --upgrade pyproject.toml --output-file requirements.lock

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
