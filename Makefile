# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
LOWEST := $(VENV)-lowest

.PHONY: demo test backend candidates fuzz tiers stress layouts convolutions versions lowest lint types imports clean
demo: $(VENV)/.installed
	$(BIN)/sparse-rt demo

test: $(VENV)/.installed
	$(BIN)/python -m pytest

# ONNX's own test suite through our session, against stock onnxruntime: as it is, and with constant weights that are 2:4.
backend: $(VENV)/.installed
	$(BIN)/python -m tests.backend.suite

# Every candidate of tuning made the winner, for all graphs, forms and sources: an hour or more. `make test` takes a few.
candidates: $(VENV)/.installed
	SPARSE_RT_ALL_CANDIDATES=1 $(BIN)/python -m pytest -q tests/tuning/test_forced_tuning.py

# Random models, in every way that they can run, against stock onnxruntime; FUZZ="--seconds 60 --first 0".
FUZZ ?= --seconds 600
fuzz: $(VENV)/.installed
	$(BIN)/python -m tests.fuzz $(FUZZ)

# Every tier of kernels on this one machine; see tests/kernels/tier_lanes.py.
tiers: $(VENV)/.installed
	$(BIN)/python tests/kernels/tier_lanes.py

# Generated networks in every layout against their own steps and onnxruntime; more of them: SEEDS="0 100000".
SEEDS ?= 10000 14000
layouts: $(VENV)/.installed
	$(BIN)/python -m tests.models.test_image_networks $(SEEDS)

# Every attribute of convolutions over 1 to 9 pixels, and random ones of two axes, against onnxruntime.
LAYERS ?= 5000
convolutions: $(VENV)/.installed
	$(BIN)/python -m tests.plan.steps.test_convolution $(LAYERS)

# Compressed models in older versions of onnxruntime, from Python and from C; see tests/versions/lane.py and c_lane.py.
versions: $(VENV)/.installed
	$(BIN)/python tests/versions/lane.py
	$(BIN)/python tests/versions/c_lane.py

# All tests beside the oldest version of every dependency that pyproject.toml allows.
lowest: $(LOWEST)/.installed
	$(LOWEST)/bin/python -m pytest -q

# Threads, signals, forks, and processes killed while they compile; about ten minutes.
stress: $(VENV)/.installed
	SPARSE_RT_STRESS=10 $(BIN)/python -m pytest tests/stress tests/test_forks.py

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

$(LOWEST)/.installed: pyproject.toml
	$(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check uv
	$(LOWEST)/bin/uv pip install --quiet --python $(LOWEST)/bin/python --resolution lowest-direct -e '.[test]'
	touch $@

clean:
	rm -rf $(VENV) $(LOWEST) .versions .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
