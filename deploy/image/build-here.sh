#!/usr/bin/env bash
# Build the CPU image where no image can be pulled, and run Leeway in it:
#   deploy/image/build-here.sh FOLDER run /opt/leeway/share/leeway/recipes/quickstart.yaml -s steps=10
#
# Needs root, Debian's buildah and debootstrap, the registries of Debian and Python, and 20 GB below FOLDER. A second call
# runs the image that is there; `rm -rf FOLDER/storage` makes the next one build anew. Set TORCH_LINKS to a folder with the
# wheel of torch where PyTorch's own index cannot be reached, and BUILD_CA to the certificates of a proxy.
set -euo pipefail
cd "$(dirname "$0")/../.."
here=$PWD/deploy/image
[ $# -ge 2 ] || { sed -n '2,7s/^# \{0,1\}//p' "$0" >&2; exit 2; }
work=$(realpath -m "$1")
shift
base=localhost/leeway-base:debootstrap
image=localhost/leeway:0.1.0-cpu
export BUILDAH_ISOLATION=chroot TMPDIR=$work/tmp
mkdir -p "$work/tmp"

say() { printf '[image] %s\n' "$*"; }
images() { buildah --storage-driver "${STORAGE_DRIVER:-overlay}" --root "$work/storage" --runroot "$work/state" "$@"; }
has() { images inspect --type image "$1" > /dev/null 2>&1; }

make_base() {
    local container
    debootstrap --variant=minbase bookworm "$work/base" http://deb.debian.org/debian > "$work/debootstrap.log"
    rm -rf "$work"/base/etc/apt/sources.list "$work"/base/var/cache/apt/* "$work"/base/var/lib/apt/lists/*
    cp "$here/debian.sources" "$work/base/etc/apt/sources.list.d/"
    container=$(images from scratch)
    images copy --quiet "$container" "$work/base" / > /dev/null
    images config --cmd /bin/bash "$container"
    images commit --quiet --rm "$container" "$base" > /dev/null
    rm -rf "$work/base"
}

build() {
    local replaced=(--build-arg "BASE=$base")
    say "replaced: the base docker.io/library/debian, by what debootstrap makes of the same release today"
    if [ -n "${TORCH_LINKS:-}" ]; then
        replaced+=(--volume "$TORCH_LINKS:/run/torch:ro" --build-arg TORCH_LINKS=/run/torch)
        say "replaced: PyTorch's index, by the wheels in $TORCH_LINKS"
    fi
    if [ -n "${BUILD_CA:-}" ]; then
        replaced+=(--volume "$BUILD_CA:/run/build-ca.crt:ro" --build-arg BUILD_CA=/run/build-ca.crt)
        say "replaced: the certificates that downloads are checked against, by $BUILD_CA (in no layer of the image)"
    fi
    say "replaced: BuildKit, by buildah with chroot isolation; HEALTHCHECK is kept in the docker format alone"
    images build --pull-never --format docker --file deploy/image/Dockerfile.cpu "${replaced[@]}" --tag "$image" . \
        > "$work/build.log" 2>&1 || { tail -n 30 "$work/build.log" >&2; say "failed; all of it is in $work/build.log" >&2; exit 1; }
}

for program in buildah debootstrap; do
    command -v "$program" > /dev/null || { say "$program is missing: apt-get install buildah debootstrap" >&2; exit 2; }
done
[ "$(id -u)" = 0 ] || { say "needs root: debootstrap, chroot isolation and mounts" >&2; exit 2; }

SECONDS=0
has "$base" || { make_base; say "base: $SECONDS s"; }
SECONDS=0
has "$image" || { build; say "image: $SECONDS s"; }

container=$(images from --pull-never "$image")
trap 'images rm "$container" > /dev/null' EXIT
root=$(images mount "$container")
say "size: $(du -sm "$root" | cut -f1) MiB unpacked, of them $(du -sm "$root/opt/leeway" | cut -f1) in /opt/leeway"
say "SBOM: $(grep -c '"purl"' "$root/opt/leeway/share/leeway/sbom.cdx.json") components"
config() { images inspect --type image --format "{{range .OCIv1.Config.$1}}{{println .}}{{end}}" "$image" | sed '/^$/d'; }
mapfile -t variables < <(config Env)
mapfile -t entry < <(config Entrypoint)
user=$(images inspect --type image --format '{{.OCIv1.Config.User}}' "$image")
folder=$(images inspect --type image --format '{{.OCIv1.Config.WorkingDir}}' "$image")
mkdir -p "$work/runs"
chown "$user" "$work/runs"
say "running as $user in $folder, without capabilities, root read-only, no network but loopback: ${entry[*]} $*"
SECONDS=0
code=0
unshare --mount --pid --net --ipc --uts --fork "$here/read-only.sh" "$root" "$work/runs" "$user" \
    /usr/bin/env --ignore-environment --chdir="$folder" "${variables[@]}" "${entry[@]}" "$@" || code=$?
say "ended with exit code $code after $SECONDS s; its run folder is in $work/runs"
exit "$code"
