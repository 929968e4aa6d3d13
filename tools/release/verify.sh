#!/bin/sh
# Builds the last commit twice, in two folders with build folders of their own, and compares the results.
# `verify.sh A B` only compares the results in two folders.
set -eu

compare() {
    (cd "$1" && LC_ALL=C ls) >"$3/a"
    (cd "$2" && LC_ALL=C ls) >"$3/b"
    [ -s "$3/a" ] || {
        echo "verify.sh: \`$1\` is empty" >&2
        exit 1
    }
    diff "$3/a" "$3/b" >&2 || {
        echo "verify.sh: the two builds have different files" >&2
        exit 1
    }
    equal=yes
    while read -r file; do
        cmp "$1/$file" "$2/$file" >&2 || equal=no
    done <"$3/a"
    [ $equal = yes ] || {
        echo "verify.sh: the two builds differ" >&2
        exit 1
    }
    echo "equal: $(tr '\n' ' ' <"$3/a")"
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if [ $# = 2 ]; then
    compare "$1" "$2" "$work"
    exit
fi

root=$(cd "$(dirname "$0")/../.." && pwd)
BUILD_COMMIT=$(git -C "$root" rev-parse --short=12 HEAD)
SOURCE_DATE_EPOCH=$(git -C "$root" log -1 --format=%ct)
export BUILD_COMMIT SOURCE_DATE_EPOCH
# The names have different lengths: a path in the program would move what follows it.
for folder in first the/second/one; do
    mkdir -p "$work/$folder"
    git -C "$root" archive HEAD | tar --extract --directory "$work/$folder"
    CARGO_TARGET_DIR=$work/$folder/target OUT=$work/$folder/dist "$work/$folder/tools/release/release.sh"
    # The second build needs the space.
    rm -rf "$work/$folder/target"
done
compare "$work/first/dist" "$work/the/second/one/dist" "$work"
