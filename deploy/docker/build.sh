#!/bin/sh
# Builds the image of the binary in a folder that context.sh has filled, or without one from source.
# Fails if the image is larger than 15 MB.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
folder=${1:-}
tag=${TAG:-tfs-sidecar:1.0.0}
limit=15000000

engine=$(command -v podman || command -v docker) || {
    echo "build.sh: neither podman nor docker is installed" >&2
    exit 1
}
if [ -n "$folder" ]; then
    set -- --file "$root/deploy/docker/Dockerfile.prebuilt" "$folder"
else
    set -- --file "$root/deploy/docker/Dockerfile" "$root"
fi
# The format of OCI has no health check, and podman would leave it out.
case $engine in *podman) set -- --format docker "$@" ;; esac
commit=$(git -C "$root" rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
"$engine" build --build-arg "BUILD_COMMIT=$commit" --tag "$tag" "$@"

size=$("$engine" image inspect --format '{{.Size}}' "$tag")
echo "$tag: $size bytes"
if [ "$size" -gt "$limit" ]; then
    echo "build.sh: the image is larger than $limit bytes" >&2
    exit 1
fi
