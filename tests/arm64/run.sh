#!/usr/bin/env bash
# Runs the kernel probes' own tests in an emulated arm64 machine: the committed object, loaded by our
# loader into Debian's arm64 kernel, counting hardware cycles.
#
# Needs Debian or a descendant, root for adding the architecture to apt's lists (nothing of it is
# installed), and qemu-system-arm gcc-aarch64-linux-gnu libc6-dev-arm64-cross cpio. The Rust toolchain
# at hand is used where it has the target aarch64-unknown-linux-gnu, else Debian's rustc-web.
#
#     tests/arm64/run.sh [filter...]       arguments as of the test binary
#
# ARM64_CACHE keeps packages and build products (default: target/arm64).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
cache=${ARM64_CACHE:-$root/target/arm64}
target=aarch64-unknown-linux-gnu
mkdir -p "$cache"
cd "$cache"

for tool in qemu-system-aarch64 aarch64-linux-gnu-gcc cpio dpkg-deb cargo; do
    command -v "$tool" >/dev/null || { echo "$tool is missing" >&2; exit 2; }
done

# Packages are unpacked here and not installed.
unpack() { # directory package...
    local into=$1 package
    shift
    for package; do
        apt-get download -qq "$package"
        dpkg-deb -x "${package%%:*}"_*"${package##*:}".deb "$into"
        rm -f "${package%%:*}"_*"${package##*:}".deb
    done
    touch "$into/complete"
}
lists() {
    dpkg --print-foreign-architectures | grep -qx arm64 || dpkg --add-architecture arm64
    apt-get update -qq
}

if [ ! -e kernel/complete ]; then
    lists
    image=$(apt-cache depends linux-image-cloud-arm64:arm64 | sed -n 's/ *Depends: \(linux-image.*\):arm64/\1/p')
    unpack kernel "$image:arm64" busybox-static:arm64
fi

if [ -d "$(rustc --print sysroot)/lib/rustlib/$target/lib" ]; then
    compiler=rustc
else
    if [ ! -e rust/complete ]; then
        lists
        std=$(apt-cache depends libstd-rust-web-dev:amd64 | sed -n 's/ *Depends: \(libstd-rust-web-[0-9.]*\)$/\1/p')
        llvm=$(apt-cache depends "$std:amd64" | sed -n 's/ *Depends: \(libllvm[0-9]*\)$/\1/p')
        unpack rust "rustc-web:$(dpkg --print-architecture)" "$std:$(dpkg --print-architecture)" \
            "$llvm:$(dpkg --print-architecture)" "libstd-rust-web-dev:$(dpkg --print-architecture)" \
            libstd-rust-web-dev:arm64
    fi
    compiler=$cache/rustc
    cat >"$compiler" <<END
#!/bin/sh
LD_LIBRARY_PATH=\$(echo "$cache"/rust/usr/lib/*-linux-gnu) exec "$cache/rust/usr/bin/rustc" --sysroot "$cache/rust/usr" "\$@"
END
    chmod +x "$compiler"
fi

built=$(
    cd "$root"
    RUSTC=$compiler CARGO_TARGET_DIR=$cache/target \
        CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
        CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUSTFLAGS="-C target-feature=+crt-static" \
        cargo test --quiet --lib --no-run --target "$target" --message-format json |
        sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -n 1
)

rm -rf initramfs
mkdir -p initramfs/{bin,proc,sys,dev,tmp}
cp kernel/bin/busybox initramfs/bin/
cp "$here/init" initramfs/init
cp "$built" initramfs/tests
# What takes thousands of processes takes minutes here.
if [ $# = 0 ]; then
    set -- source::ebpf --skip children_ --skip sleepers --skip ten_ --skip killed --skip costs_little
fi
echo "$@" >initramfs/filter
chmod +x initramfs/init initramfs/bin/busybox
(cd initramfs && find . | cpio --quiet -o -H newc | gzip -1 >../initramfs.gz)

log=$cache/console.log
# icount: the emulated processor counts instructions in this mode alone.
timeout 600 qemu-system-aarch64 -M virt -cpu cortex-a72 -icount shift=3 -smp 2 -m 1024 -nic none -nographic -no-reboot \
    -kernel kernel/boot/vmlinuz-* -initrd initramfs.gz \
    -append "console=ttyAMA0 quiet panic=-1 rdinit=/init" </dev/null | tee "$log"

grep -q "cycles and instructions" "$log" || { echo "hardware cycles were not counted" >&2; exit 1; }
grep -q "^exit status 0" "$log" || { echo "a test failed" >&2; exit 1; }
