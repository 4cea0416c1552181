# Two commands on a fresh machine: `make demo` and `make test`. Both begin with `make setup`, which
# does nothing once it is done.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: setup demo test lint types unit test-slow test-gpu bench bench-gpu clean

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt system-packages.sh
	./system-packages.sh
	$(PYTHON) -c 'import sys; sys.exit("pointcmt needs Python 3.11 or newer: make PYTHON=python3.11 ...") if sys.version_info < (3, 11) else None'
	test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	$(PIP) install --constraint constraints.txt 'pip>=25.1'
	$(PIP) install --constraint constraints.txt --editable '.[all]' --group dev
	touch $@

demo: setup
	$(BIN)/pointcmt demo --out demo

test: setup lint types unit

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

unit: setup
	$(BIN)/python -m pytest

test-slow: setup
	$(BIN)/python -m pytest -m slow

test-gpu: setup
	$(BIN)/python -m pytest -m "gpu or not slow" tests/render/test_egl.py tests/render/test_rasterizer.py
	$(BIN)/python -m pytest -m gpu tests/training

bench-gpu: setup
	$(BIN)/python benchmarks/gpu_render.py
	$(BIN)/python benchmarks/gpu_training.py
	$(BIN)/python benchmarks/pretraining.py --device cuda

bench: setup
	$(BIN)/python benchmarks/render.py
	$(BIN)/python benchmarks/stream.py

clean:
	rm -rf $(VENV) build dist demo .mypy_cache .pytest_cache .ruff_cache
