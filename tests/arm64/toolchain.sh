#!/usr/bin/env bash
# Prints the path of a rustc that compiles for arm64: the toolchain at hand where it has the target
# aarch64-unknown-linux-gnu (`rustup target add`), else Debian's rustc-web, unpacked into a folder.
#
# For the latter: Debian or a descendant, and root for adding the architecture to apt's lists
# (nothing of it is installed). ARM64_CACHE keeps what is unpacked (default: target/arm64).
#
# Sourced, it gives the scripts here `root`, `cache`, `target`, `lists`, `unpack` and `compiler`.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cache=${ARM64_CACHE:-$root/target/arm64}
target=aarch64-unknown-linux-gnu
mkdir -p "$cache"
cache=$(cd "$cache" && pwd)

lists() {
    dpkg --print-foreign-architectures | grep -qx arm64 || dpkg --add-architecture arm64
    apt-get update -qq
}

# Packages are unpacked below the cache and not installed.
unpack() { # directory package...
    local into=$cache/$1 package
    shift
    for package; do
        (
            cd "$cache"
            apt-get download -qq "$package"
            dpkg-deb -x "${package%%:*}"_*"${package##*:}".deb "$into"
            rm -f "${package%%:*}"_*"${package##*:}".deb
        )
    done
    touch "$into/complete"
}

compiler() {
    local native std llvm
    if [ -d "$(rustc --print sysroot)/lib/rustlib/$target/lib" ]; then
        command -v rustc
        return
    fi
    native=$(dpkg --print-architecture)
    if [ ! -e "$cache/rust/complete" ]; then
        lists >&2
        std=$(apt-cache depends "libstd-rust-web-dev:$native" | sed -n 's/ *Depends: \(libstd-rust-web-[0-9.]*\)$/\1/p')
        llvm=$(apt-cache depends "$std:$native" | sed -n 's/ *Depends: \(libllvm[0-9]*\)$/\1/p')
        unpack rust "rustc-web:$native" "$std:$native" "$llvm:$native" "libstd-rust-web-dev:$native" \
            libstd-rust-web-dev:arm64 >&2
    fi
    cat >"$cache/rustc" <<END
#!/bin/sh
LD_LIBRARY_PATH=\$(echo "$cache"/rust/usr/lib/*-linux-gnu) exec "$cache/rust/usr/bin/rustc" --sysroot "$cache/rust/usr" "\$@"
END
    chmod +x "$cache/rustc"
    echo "$cache/rustc"
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
    compiler
fi
