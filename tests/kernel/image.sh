#!/usr/bin/env bash
# Makes what tests/kernel boots: a Debian root with the kernel of a suite, as an initial file system, and
# beside it the kernel and the module `simulated_registers` compiled for it.
#
# Needs Debian or a descendant whose apt has Debian's archive among its sources, root (mmdebstrap), and
# qemu-system-x86 mmdebstrap. Exit status 2: something of that is missing, and stdout's last
# line names it.
#
#     tests/kernel/image.sh        prints the folder: vmlinuz, initramfs, simulated_registers.ko
#
# KERNEL_CACHE keeps all of it (default: lithowatt-kernel in $XDG_CACHE_HOME or ~/.cache); a second run
# compiles the module at most. KERNEL_SUITE chooses the suite (default: testing).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
suite=${KERNEL_SUITE:-testing}
cache=${KERNEL_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/lithowatt-kernel}/$suite
missing() {
    echo "$1"
    exit 2
}

export PATH=$PATH:/usr/sbin:/sbin
for tool in qemu-system-x86_64 mmdebstrap; do
    command -v "$tool" >/dev/null || missing "$tool is missing: apt-get install qemu-system-x86 mmdebstrap"
done
root=$cache/root

if [ ! -e "$cache/complete" ]; then
    [ "$(id -u)" = 0 ] || missing "the image is made as root, once: sudo KERNEL_CACHE=$(dirname "$cache") $0"
    # The archive that this machine's own apt uses, whichever that is.
    # shellcheck disable=SC2016 # apt expands it
    archive=$(apt-get indextargets --format '$(REPO_URI)' \
        'Created-By: Packages' 'Origin: Debian' 'Label: Debian' 2>/dev/null | sort -u | head -n 1 || true)
    [ -n "$archive" ] || missing "apt has no lists of Debian's archive: apt-get update, on Debian or a descendant"
    # Whether an archive's old lists are taken is this machine's apt's to say, too.
    valid_until=$(apt-config dump --format '%v' Acquire::Check-Valid-Until)
    rm -rf "$cache"
    mkdir -p "$cache"
    mmdebstrap --quiet --mode=root --variant=minbase --format=directory \
        --include=linux-image-amd64,linux-headers-amd64,kmod,make,gcc,libc6-dev,python3-minimal,libpython3-stdlib,util-linux \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' \
        --aptopt="Acquire::Check-Valid-Until \"${valid_until:-true}\"" \
        "$suite" "$root" "$archive" >&2 || missing "$suite could not be had from the archive of this machine's apt"
    cp -L "$root"/boot/vmlinuz-* "$cache/vmlinuz"
    touch "$cache/complete"
fi

# In the root, by its compiler: the kernel's build tools are linked against its C library.
if [ ! -e "$cache/simulated_registers.ko" ] || [ "$here/simulated_registers.c" -nt "$cache/simulated_registers.ko" ]; then
    [ "$(id -u)" = 0 ] || missing "the module is compiled as root, once: sudo KERNEL_CACHE=$(dirname "$cache") $0"
    mkdir -p "$root/build"
    cp "$here/simulated_registers.c" "$here/Kbuild" "$root/build/"
    release=$(basename "$root"/lib/modules/*)
    # objtool reads its limits from /proc.
    # shellcheck disable=SC2016 # the inner shell expands it
    unshare --mount sh -ec 'mount -t proc proc "$1/proc"
        exec chroot "$1" make --silent -C "/lib/modules/$2/build" M=/build modules' sh "$root" "$release" >&2
    cp "$root/build/simulated_registers.ko" "$cache/"
fi
if [ ! -e "$cache/initramfs" ] || [ "$here/init" -nt "$cache/initramfs" ] || [ "$here/initramfs.py" -nt "$cache/initramfs" ]; then
    python3 "$here/initramfs.py" "$root" "$here/init" "$cache/initramfs.new" >&2
    mv "$cache/initramfs.new" "$cache/initramfs"
fi
echo "$cache"
