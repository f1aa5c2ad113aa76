#!/bin/sh
# Builds lithowatt.bpf.o from the sources beside it. The same clang gives the same bytes anywhere.
set -eu
cd "$(dirname "$0")"
out=${1:-lithowatt.bpf.o}
clang=${CLANG:-clang-14}
strip=${LLVM_STRIP:-llvm-strip-14}
"$clang" -O2 -g -Wall -Wextra -Werror -Wno-unused-parameter -target bpf -mcpu=v3 \
    -ffile-prefix-map="$PWD"=. -fdebug-compilation-dir=. -c lithowatt.bpf.c -o "$out"
"$strip" -g "$out"
