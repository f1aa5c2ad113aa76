# Verbs: demo, test, lint, bench, clean. Each installs what it needs into .venv.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test lint bench clean
.DEFAULT_GOAL := demo

# The wheel with its optional parts, built from this checkout whenever a source changed.
SOURCES := $(shell find src python lithowatt.data -type f -not -name '*.pyc' 2>/dev/null) Cargo.toml Cargo.lock pyproject.toml
$(VENV)/installed: $(SOURCES)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --upgrade pip
	$(BIN)/pip install --quiet --disable-pip-version-check --force-reinstall --no-deps .
	$(BIN)/pip install --quiet --disable-pip-version-check '.[test,dev]'
	touch $@

demo: $(VENV)/installed
	$(BIN)/python examples/monte_carlo_pi.py

test: $(VENV)/installed
	cargo test --quiet
	$(BIN)/python -m pytest --quiet --doctest-modules --pyargs lithowatt
	$(BIN)/python -m pytest

lint: $(VENV)/installed
	cargo fmt --check
	cargo clippy --all-targets --features python -- -D warnings
	cargo fmt --check --manifest-path tests/rig/Cargo.toml
	cargo clippy --all-targets --manifest-path tests/rig/Cargo.toml -- -D warnings
	$(BIN)/ruff check .
	$(BIN)/mypy python/lithowatt tests/rig/rig.py

bench: $(VENV)/installed
	cargo bench
	$(BIN)/python benches/python/compare.py

clean:
	rm -rf $(VENV) target tests/rig/target
