# Two commands on a fresh machine: `make demo` and `make test`. Both begin with `make setup`, which
# does nothing once it is done.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# The index to take torch from, such as PyTorch's own of builds for CPUs; empty = pip's.
TORCH_INDEX ?=
# What test-oldest and test-newest run: paths and options of pytest.
TESTS ?= tests
# A file's tests stay together, for they share what was rendered or trained for them. Three at once
# on two cores, since they often wait: for other processes, time limits and disks.
PARALLEL ?= --numprocesses 3 --dist loadfile

.PHONY: setup demo test lint types unit test-slow test-gpu test-oldest test-newest test-wheel \
	configs notebooks docs oldest bench bench-gpu clean

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt system-packages.sh
	./system-packages.sh
	$(PYTHON) -c 'import sys; sys.exit("pointcmt needs Python 3.11 or newer: make PYTHON=python3.11 ...") if sys.version_info < (3, 11) else None'
	test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	$(PIP) install --constraint constraints.txt 'pip>=25.1'
	$(if $(TORCH_INDEX),$(PIP) install --constraint constraints.txt --index-url $(TORCH_INDEX) torch)
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
	./system-packages.sh tests
	$(BIN)/python -m pytest $(PARALLEL)

test-slow: setup
	$(BIN)/python -m pytest -m slow

# The oldest versions that pyproject.toml allows, on Python 3.11. They do not know today's versions
# of what they themselves depend on and warn of it; so warnings are not errors here.
test-oldest: .venv-oldest/.ready
	.venv-oldest/bin/python -m pytest -W default $(PARALLEL) $(TESTS)

.venv-oldest/.ready: pyproject.toml constraints-oldest.txt system-packages.sh
	$(PYTHON) -c 'import sys; sys.exit("constraints-oldest.txt is for Python 3.11: make test-oldest PYTHON=python3.11") if sys.version_info[:2] != (3, 11) else None'
	$(MAKE) other-venv OTHER=.venv-oldest OPTIONS='--constraint constraints-oldest.txt'
	touch $@

# The newest versions that there are today.
test-newest:
	$(MAKE) other-venv OTHER=.venv-newest OPTIONS='--upgrade --upgrade-strategy eager'
	.venv-newest/bin/python -m pytest $(PARALLEL) $(TESTS)

.PHONY: other-venv
other-venv:
	./system-packages.sh
	test -x $(OTHER)/bin/pip || $(PYTHON) -m venv $(OTHER)
	$(OTHER)/bin/python -m pip --quiet install --upgrade 'pip>=25.1'
	$(if $(TORCH_INDEX),$(OTHER)/bin/python -m pip --quiet install $(OPTIONS) --index-url $(TORCH_INDEX) torch)
	$(OTHER)/bin/python -m pip --quiet install $(OPTIONS) --editable '.[all]' --group dev

# Renews constraints-oldest.txt; needs uv.
oldest:
	packaging/oldest.sh

# The wheel alone in an environment of its own, and whether the tests of the sdist are found;
# SDIST_TESTS=tests runs them (paths and options of pytest), DIST=dist keeps the two files there.
SDIST_TESTS ?=
DIST ?=
test-wheel: setup
	DIST=$(DIST) packaging/check.sh $(BIN)/python $(SDIST_TESTS)

# The documentation as a site, in build/docs; a warning is an error.
docs: setup
	$(PIP) install --constraint constraints.txt --group docs
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet -c docs/site docs build/docs
	@echo "see build/docs/index.html"

# Executes the tutorials again, some minutes; NOTEBOOKS=docs/tutorials/quickstart.ipynb only one.
NOTEBOOKS ?= $(wildcard docs/tutorials/*.ipynb)
notebooks: setup
	$(PIP) install --constraint constraints.txt nbclient ipykernel
	$(BIN)/python packaging/notebook.py $(NOTEBOOKS)

# Renews the packaged configurations that are the defaults of a recipe.
configs: setup
	for recipe in teacher cmpg student pointcmt mvnet crosspoint finetune partseg semseg detect; do \
		$(BIN)/pointcmt train $$recipe --print-config > pointcmt/configs/$$recipe.yaml || exit 1; \
	done

test-gpu: setup
	$(BIN)/python -m pytest -m "gpu or not slow" tests/render/draw/test_egl.py tests/render/draw/test_rasterizer.py
	$(BIN)/python -m pytest -m gpu tests/training

bench-gpu: setup
	$(BIN)/python benchmarks/gpu_render.py
	$(BIN)/python benchmarks/gpu_training.py
	$(BIN)/python benchmarks/pretraining.py --device cuda

bench: setup
	$(BIN)/python benchmarks/render.py
	$(BIN)/python benchmarks/stream.py

clean:
	rm -rf $(VENV) .venv-oldest .venv-newest build dist demo .mypy_cache .pytest_cache .ruff_cache
