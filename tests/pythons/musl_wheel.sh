#!/usr/bin/env bash
# Builds the wheel for musl (Alpine and its descendants), musllinux 1.2, on a machine with glibc.
#
#     tests/pythons/musl_wheel.sh ARCHITECTURE FOLDER       x86_64 or aarch64; where the wheel goes
#
# The compiler is the one at hand where it has the target (`rustup target add x86_64-unknown-linux-musl`);
# else Debian's rustc-web, unpacked into a folder, which compiles Rust's library from Debian's sources of
# it. Needs cargo, maturin and zig (`pip install maturin ziglang`), and for the latter Debian or a
# descendant. Exit status 2: something is missing, and stdout's last line names it. PYTHONS_CACHE keeps
# what is unpacked and compiled (default: target/pythons).
set -euo pipefail
machine=$1
out=$(realpath -m "$2")
top=$(cd "$(dirname "$0")/../.." && pwd)
cache=${PYTHONS_CACHE:-$top/target/pythons}
missing() {
    echo "wheel for musl, $machine: not built: $1"
    exit 2
}
case $machine in
    x86_64 | aarch64) ;;
    *) missing "it is neither x86_64 nor aarch64" ;;
esac
for tool in cargo rustc maturin; do
    command -v $tool >/dev/null || missing "$tool is missing"
done
mkdir -p "$cache"
cache=$(cd "$cache" && pwd)
target=$machine-unknown-linux-musl
unstable=()

if [ ! -d "$(rustc --print sysroot)/lib/rustlib/$target/lib" ]; then
    rust=$cache/rust
    if [ ! -e "$rust/complete" ]; then
        for tool in apt-get apt-cache dpkg-deb; do
            command -v $tool >/dev/null || missing "rustc lacks the target (rustup target add $target), and $tool is missing"
        done
        rm -rf "$rust"
        mkdir -p "$rust/packages"
        cd "$rust/packages"
        library=$(apt-cache depends libstd-rust-web-dev 2>/dev/null | sed -n 's/ *Depends: \(libstd-rust-web-[0-9.]*\)$/\1/p')
        llvm=$(apt-cache depends "${library:-none}" 2>/dev/null | sed -n 's/ *Depends: \(libllvm[0-9]*\)$/\1/p')
        [ -n "$library" ] && [ -n "$llvm" ] &&
            apt-get -o APT::Sandbox::User= download -qq rustc-web rust-web-src libstd-rust-web-dev "$library" "$llvm" >&2 ||
            missing "rustc lacks the target (rustup target add $target), and apt has no rustc-web: apt-get update, on Debian"
        for package in *.deb; do dpkg-deb -x "$package" "$rust"; done
        rm -r "$rust/packages"
        cat >"$rust/rustc" <<END
#!/bin/sh
LD_LIBRARY_PATH=\$(echo "$rust"/usr/lib/*-linux-gnu) exec "$rust/usr/bin/rustc" --sysroot "$rust/usr" "\$@"
END
        chmod +x "$rust/rustc"
        touch "$rust/complete"
    fi
    # Rust's library for another target is compiled with options that are for compilers before a
    # release; this one is told that it is one of them.
    # It would also name functions otherwise than linker/worker_functions.ld does.
    export RUSTC="$rust/rustc" RUSTC_BOOTSTRAP=1
    export RUSTFLAGS="-Z unstable-options -C symbol-mangling-version=legacy"
    unstable=(-Z build-std=std,panic_unwind)
fi
cd "$top"
CARGO_TARGET_DIR=$cache/target exec maturin build --release --quiet --zig --target "$target" \
    --compatibility musllinux_1_2 --out "$out" "${unstable[@]}"
