# `make help` lists the verbs. Each installs what it needs into .venv.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: help demo examples test test-fast check lint docs probes wheel wheel-arm64 bench clean
.DEFAULT_GOAL := demo

# A PYTHON that was asked for is the one that VENV is of, also where VENV is there already.
ifneq ($(origin PYTHON),file)
export PYTHON_ASKED := yes
endif
VENV_CHECKED := $(shell tools/venv.sh check $(PYTHON) $(VENV))

# The wheel with its optional parts, built from this checkout whenever a source changed.
SOURCES := $(shell find src ebpf-probes python lithops_patch lithowatt.data -type f -not -name '*.pyc' 2>/dev/null) Cargo.toml Cargo.lock pyproject.toml
$(VENV)/installed: $(SOURCES)
	@tools/venv.sh make $(PYTHON) $(VENV)
	@echo "building lithowatt: 2 to 4 minutes the first time"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --force-reinstall --no-deps .
	$(BIN)/python -m pip install --quiet --disable-pip-version-check '.[test,dev]'
	touch $@

help:  ## this list
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

demo: $(VENV)/installed  ## Monte Carlo pi on real Lithops: joules per call
	$(BIN)/python -m examples.monte_carlo_pi

# All five workloads in a quick form; docs/explanation/workloads.md has the real sizes.
$(VENV)/examples: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check '.[examples]'
	touch $@

EXAMPLE := $(BIN)/python -m examples
QUICK := --workers 1,2 --reps 1
examples: $(VENV)/examples  ## five workloads in a quick form
	$(EXAMPLE).monte_carlo_pi $(QUICK) --points 4000000
	$(EXAMPLE).ml_pipeline $(QUICK) --rows 2000 --models 4 --trees 10
	$(EXAMPLE).titanic $(QUICK) --trees 40
	$(EXAMPLE).video $(QUICK) --every 12
	$(EXAMPLE).data_analytics $(QUICK) --megabytes 20

# Every suite, whatever another one came to. ARGS: `ARGS="-- -k ring"` hands the rest to pytest.
test: $(VENV)/installed  ## every test, 10 to 40 minutes
	$(BIN)/python tests/run_suites.py $(ARGS)

# What needs neither root nor patience: about a minute once the wheel is installed.
test-fast: $(VENV)/installed  ## what needs neither root nor patience, a minute
	$(BIN)/python tests/run_suites.py --fast $(ARGS)

check: lint test-fast  ## lint and test-fast: before a commit

lint: $(VENV)/installed  ## formatting, lints, types
	cargo fmt --check
	cargo clippy --all-targets --features python -- -D warnings
	cargo fmt --check --manifest-path tests/rig/Cargo.toml
	cargo clippy --all-targets --manifest-path tests/rig/Cargo.toml -- -D warnings
	$(BIN)/ruff check .
	$(BIN)/mypy python/lithowatt lithops_patch examples tests/rig/rig.py

$(VENV)/docs: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check '.[docs]'
	touch $@

docs: $(VENV)/docs  ## the documents as a site, in site/index.html
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# Builds the kernel probes anew (clang-14, llvm-14) and compares with what is committed.
probes:  ## builds the kernel probes anew and compares them with what is committed
	dir=$$(mktemp -d) && ebpf-probes/build.sh "$$dir/lithowatt.bpf.o" \
	    && cmp "$$dir/lithowatt.bpf.o" ebpf-probes/lithowatt.bpf.o \
	    && cmp "$$dir/lithowatt.bpf.o.sha256" ebpf-probes/lithowatt.bpf.o.sha256 \
	    && rm -r "$$dir" && echo "ebpf-probes: the committed object is what its source gives"

# For glibc 2.17 and later (manylinux2014), whatever this machine has: zig brings the old symbols.
WHEELS ?= dist
wheel: $(VENV)/installed  ## a wheel for glibc 2.17 and later, in dist/
	$(BIN)/python -m pip install --quiet --disable-pip-version-check ziglang
	PATH="$(abspath $(BIN)):$$PATH" maturin build --release --quiet --zig --compatibility manylinux2014 --out $(WHEELS)

# The same for arm64, on any machine: abi3 needs no Python of the target. The compiler is the one at hand
# if it has the target (`rustup target add aarch64-unknown-linux-gnu`), else Debian's (root, apt).
wheel-arm64: $(VENV)/installed  ## the same for arm64
	$(BIN)/python -m pip install --quiet --disable-pip-version-check ziglang
	RUSTC="$$(tests/arm64/toolchain.sh)" && export RUSTC && PATH="$(abspath $(BIN)):$$PATH" \
	    CARGO_TARGET_DIR="$(abspath $(or $(ARM64_CACHE),target/arm64))/target" \
	    maturin build --release --quiet --zig --target aarch64-unknown-linux-gnu --compatibility manylinux2014 --out $(WHEELS)

bench: $(VENV)/installed  ## what metering costs
	cargo bench
	$(BIN)/python benches/python/compare.py

clean:  ## removes all that was built
	rm -rf $(VENV) target tests/rig/target lithowatt-results site
