#!/usr/bin/env bash
# Runs the tests in Python in surroundings that are not this machine's own.
#
#   tests/surroundings.sh WHERE WHEEL [ARGUMENTS OF run_suites.py]
#
#   plain-user      as `nobody`, in a copy of what git has, started in the background, by
#                   $PLAIN_USER_PYTHON or python3
#   debian-python   by the distribution's /usr/bin/python3 (Debian's and Ubuntu's has a sitecustomize)
#   python-VERSION  by a Python of this version (python-3.15): one at hand, else Debian's, unpacked into a
#                   folder by pythons/debian.sh
#   arm64           by Debian's Python for arm64, each process emulated by qemu (root; slow)
#   musl            by a Python for musl, built by pythons/musl.sh: Alpine's C library, on this machine
#   musl-arm64      both
#   no-bpffs        as root where no BPF file system is mounted
#   bpffs           as root where one is
#
# WHEEL is what is tested; it is put into a virtual environment of its own. What this machine does not
# allow is said, and is no failure.
set -eu
where=$1 wheel=$(realpath "$2")
shift 2
top=$(cd "$(dirname "$0")/.." && pwd)
case $where in
    plain-user | debian-python | python-3.* | arm64 | musl | musl-arm64 | no-bpffs | bpffs) ;;
    *) echo "surroundings: not $where, but" >&2; sed -n 's/^#   \([a-z][^ ]*\)  .*/\1/p' "$0" >&2; exit 2 ;;
esac

# What most tests import, beside lithowatt.
few="pytest pytest-timeout pytest-xdist hypothesis psutil cloudpickle prometheus-client rich pandas ipython"

skip() {
    echo "$where: not tried: $1"
    exit 0
}

case $where in
    debian-python | python-* | musl) ;;
    *) [ "$(id -u)" = 0 ] || skip "only root may become somebody else and mount" ;;
esac
python=python3
case $where in
    python-*)
        python=$("$top/tests/pythons/at_hand.sh" "${where#python-}") || skip "$(echo "$python" | tail -n 1)"
        ;;
    arm64)
        python=$("$top/tests/pythons/debian.sh" "${PYTHON_VERSION:-3.14}" arm64) || skip "$(echo "$python" | tail -n 1)"
        ;;
    musl)
        python=$("$top/tests/pythons/musl.sh" "$(dpkg --print-architecture)") || skip "$(echo "$python" | tail -n 1)"
        ;;
    musl-arm64)
        python=$("$top/tests/pythons/musl.sh" arm64) || skip "$(echo "$python" | tail -n 1)"
        ;;
    debian-python)
        python=/usr/bin/python3
        [ -x "$python" ] || skip "there is no $python"
        ;;
    plain-user)
        command -v setpriv >/dev/null || skip "there is no setpriv"
        # root's own Python may lie where nobody else may read.
        # Asked of a shell: what setpriv itself starts, it may still look up as root.
        [ ! -x "${PLAIN_USER_PYTHON:-}" ] || python=$PLAIN_USER_PYTHON
        if ! setpriv --reuid=65534 --regid=65534 --clear-groups sh -c '"$0" -c ""' "$(command -v "$python")" 2>/dev/null; then
            python=/usr/bin/python3
        fi
        ;;
    no-bpffs | bpffs)
        unshare --mount true 2>/dev/null || skip "no mount namespace may be made"
        ;;
esac
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
case $where in
    *arm64)
        # shellcheck source=tests/arm64/toolchain.sh
        . "$top/tests/arm64/toolchain.sh"
        # shellcheck source=tests/arm64/emulate.sh
        . "$top/tests/arm64/emulate.sh"
        trap 'emulate_no_longer; rm -rf "$work"' EXIT
        emulate || skip "this kernel starts no programs through qemu (binfmt_misc)"
        ;;
esac
needs="sys, venv, ensurepip"
case $where in python-* | arm64 | musl*) needs="sys, venv" ;; esac
"$python" -c "import $needs; sys.exit(sys.version_info < (3, 10))" 2>/dev/null ||
    skip "$(command -v "$python") is no Python 3.10 with venv"

