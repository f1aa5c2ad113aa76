#!/bin/sh
# Builds lithowatt.bpf.o from the sources beside it, and its checksum. The same clang gives the same
# bytes anywhere.
set -eu
cd "$(dirname "$0")"
out=${1:-lithowatt.bpf.o}
clang=${CLANG:-clang-14}
strip=${LLVM_STRIP:-llvm-strip-14}
"$clang" -O2 -g -Wall -Wextra -Werror -Wno-unused-parameter -target bpf -mcpu=v3 \
    -ffile-prefix-map="$PWD"=. -fdebug-compilation-dir=. -c lithowatt.bpf.c -o "$out"
# What is left of type information describes the maps. Nobody relocates nor debugs by the rest.
"$strip" -g --remove-section=.BTF.ext --remove-section=.rel.BTF.ext --remove-section=.rel.BTF "$out"
sha256sum <"$out" | cut -c 1-64 >"$out.sha256"
