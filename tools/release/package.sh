#!/bin/sh
# package.sh BINARY TARGET OUT [STRIP]: puts a static program, its licences and its SBOM into an archive in
# OUT, and writes OUT/SHA256SUMS anew. The archive depends on the program and the sources only.
set -eu

binary=$1
target=$2
out=$3
strip=${4:-strip}
root=$(cd "$(dirname "$0")/../.." && pwd)
: "${SOURCE_DATE_EPOCH:?is not set (run tools/release/release.sh)}"
version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$root/Cargo.toml" | head -n 1)
name=tfs-sidecar-$version-$target

if readelf --program-headers "$binary" | grep -q INTERP; then
    echo "package.sh: \`$binary\` needs shared libraries (build it with -C target-feature=+crt-static)" >&2
    exit 1
fi
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
mkdir -p "$stage/$name" "$out"
"$strip" --strip-all -o "$stage/$name/tfs-sidecar" "$binary"
cp "$root/LICENSE" "$root/README.md" "$root/CHANGELOG.md" "$root/SECURITY.md" "$stage/$name"
cp "$root/src/config/example.yaml" "$root/deploy/systemd/tfs-sidecar.service" "$stage/$name"
python3 "$root/tools/release/inventory.py" "$target" "$out/$name.cdx.json" "$stage/$name/THIRD-PARTY-LICENSES.txt"
# The same owner, modes and times whoever builds it, and whatever the umask is.
chmod -R u=rwX,go=rX "$stage/$name"
LC_ALL=C tar --create --directory "$stage" --format ustar --sort name --mtime "@$SOURCE_DATE_EPOCH" \
    --owner 0 --group 0 --numeric-owner "$name" | gzip --best --no-name >"$out/$name.tar.gz"
cd "$out"
LC_ALL=C sha256sum tfs-sidecar-*.tar.gz tfs-sidecar-*.cdx.json >SHA256SUMS
