#!/usr/bin/env bash
# Runs the kernel probes' own tests in an emulated arm64 machine: the committed object, loaded by our
# loader into Debian's arm64 kernel, counting hardware cycles.
#
# Needs Debian or a descendant, root for adding the architecture to apt's lists (nothing of it is
# installed), and qemu-system-arm gcc-aarch64-linux-gnu libc6-dev-arm64-cross cpio. The compiler is
# toolchain.sh's.
#
#     tests/arm64/run.sh [filter...]       arguments as of the test binary
#
# ARM64_CACHE keeps packages and build products (default: target/arm64).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/arm64/toolchain.sh
. "$here/toolchain.sh"
cd "$cache"

for tool in qemu-system-aarch64 aarch64-linux-gnu-gcc cpio dpkg-deb cargo; do
    command -v "$tool" >/dev/null || { echo "$tool is missing" >&2; exit 2; }
done

if [ ! -e kernel/complete ]; then
    lists
    image=$(apt-cache depends linux-image-cloud-arm64:arm64 | sed -n 's/ *Depends: \(linux-image.*\):arm64/\1/p')
    unpack kernel "$image:arm64" busybox-static:arm64
fi

rustc=$(compiler)
built=$(
    cd "$root"
    RUSTC=$rustc CARGO_TARGET_DIR=$cache/target \
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
