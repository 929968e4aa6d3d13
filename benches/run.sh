#!/usr/bin/env bash
# Generates docs/benchmarks.md and the table of costs in docs/preprocessing.md: times and allocations from `micro` and
# `profile`, instructions from callgrind if valgrind is installed. With `rest` only the part about JSON, with `profile`
# only the table of costs.
set -euo pipefail
cd "$(dirname "$0")"
cargo=${CARGO:-cargo}
"$cargo" build --quiet --release --locked
built=$("$cargo" metadata --no-deps --format-version 1 | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/release
micro=$built/tfs-sidecar-micro
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

part=${1:-all}
if [ "$part" != rest ]; then
    page=../docs/preprocessing.md
    "$built/profile" > "$work/costs"
    sed -e '/^<!-- costs -->$/r '"$work/costs" -e '/^<!-- costs -->$/,/^<!-- end of costs -->$/{/^<!--/!d}' "$page" > "$work/page.md"
    mv "$work/page.md" "$page"
    echo "the costs in docs/preprocessing.md are written"
    if [ "$part" = profile ]; then exit; fi
fi

report=../docs/benchmarks.md
if [ "$part" = rest ]; then
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
