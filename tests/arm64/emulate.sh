# shellcheck shell=bash
# Sourced, after toolchain.sh: lets the kernel of this machine start arm64 programs through qemu
# (binfmt_misc), for all of the machine and until `emulate_no_longer`. root alone may. qemu-user-static is
# used where it is installed, else unpacked.
binfmt=/proc/sys/fs/binfmt_misc
binfmt_mounted=
binfmt_registered=

emulate_no_longer() {
    [ -z "$binfmt_registered" ] || echo -1 >"$binfmt/qemu-aarch64"
    [ -z "$binfmt_mounted" ] || umount "$binfmt"
    binfmt_registered='' binfmt_mounted=''
}

emulate() {
    local qemu magic mask
    if [ ! -e "$binfmt/register" ]; then
        mount -t binfmt_misc binfmt_misc "$binfmt" || return
        binfmt_mounted=1
    fi
    [ ! -e "$binfmt/qemu-aarch64" ] || return 0
    qemu=$(command -v qemu-aarch64-static || true)
    if [ -z "$qemu" ]; then
        [ -e "$cache/qemu/complete" ] || unpack qemu "qemu-user-static:$(dpkg --print-architecture)" || return
        qemu=$cache/qemu/usr/bin/qemu-aarch64-static
    fi
    # A 64-bit little-endian ELF program or library (e_type 2 or 3) of machine 183. F: the kernel
    # keeps qemu open, so that it need not be in an image.
    magic='\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00'
    mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
    printf '%s' ":qemu-aarch64:M::$magic:$mask:$qemu:F" >"$binfmt/register" || return
    binfmt_registered=1
}
