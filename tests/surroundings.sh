#!/bin/sh
# Runs the tests in Python in surroundings that are not this machine's own.
#
#   tests/surroundings.sh WHERE WHEEL [ARGUMENTS OF run_suites.py]
#
#   plain-user      as `nobody`, in a copy of what git has, started in the background
#   debian-python   by the distribution's /usr/bin/python3 (Debian's and Ubuntu's has a sitecustomize)
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
    plain-user | debian-python | no-bpffs | bpffs) ;;
    *) echo "surroundings: plain-user, debian-python, no-bpffs or bpffs, not $where" >&2; exit 2 ;;
esac

skip() {
    echo "$where: not tried: $1"
    exit 0
}

[ "$(id -u)" = 0 ] || skip "only root may become somebody else and mount"
python=python3
case $where in
    debian-python)
        python=/usr/bin/python3
        [ -x "$python" ] || skip "there is no $python"
        ;;
    plain-user)
        command -v setpriv >/dev/null || skip "there is no setpriv"
        # root's own Python may lie where nobody else may read.
        # Asked of a shell: what setpriv itself starts, it may still look up as root.
        if ! setpriv --reuid=65534 --regid=65534 --clear-groups sh -c '"$0" -c ""' "$(command -v $python)" 2>/dev/null; then
            python=/usr/bin/python3
        fi
        ;;
    *)
        unshare --mount true 2>/dev/null || skip "no mount namespace may be made"
        ;;
esac
"$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' 2>/dev/null ||
    skip "$(command -v "$python") is no Python 3.10 with venv"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
"$python" -m venv "$work/venv"
extras=test,examples
[ "${1:-}" != --fast ] || extras=test
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check "lithowatt[$extras] @ file://$wheel"
mkdir "$work/copy" "$work/tmp" "$work/home"
git -C "$top" ls-files -z | tar -C "$top" --null --files-from=- -cf - | tar -C "$work/copy" -xf -
echo "$where: $("$work/venv/bin/python" --version) of $(realpath "$work/venv/bin/python"), $(basename "$wheel")"

# The simulated machine is built once, not for each copy.
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$top/tests/rig/target}"
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
    debian-python)
        "$@"
        ;;
esac
