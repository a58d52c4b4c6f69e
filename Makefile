# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test candidates tiers layouts lint types imports clean
demo: $(VENV)/.installed
	$(BIN)/sparse-rt demo

test: $(VENV)/.installed
	$(BIN)/python -m pytest

# Every candidate of tuning made the winner, for all graphs, forms and sources; `make test` takes a few of them.
candidates: $(VENV)/.installed
	SPARSE_RT_ALL_CANDIDATES=1 $(BIN)/python -m pytest -q tests/models/test_forced_tuning.py

# Every tier of kernels on this one machine; see tests/kernels/tier_lanes.py.
tiers: $(VENV)/.installed
	$(BIN)/python tests/kernels/tier_lanes.py

# Generated networks in every layout against their own steps and onnxruntime, far more of them than the tests; hours of them: SEEDS="0 100000".
SEEDS ?= 10000 14000
layouts: $(VENV)/.installed
	$(BIN)/python -m tests.models.test_image_networks $(SEEDS)

lint: $(VENV)/.installed-lint
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(VENV)/.installed-lint
	$(BIN)/mypy

imports: $(VENV)/.installed-lint
	$(BIN)/lint-imports

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test]'
	touch $@

$(VENV)/.installed-lint: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test,lint]'
	touch $@

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
