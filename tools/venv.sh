#!/bin/sh
# Makes the virtual environment VENV with PYTHON, once it is sure that the wheel can be built.
#
#   tools/venv.sh check PYTHON VENV   what is needed; a VENV that does not fit is marked as not built
#   tools/venv.sh make PYTHON VENV    the same, then the virtual environment
#
# pip answers a missing compiler or a Python that is too old late and with many lines. This script
# says it first, in one line, and leaves nothing behind.
set -eu
what=$1 python=$2 venv=$3
top=$(cd "$(dirname "$0")/.." && pwd)

fail() {
    echo "lithowatt: $1" >&2
    exit 1
}

# Exits 0 where that interpreter runs and is new enough; prints its version in any case.
python_fits() {
    "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2]); sys.exit(sys.version_info < (3, 10))' 2>/dev/null
}

need_python() {
    command -v "$python" >/dev/null 2>&1 ||
        fail "there is no $python here; lithowatt needs Python 3.10 or later: make PYTHON=/path/to/python3"
    version=$(python_fits "$python") || fail "lithowatt needs Python 3.10 or later, and $python is ${version:-one that does not start}: make PYTHON=/path/to/python3"
    "$python" -c 'import venv, ensurepip' 2>/dev/null ||
        fail "$python has no venv module (Debian, Ubuntu: sudo apt-get install python$version-venv)"
}

need_rust() {
    wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$top/Cargo.toml")
    found=$(rustc --version 2>/dev/null | cut -d' ' -f2)
    if [ -z "$found" ] || ! cargo --version >/dev/null 2>&1; then
        fail "there is no Rust here (cargo, rustc); lithowatt needs $wanted or later: https://rustup.rs"
    fi
    oldest=$(printf '%s\n%s\n' "$wanted" "${found%%-*}" | sort -V | head -n 1)
    [ "$oldest" = "$wanted" ] ||
        fail "lithowatt needs Rust $wanted or later, and rustc is $found: rustup update, or https://rustup.rs"
    # Rust calls it to link.
    command -v cc >/dev/null 2>&1 || command -v gcc >/dev/null 2>&1 || command -v clang >/dev/null 2>&1 ||
        fail "there is no C compiler here (Debian, Ubuntu: sudo apt-get install gcc libc6-dev)"
}

# Whether the environment that is there can be used. PYTHON_ASKED is set where the caller named one.
venv_fits() {
    has=$(python_fits "$venv/bin/python") || return 1
    "$venv/bin/python" -m pip --version >/dev/null 2>&1 || return 1
    [ -z "${PYTHON_ASKED:-}" ] || [ "$has" = "$(python_fits "$python")" ]
}

if [ "$what" = check ]; then
    if [ -e "$venv/installed" ] && ! venv_fits; then
        rm -f "$venv/installed"
    fi
    exit 0
fi

need_rust
if [ -e "$venv/bin/python" ] || [ -L "$venv/bin/python" ]; then
    venv_fits && exit 0
    # An environment that make did not make may hold what somebody needs.
    [ "$venv" = .venv ] || fail "$venv cannot be used (it needs pip and Python 3.10 or later): remove it, or name another with VENV="
    need_python
    echo "lithowatt: $venv does not fit (${has:-no Python that starts}): it is made anew with $python" >&2
    exec "$python" -m venv --clear "$venv"
fi
need_python
exec "$python" -m venv "$venv"
