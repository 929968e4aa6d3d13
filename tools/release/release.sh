#!/bin/sh
# Builds static programs and everything that is released with them, into target/dist. Two runs on the same
# commit with the same toolchain give the same bytes, wherever the sources and the build folder are.
#   TARGETS            what to build for; by default each of the known ones that this machine can build
#   OUT                where the results go
#   PROFILE            `release`, or `dev` to try the script
#   BUILD_COMMIT       what --version says, where the sources have no repository
#   SOURCE_DATE_EPOCH  the time of the files in the archives; by default that of the commit
set -eu

root=$(cd "$(dirname "$0")/../.." && pwd)
here=$root/tools/release
cd "$root"
cargo=${CARGO:-cargo}
profile=${PROFILE:-release}
target_dir=$($cargo metadata --no-deps --format-version 1 | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')
out=${OUT:-$target_dir/dist}
known="x86_64-unknown-linux-gnu aarch64-unknown-linux-gnu"
host=$(rustc -vV | sed -n 's/^host: //p')

commit=$(git -C "$root" rev-parse --short=12 HEAD 2>/dev/null || true)
if [ -n "$commit" ] && [ -z "$(git -C "$root" rev-parse --show-prefix)" ]; then
    [ -z "$(git -C "$root" status --porcelain --untracked-files=no)" ] || commit=$commit-dirty
    BUILD_COMMIT=${BUILD_COMMIT:-$commit}
    SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$root" log -1 --format=%ct)}
fi
BUILD_COMMIT=${BUILD_COMMIT:-commit unknown}
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-0}
export BUILD_COMMIT SOURCE_DATE_EPOCH

# Why a target cannot be built here, or nothing.
missing() {
    [ -d "$(rustc --print target-libdir --target "$1")" ] || {
        echo "its standard library is not installed (rustup target add $1)"
        return
    }
    command -v "$(tool "$1" gcc)" >/dev/null || echo "$(tool "$1" gcc) is not installed (apt-get install gcc-aarch64-linux-gnu)"
}

# The name of a program of binutils or gcc for a target.
tool() {
    if [ "$1" = "$host" ]; then echo "$2"; else echo "${1%%-*}-linux-gnu-$2"; fi
}

if [ -z "${TARGETS:-}" ]; then
    for target in $known; do
        reason=$(missing "$target")
        if [ -z "$reason" ]; then TARGETS="${TARGETS:-} $target"; else echo "release.sh: $target is left out: $reason"; fi
    done
fi
[ -n "${TARGETS:-}" ] || {
    echo "release.sh: no target can be built on this machine" >&2
    exit 1
}

# Paths of this machine would be in messages of panics, and in the hash that a linker makes of its input.
registry=${CARGO_HOME:-$HOME/.cargo}/registry/src
maps="--remap-path-prefix=$root=/src --remap-path-prefix=$target_dir=/target --remap-path-prefix=$registry=/registry"
export CFLAGS="-ffile-prefix-map=$registry=/registry -ffile-prefix-map=$target_dir=/target"

mkdir -p "$out"
rm -f "$out"/tfs-sidecar-* "$out/SHA256SUMS"
for target in $TARGETS; do
    static="-C target-feature=+crt-static"
    # As `make static` links: functions with the same code once only, and short relocations.
    case $target in x86_64-*) static="$static -C link-arg=-Wl,-z,pack-relative-relocs" ;; esac
    linker=
    if [ "$target" != "$host" ]; then
        linker=CARGO_TARGET_$(echo "$target" | tr 'a-z-' 'A-Z_')_LINKER=$(tool "$target" gcc)
    elif [ "$host" = x86_64-unknown-linux-gnu ]; then
        # The linker that Rust brings can do that. It is not used if another one is named.
        static="$static -C link-arg=-Wl,--icf=all"
    fi
    # shellcheck disable=SC2086
    env $linker RUSTFLAGS="$maps" \
        $cargo rustc --locked --profile "$profile" --target "$target" --bin tfs-sidecar -- $static
    folder=$profile
    [ "$profile" != dev ] || folder=debug
    "$here/package.sh" "$target_dir/$target/$folder/tfs-sidecar" "$target" "$out" "$(tool "$target" strip)"
done
cat "$out/SHA256SUMS"
