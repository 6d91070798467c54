#!/usr/bin/env bash
# Unpack an aarch64 root with a Python, for qemu's user emulation; Debian or Ubuntu, no root rights and no chroot needed.
#
#   scripts/arm64_root.sh FOLDER         # the Python of this machine's release: its own arm64 packages, 20 MB
#   scripts/arm64_root.sh FOLDER 3.10    # JetPack 6's: cross-compiled from Ubuntu 22.04's source, 5 minutes
#   scripts/arm64_root.sh FOLDER 3.12    # JetPack 7's: from Ubuntu 24.04's
#   scripts/arm64_root.sh FOLDER "" libasound2-plugins    # with more packages
#
# Needs apt-get and, to cross-compile, debootstrap (it knows Ubuntu's archive), gcc-aarch64-linux-gnu and the same
# Python for this machine. Prints the path of the interpreter.
set -euo pipefail
folder=$(mkdir -p "$1" && cd "$1" && pwd)
version=${2:-}
case $version in
    "") packages=(python3) ;;
    3.10) release=jammy checksum=afb74bf19130e7a47d10312c8f5e784f24e0527981eab68e20546cfb865830b8 ;;
    3.12) release=noble checksum=56bfef1fdfc1221ce6720e43a661e3eb41785dd914ce99698d8c7896af4bdaa1 ;;
    *) echo "$version: expected 3.10 or 3.12, or nothing for this machine's release" >&2; exit 2 ;;
esac
[ -z "$version" ] || packages=(zlib1g-dev libffi-dev libssl-dev libbz2-dev liblzma-dev)

# apt in a state of its own: the machine's sources and keys, another architecture, nothing installed.
apt=$folder/apt
mkdir -p "$apt"/{state/lists/partial,cache/archives/partial}
: > "$apt/status"
get() {
    apt-get -qq -y -o Dir::State="$apt/state" -o Dir::Cache="$apt/cache" -o Dir::State::status="$apt/status" \
        -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o APT::Install-Recommends=false \
        -o APT::Sandbox::User= -o Debug::NoLocking=true "$@"
}
get update >&2
get --download-only install libstdc++6 libportaudio2 "${packages[@]}" "${@:3}" >&2
for package in "$apt"/cache/archives/*.deb; do
    # The cross-compiler brings its own C library's headers; libnsl and libtirpc serve a module that nobody needs.
    case ${package##*/} in libc*-dev_* | linux-libc-dev_* | libnsl-dev_* | libtirpc-dev_*) ;; *) dpkg -x "$package" "$folder" ;; esac
done

if [ -z "$version" ]; then
    echo "$folder/usr/bin/$(readlink "$folder/usr/bin/python3")"
    exit
fi

for program in "python$version" aarch64-linux-gnu-gcc debootstrap; do
    "$program" --version >/dev/null 2>&1 || { echo "$program is missing: Python $version is compiled with it" >&2; exit 3; }
done
mirror=$(sed -n 's/^\s*default_mirror \(.*archive.*\)/\1/p' /usr/share/debootstrap/scripts/gutsy | head -1)
# Debian has no key of Ubuntu's; the checksum is that of the file that python.org signs.
echo "deb-src [trusted=yes] $mirror $release-updates main" > "$apt/source.list"
source=(-o Dir::Etc::sourcelist="$apt/source.list" -o Dir::Etc::sourceparts=/dev/null)
get "${source[@]}" update >&2
(cd "$apt" && get "${source[@]}" source --download-only "python$version" >&2)
archive=$(echo "$apt/python${version}"_*.orig.tar.xz)
echo "$checksum  $archive" | sha256sum --check --quiet >&2
mkdir -p "$folder/source"
tar -xf "$archive" -C "$folder/source" --strip-components=1
cd "$folder/source"

libraries=$folder/usr/lib/aarch64-linux-gnu
cp "$folder"/usr/include/aarch64-linux-gnu/ffi*.h "$folder/usr/include"  # Python 3.10 looks nowhere else
[ "$version" = 3.10 ] && build=() || build=(--with-build-python="$(command -v "python$version")")
{
    PKG_CONFIG_LIBDIR="$libraries/pkgconfig" PKG_CONFIG_SYSROOT_DIR="$folder" ./configure -q --prefix=/usr \
        --build="$(gcc -dumpmachine)" --host=aarch64-linux-gnu --without-ensurepip --disable-test-modules --disable-ipv6 \
        ac_cv_file__dev_ptmx=yes ac_cv_file__dev_ptc=no CC=aarch64-linux-gnu-gcc CXX=aarch64-linux-gnu-g++ "${build[@]}" \
        CPPFLAGS="-I$folder/usr/include -I$folder/usr/include/aarch64-linux-gnu" \
        LDFLAGS="-L$libraries -Wl,-rpath-link,$libraries:$folder/lib/aarch64-linux-gnu"
    make -s -j"$(nproc)"
    make -s install DESTDIR="$folder"
} > "$folder/build.log" 2>&1 || { tail -n 20 "$folder/build.log" >&2; exit 1; }
rm -r "$folder/source"
echo "$folder/usr/bin/python$version"
