#!/usr/bin/env bash
# Prints the path of a Python of a version: one of PATH or of pyenv, else Debian's (debian.sh). Exit
# status 2: there is none, and stdout's last line says why.
#
#     tests/pythons/at_hand.sh VERSION       3.10, 3.14, 3.13t (without a GIL)
set -euo pipefail
version=$1
for candidate in "python$version" "${PYENV_ROOT:-$HOME/.pyenv}/versions/${version%t}".*/bin/python; do
    # A shim of a version manager is there and may not run.
    if found=$("$candidate" -c 'import sys, venv
print(sys.executable, "%d.%d%s" % (*sys.version_info[:2], "t" * ("t" in sys.abiflags)))' 2>/dev/null) &&
        [ "${found##* }" = "$version" ]; then
        echo "${found% *}"
        exit
    fi
done
if [ "$version" != "${version%t}" ]; then
    echo "no python$version on PATH or in pyenv, and Debian has no Python without a GIL"
    exit 2
fi
exec "$(dirname "$0")/debian.sh" "$version"
