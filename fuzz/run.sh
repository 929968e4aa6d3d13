#!/usr/bin/env bash
# Builds a fuzz target with stable Rust and runs it: run.sh TARGET SECONDS [libFuzzer options]. TARGET: scan, plan, apply, metadata, framing, scan_cuts, rest_request, image_door,
# profile_file, tfrecord, npy.
# New inputs are saved in fuzz/.corpus/TARGET and failing ones in fuzz/.crashes/. `run.sh minimise` rewrites the committed corpus, which
# has one base64 input on each line.
set -euo pipefail
cd "$(dirname "$0")"
target=${1:?expected a target: scan, plan, apply, metadata, framing, scan_cuts, rest_request, image_door, profile_file, tfrecord, npy, or: minimise}
seconds=${2:-60}
[ $# -ge 2 ] && shift 2 || shift 1

# libFuzzer needs coverage instrumentation. Stable rustc can run the LLVM pass that adds it.
flags="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4"
flags+=" -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table"
flags+=" -Cllvm-args=-sanitizer-coverage-trace-compares"
# With an explicit --target, the flags do not apply to build scripts and macros.
host=$(rustc -vV | sed -n 's/^host: //p')
RUSTFLAGS="$flags" "${CARGO:-cargo}" build --quiet --release --locked --target "$host"
built=$("${CARGO:-cargo}" metadata --no-deps --format-version 1 | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/$host/release

fixtures=../tests/fixtures/fuzz
mkdir -p .crashes
if [ "$target" = minimise ]; then
    for name in scan plan apply metadata framing scan_cuts rest_request image_door profile_file tfrecord npy; do
        case $name in metadata) max=200 ;; profile_file) max=1200 ;; *) max=700 ;; esac
        ./seeds.py unpack "$fixtures/$name.b64" ".corpus/$name"
        rm -rf ".small/$name" && mkdir -p ".small/$name"
        # Keep one input for each edge, regardless of execution counts: a few hundred small ones.
        "$built/$name" -merge=1 -use_counters=0 -max_len="$max" ".small/$name" ".corpus/$name" >".small/$name.log" 2>&1
        ./seeds.py pack ".small/$name" "$fixtures/$name.b64"
    done
    exit
fi
./seeds.py golden .corpus
./seeds.py unpack "$fixtures/$target.b64" ".corpus/$target"
exec "$built/$target" -max_total_time="$seconds" -artifact_prefix=".crashes/$target-" -print_final_stats=1 -rss_limit_mb=2048 \
    -timeout=10 -max_len=4096 "$@" ".corpus/$target"
