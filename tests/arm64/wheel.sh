#!/usr/bin/env bash
# Runs the arm64 wheel here: builds the arm64 images of deploy/ with it and runs them, Lithops jobs and
# the node agent among them, each process emulated by qemu (tests/images/test_images.py).
#
# Needs Debian or a descendant, root, and debootstrap podman runc; what `make wheel-arm64` needs, where
# dist/ has no wheel yet. qemu-user-static is used where it is installed, else unpacked. While it runs,
# the kernel of this machine starts arm64 programs through qemu (binfmt_misc); then no longer.
#
#     tests/arm64/wheel.sh [argument...]       arguments as of pytest
#
# ARM64_CACHE keeps what is unpacked (default: target/arm64); PYTHON has the test extras.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/arm64/toolchain.sh
. "$here/toolchain.sh"
cd "$root"
PYTHON=${PYTHON:-$root/.venv/bin/python}

for tool in debootstrap podman runc dpkg-deb; do
    command -v "$tool" >/dev/null || { echo "$tool is missing" >&2; exit 2; }
done
compgen -G "${LITHOWATT_WHEELS:-dist}/lithowatt-*manylinux2014_aarch64*.whl" >/dev/null || make wheel-arm64

binfmt=/proc/sys/fs/binfmt_misc
mounted=
registered=
leave() {
    [ -z "$registered" ] || echo -1 >"$binfmt/qemu-aarch64"
    [ -z "$mounted" ] || umount "$binfmt"
}
trap leave EXIT
if [ ! -e "$binfmt/register" ]; then
    mount -t binfmt_misc binfmt_misc "$binfmt"
    mounted=1
fi
if [ ! -e "$binfmt/qemu-aarch64" ]; then
    qemu=$(command -v qemu-aarch64-static || true)
    if [ -z "$qemu" ]; then
        [ -e "$cache/qemu/complete" ] || unpack qemu "qemu-user-static:$(dpkg --print-architecture)"
        qemu=$cache/qemu/usr/bin/qemu-aarch64-static
    fi
    # A 64-bit little-endian ELF program or library (e_type 2 or 3) of machine 183. F: the kernel
    # keeps qemu open, so that it need not be in the image.
    magic='\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00'
    mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
    printf '%s' ":qemu-aarch64:M::$magic:$mask:$qemu:F" >"$binfmt/register"
    registered=1
fi

LITHOWATT_IMAGES=arm64 "$PYTHON" -m pytest tests/images/test_images.py "$@"
