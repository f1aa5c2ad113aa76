#!/usr/bin/env bash
# Builds a CPython for musl, as Alpine's is, and prints its path: Debian's source package, compiled by
# gcc against Debian's musl and started by it. Some 3 minutes for each architecture, once.
#
#     tests/pythons/musl.sh [ARCHITECTURE]       amd64 (default), arm64
#
# Needs Debian or a descendant whose apt has Debian's archive among its sources, gcc (for arm64
# gcc-aarch64-linux-gnu), make, and /usr/bin/python3, whose version is built. Exit status 2: something is
# missing, and stdout's last line names it. tests/surroundings.sh runs what was built.
#
# PYTHONS_CACHE keeps all of it (default: target/pythons); PYTHONS_SUITE is the suite that musl itself is
# of (default: sid). numpy's wheels need musl 1.2.4: they have relative relocations in the packed form.
set -euo pipefail
arch=${1:-amd64}
top=$(cd "$(dirname "$0")/../.." && pwd)
cache=${PYTHONS_CACHE:-$top/target/pythons}
missing() {
    echo "$1"
    exit 2
}
case $arch in
    amd64) machine=x86_64 ;;
    arm64) machine=aarch64 ;;
    *) missing "$arch is neither amd64 nor arm64" ;;
esac
mkdir -p "$cache"
cache=$(cd "$cache" && pwd)
root=$cache/musl-$arch
if [ -e "$root/complete" ]; then
    echo "$root/bin/python3"
    exit
fi

for tool in apt-get dpkg-deb make $machine-linux-gnu-gcc; do
    command -v $tool >/dev/null || missing "$tool is missing"
done
/usr/bin/python3 -c '' 2>/dev/null || missing "there is no /usr/bin/python3, which the build runs"
minor=$(/usr/bin/python3 -c 'import sys; print("3.%d" % sys.version_info[1])')
# shellcheck disable=SC2016 # apt expands it
release=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE)' \
    'Created-By: Packages' 'Origin: Debian' 'Label: Debian' 2>/dev/null | sort -u | head -n 1 || true)
[ -n "$release" ] || missing "apt has no lists of Debian's archive: apt-get update, on Debian or a descendant"
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
[ -e $keyring ] || missing "$keyring is missing: apt-get install debian-archive-keyring"

apt=$cache/apt-musl-$arch
rm -rf "$root" "$apt"
mkdir -p "$apt/lists/partial" "$apt/archives/partial" "$apt/work" "$root"
: >"$apt/status"
{
    echo "deb [arch=$arch signed-by=$keyring] $release main"
    echo "deb-src [signed-by=$keyring] $release main"
    echo "deb [arch=$arch signed-by=$keyring] ${release% *} ${PYTHONS_SUITE:-sid} main"
} >"$apt/sources.list"
cat >"$apt/conf" <<END
APT::Architecture "$arch";
APT::Architectures { "$arch"; };
APT::Default-Release "${release#* }";
APT::Sandbox::User "";
Acquire::Languages "none";
Dir::Etc::sourcelist "$apt/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::State::lists "$apt/lists";
Dir::State::status "$apt/status";
Dir::Cache "$apt";
END
cd "$apt/work"
(
    export APT_CONFIG=$apt/conf
    apt-get update -qq &&
        apt-get download -qq musl-dev linux-libc-dev "musl/${PYTHONS_SUITE:-sid}" &&
        apt-get source -qq --download-only "python$minor" zlib libffi
) >&2 || missing "the sources of python$minor, or musl, could not be had from the archive of this machine's apt"
for package in *.deb; do dpkg-deb -x "$package" musl; done
for archive in *.orig.tar.gz *.orig.tar.bz2 *.orig.tar.xz; do [ ! -e "$archive" ] || tar xf "$archive"; done

# The kernel's headers, which musl's do not bring.
for headers in linux asm-generic "$machine-linux-gnu/asm"; do
    ln -s "$PWD/musl/usr/include/$headers" "musl/usr/include/$machine-linux-musl/${headers##*/}"
done

# What is linked looks for the loader where it will be, beside the Python; with musl it is the C library.
# Linked with that, and not with the static library: a program with the latter loads no modules.
here=$PWD
libraries=musl/usr/lib/$machine-linux-musl
libc=$(find musl -name libc.so)
loader=$root/lib/ld-musl-$machine.so.1
mkdir -p "$root/lib"
cp "$libc" "$loader"
rm -f "$libraries/libc.a"
ln -sf "$loader" "$libraries/libc.so"
sed -e "s:/lib/ld-musl-$machine.so.1:$loader:" -e "s:/usr/:$here/musl/usr/:g" \
    "$(find musl -name musl-gcc.specs)" >specs
# A compiler that says, where the build of CPython 3.11 asks, that it is one for musl, and that names no
# folder with libraries for glibc.
cat >cc <<END
#!/bin/sh
case " \$* " in
    *" -print-multiarch "* | *" --print-multiarch "*) echo $machine-linux-musl ;;
    *" -E -v "*) $machine-linux-gnu-gcc -specs=$here/specs "\$@" 2>&1 >/dev/null | sed '/^LIBRARY_PATH/d' >&2 ;;
    *) exec $machine-linux-gnu-gcc -specs=$here/specs -w "\$@" ;;
esac
END
chmod +x cc
export CC=$here/cc CFLAGS="-O1 -fPIC" OPT="-DNDEBUG -fwrapv"
export AR=$machine-linux-gnu-ar RANLIB=$machine-linux-gnu-ranlib READELF=$machine-linux-gnu-readelf
# gcc's own library asks glibc whether the processor has the newer atomic instructions.
[ "$machine" != aarch64 ] || CFLAGS="$CFLAGS -mno-outline-atomics"
jobs=$(nproc)
host=$machine-alpine-linux-musl
(cd zlib-* && ./configure --prefix="$here/needs" --static &&
    make -s -j"$jobs" libz.a && make -s install) >"$apt/log" 2>&1 || missing "zlib was not built: $apt/log"
(cd libffi-* && ./configure -q --host=$host --prefix="$here/needs" --disable-shared --disable-docs &&
    make -s -j"$jobs" && make -s install) >>"$apt/log" 2>&1 || missing "libffi was not built: $apt/log"
mkdir build
# A build for another machine, of which nothing of this one becomes part; what such a configure cannot try
# out is told. CPython 3.11 takes the C library from the name of the building machine.
(cd build && ../Python-*/configure -q --host=$host --build="$(uname -m)-linux-musl" \
    --with-build-python=/usr/bin/python3 --prefix="$root" --without-ensurepip --disable-test-modules --enable-ipv6 \
    ac_cv_file__dev_ptmx=yes ac_cv_file__dev_ptc=no ac_cv_buggy_getaddrinfo=no \
    CPPFLAGS="-I$here/needs/include" LDFLAGS="-L$here/needs/lib -L$here/needs/lib64" PKG_CONFIG=false &&
    make -s -j"$jobs" && make -s install) >>"$apt/log" 2>&1 || missing "CPython was not built: $apt/log"

touch "$root/complete"
cd "$cache"
rm -rf "$apt"
echo "$root/bin/python3"
