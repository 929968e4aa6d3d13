#!/usr/bin/env bash
# Measures and writes docs/benchmarks.md: times and allocations by `micro`, instructions by callgrind where valgrind is installed.
set -euo pipefail
cd "$(dirname "$0")"
cargo=${CARGO:-cargo}
"$cargo" build --quiet --release --locked
micro=$("$cargo" metadata --no-deps --format-version 1 | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/release/tfs-sidecar-micro
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Instructions of a call: what 20 calls more cost, so that starting up and building the requests fall out.
count() {
    valgrind --tool=callgrind --callgrind-out-file=/dev/null "$micro" repeat "$1" "$2" 2>&1 | sed -n 's/.*Collected : \([0-9]*\).*/\1/p'
}
if command -v valgrind >/dev/null; then
    "$micro" list | while read -r case; do
        echo "$((($(count "$case" 25) - $(count "$case" 5)) / 20))	$case"
    done > "$work/counts"
fi
"$micro" table "$work/counts" > "$work/table.md"
mv "$work/table.md" ../docs/benchmarks.md
echo "docs/benchmarks.md is written"
