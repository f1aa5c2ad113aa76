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

# shellcheck source=tests/arm64/emulate.sh
. "$here/emulate.sh"
trap emulate_no_longer EXIT
emulate

LITHOWATT_IMAGES=arm64 "$PYTHON" -m pytest tests/images/test_images.py "$@"
