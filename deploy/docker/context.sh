#!/bin/sh
# Puts what Dockerfile.prebuilt copies into a folder: the binary without symbols, and the certificates
# of the authorities that this machine trusts. `make static` builds the binary.
set -eu
binary=$1
folder=$2

if readelf --program-headers "$binary" | grep -q INTERP; then
    echo "context.sh: \`$binary\` needs shared libraries, which the image does not have (make static)" >&2
    exit 1
fi
for bundle in /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/cert.pem; do
    [ -e "$bundle" ] && break
done
mkdir -p "$folder"
strip --strip-all -o "$folder/tfs-sidecar" "$binary"
install -m 0644 "$bundle" "$folder/ca-certificates.crt"
