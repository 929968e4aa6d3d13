#!/usr/bin/env bash
# Builds a fuzz target with stable Rust and runs it: run.sh TARGET SECONDS [libFuzzer options]. TARGET: scan, plan, apply, metadata.
# What it finds interesting is kept in fuzz/.corpus/TARGET, a failing input in fuzz/.crashes/; `run.sh minimise` rewrites the committed corpus.
set -euo pipefail
cd "$(dirname "$0")"
target=${1:?expected a target: scan, plan, apply, metadata, or: minimise}
seconds=${2:-60}
[ $# -ge 2 ] && shift 2 || shift 1

# The coverage that libFuzzer steers by is made by an LLVM pass that stable rustc runs when it is asked to.
flags="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4"
flags+=" -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table"
flags+=" -Cllvm-args=-sanitizer-coverage-trace-compares"
# A named --target keeps the flags away from build scripts and macros.
host=$(rustc -vV | sed -n 's/^host: //p')
RUSTFLAGS="$flags" "${CARGO:-cargo}" build --quiet --release --locked --target "$host"
built=$("${CARGO:-cargo}" metadata --no-deps --format-version 1 | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/$host/release

fixtures=../tests/fixtures/fuzz
if [ "$target" = minimise ]; then
    for name in scan plan apply metadata; do
        [ -d ".corpus/$name" ] || continue
        rm -rf ".corpus/$name.small" && mkdir -p ".corpus/$name.small"
        "$built/$name" -merge=1 -max_len=700 ".corpus/$name.small" ".corpus/$name" "$fixtures/$name" 2>&1 | tail -1
    done
    exit
fi
mkdir -p ".corpus/$target" .crashes "$fixtures/$target"
exec "$built/$target" -max_total_time="$seconds" -artifact_prefix=".crashes/$target-" -print_final_stats=1 -rss_limit_mb=2048 \
    -timeout=10 -max_len=4096 "$@" ".corpus/$target" "$fixtures/$target"
