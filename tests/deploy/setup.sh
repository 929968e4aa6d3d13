#!/bin/sh
# Makes tests/deploy/.venv with what the tests of deploy/ need, and installs the programs that apt-get has.
# Prints what is missing; the tests that need it are skipped. Exits with 3 if no test can run.
set -eu

here=$(cd "$(dirname "$0")" && pwd)

missing=
want() { # program package...
    program=$1
    shift
    command -v "$program" >/dev/null || missing="$missing $*"
}
want prometheus prometheus
want prometheus-alertmanager prometheus-alertmanager
want podman podman runc conmon netavark aardvark-dns catatonit fuse-overlayfs iptables
want buildah buildah
want systemd-analyze systemd
if [ -n "$missing" ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        # A fresh machine has no package lists. Debian would start Prometheus on installation.
        # shellcheck disable=SC2086
        { apt-get update && RUNLEVEL=1 apt-get install --yes --no-install-recommends $missing; } >/dev/null 2>&1 ||
            echo "setup.sh: apt-get cannot install$missing" >&2
    else
        echo "setup.sh: not installed:$missing" >&2
    fi
fi

# Schemas of custom resources. The lock file has hashes, and no address of a registry.
schemas=$here/schemas
wanted=$(cksum <"$schemas/package-lock.json")
if [ "$(cat "$schemas/node_modules/.ok" 2>/dev/null)" != "$wanted" ]; then
    if command -v npm >/dev/null && npm ci --prefix "$schemas" --ignore-scripts --no-audit --no-fund >/dev/null 2>&1; then
        printf '%s\n' "$wanted" >"$schemas/node_modules/.ok"
    else
        echo "setup.sh: npm cannot install the schemas of custom resources" >&2
    fi
fi

exec "$here/../support/venv.sh" "$here"
