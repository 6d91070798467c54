#!/usr/bin/env bash
# Build docs/deploy.md's container file without Docker and without NVIDIA's image, and run it.
#
#   sudo scripts/container.sh                # on Ubuntu 22.04, which is what NVIDIA's JetPack 6 image is based on
#   sudo scripts/container.sh bookworm       # on Debian 12, as python:3.12-slim is
#   sudo scripts/container.sh bookworm arm64 # the same for aarch64; emulated: 5 minutes of processor time
#
# buildah runs every line of the file; debootstrap makes the base. Verified: names of packages, the virtual environment,
# pip install, .dockerignore, entry point, a demo. Not verified: what NVIDIA's image has besides, and Docker's runtime.
# Needs buildah and debootstrap, and for arm64 qemu-user-static, which is registered with the kernel while this runs.
set -euo pipefail
cd "$(dirname "$0")/.."
release=${1:-jammy} architecture=${2:-$(dpkg --print-architecture)}
base=shrike-base:$release-$architecture image=shrike:$release-$architecture
cache=${XDG_CACHE_HOME:-$HOME/.cache}/shrike-container/$release-$architecture
export STORAGE_DRIVER=vfs BUILDAH_ISOLATION=chroot
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT
printf '[global]\ncert = /run/certificates.pem\n' > "$work/pip.conf"

kernel=/proc/sys/fs/binfmt_misc
if [ "$architecture" = arm64 ] && [ "$(uname -m)" != aarch64 ]; then
    [ -e $kernel/register ] || mount -t binfmt_misc binfmt_misc $kernel
    if [ ! -e $kernel/qemu-aarch64 ]; then
        cat /usr/lib/binfmt.d/qemu-aarch64.conf > $kernel/register
        trap 'echo -1 > $kernel/qemu-aarch64; rm -r "$work"' EXIT
    fi
    # qemu 7.2 cannot run a newer one.
    echo 'onnxruntime < 1.24' > "$work/constraints.txt"
    printf '[install]\nconstraint = /run/constraints.txt\n' >> "$work/pip.conf"
fi

if [ ! -d "$cache" ]; then
    options=(--variant=minbase --arch="$architecture")
    [ "$release" != jammy ] || options+=(--components=main,universe)
    mkdir -p "$(dirname "$cache")"
    # Debian has no key of Ubuntu's.
    [ -e /usr/share/keyrings/ubuntu-archive-keyring.gpg ] || [ "$release" != jammy ] || options+=(--no-check-gpg)
    debootstrap "${options[@]}" "$release" "$cache.part" >&2
    mv "$cache.part" "$cache"
fi
container=$(buildah from --arch "$architecture" scratch)
cp -a "$cache/." "$(buildah mount "$container")/"
buildah commit -q --rm "$container" "$base" >&2

awk '/^```dockerfile/ {inside = 1; next} /^```/ {inside = 0} inside' docs/deploy.md > "$work/Dockerfile"
# This machine's certificates, for the time of the build.
mounts=(-v /etc/ssl/certs/ca-certificates.crt:/run/certificates.pem:ro -v "$work/pip.conf:/etc/pip.conf:ro")
[ ! -e "$work/constraints.txt" ] || mounts+=(-v "$work/constraints.txt:/run/constraints.txt:ro")
buildah build --arch "$architecture" --from "$base" "${mounts[@]}" -f "$work/Dockerfile" --ignorefile .dockerignore \
    -t "$image" .

container=$(buildah from --arch "$architecture" "$image")
read -ra entry <<< "$(buildah inspect --format '{{range .OCIv1.Config.Entrypoint}}{{.}} {{end}}' "$container")"
buildah run "$container" -- "${entry[@]}" --demo
buildah run "$container" -- "${entry[@]}" --check --model runtime/models/edge.onnx --demo
buildah rm "$container" > /dev/null