chmod 755 "$work"
case $where in
    python-*)
        # By the pip of this checkout or machine: Debian's Python has none. And with what most tests
        # use, which installs in seconds; the others are left out.
        "$python" -m venv --without-pip "$work/venv"
        pip="$top/.venv/bin/python"
        [ -x "$pip" ] || pip=python3
        # shellcheck disable=SC2086 # a list
        "$pip" -m pip --python "$work/venv/bin/python" install --quiet --disable-pip-version-check \
            --only-binary :all: "$wheel" ${PACKAGES:-$few}
        ;;
    arm64 | musl*)
        # By the pip of this machine, which is not emulated.
        "$python" -m venv --without-pip "$work/venv"
        pip="$top/.venv/bin/python"
        [ -x "$pip" ] || pip=python3
        machine=$("$python" -c 'import platform; print(platform.machine())')
        version=$("$python" -c 'import sys; print("3.%d" % sys.version_info[1])')
        platforms=
        case $where in
            musl*) for tag in musllinux_1_2 musllinux_1_1; do platforms="$platforms --platform ${tag}_$machine"; done ;;
            *) for tag in manylinux_2_28 manylinux_2_27 manylinux_2_26 manylinux_2_24 manylinux2014; do
                platforms="$platforms --platform ${tag}_$machine"
            done ;;
        esac
        # shellcheck disable=SC2086 # lists
        "$pip" -m pip install --quiet --disable-pip-version-check --only-binary :all: $platforms \
            --python-version "$version" --implementation cp --target "$work/venv/lib/python$version/site-packages" \
            "$wheel" ${PACKAGES:-$few}
        # Programs lie elsewhere then, and begin with this machine's Python.
        for program in "$work/venv/lib/python$version/site-packages"/bin/*; do
            sed "1s:^#!.*python.*:#!$work/venv/bin/python:" "$program" >"$work/venv/bin/$(basename "$program")"
            chmod +x "$work/venv/bin/$(basename "$program")"
        done
        (cd / && "$work/venv/bin/python" -W error "$top/tests/pythons/smoke.py")
        ;;
    *)
        "$python" -m venv "$work/venv"
        extras=test,examples
        [ "${1:-}" != --fast ] || extras=test
        "$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check "lithowatt[$extras] @ file://$wheel"
        ;;
esac
mkdir "$work/copy" "$work/tmp" "$work/home"
git -C "$top" ls-files -z | tar -C "$top" --null --files-from=- -cf - | tar -C "$work/copy" -xf -
echo "$where: $("$work/venv/bin/python" --version) of $(realpath "$work/venv/bin/python"), $(basename "$wheel")"

# The simulated machine is built once, not for each copy.
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$top/tests/rig/target}"
case $where in python-* | arm64 | musl*) set -- --without-doctests "$@" ;; esac
set -- "$work/venv/bin/python" tests/run_suites.py --without-rust "$@"
cd "$work/copy"
case $where in
    plain-user)
        chown -R 65534:65534 "$work/copy" "$work/tmp" "$work/home"
        # From a script and with `&`, as a nightly job is: SIGINT is ignored.
        env HOME="$work/home" TMPDIR="$work/tmp" PATH=/usr/local/bin:/usr/bin:/bin \
            setpriv --reuid=65534 --regid=65534 --clear-groups "$@" &
        wait $!
        ;;
    no-bpffs)
        unshare --mount sh -c 'while umount --lazy /sys/fs/bpf 2>/dev/null; do :; done; exec "$@"' sh "$@"
        ;;
    bpffs)
        unshare --mount sh -c 'grep -q " /sys/fs/bpf bpf " /proc/mounts || mount -t bpf bpf /sys/fs/bpf; exec "$@"' sh "$@"
        ;;
    debian-python | python-* | arm64 | musl*)
        "$@"
        ;;
esac
