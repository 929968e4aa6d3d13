#!/usr/bin/env bash
# Generates docs/benchmarks.md, or with `rest` only its part about JSON: times and allocations from `micro`, instructions
# from callgrind if valgrind is installed.
set -euo pipefail
cd "$(dirname "$0")"
cargo=${CARGO:-cargo}
"$cargo" build --quiet --release --locked
micro=$("$cargo" metadata --no-deps --format-version 1 | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/release/tfs-sidecar-micro
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

report=../docs/benchmarks.md
if [ "${1:-all}" = rest ]; then
    sed '/^## JSON$/,$d' "$report" > "$work/report.md"
else
    # Instructions of a call: the cost of 20 more calls, which excludes startup and building the requests.
    count() {
        valgrind --tool=callgrind --callgrind-out-file=/dev/null "$micro" repeat "$1" "$2" 2>&1 | sed -n 's/.*Collected : \([0-9]*\).*/\1/p'
    }
    if command -v valgrind >/dev/null; then
        "$micro" list | while read -r case; do
            echo "$((($(count "$case" 25) - $(count "$case" 5)) / 20))	$case"
        done > "$work/counts"
    fi
    "$micro" table "$work/counts" > "$work/report.md"
    echo >> "$work/report.md"
fi
"$micro" rest >> "$work/report.md"
mv "$work/report.md" "$report"
echo "docs/benchmarks.md is written"
