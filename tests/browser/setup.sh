#!/bin/sh
# Makes tests/browser/.venv with what the tests of the status page need, and installs Chromium if there
# is none and apt-get may. Exits with 3 if that is not possible.
set -eu

here=$(cd "$(dirname "$0")" && pwd)

skip() {
    echo "setup.sh: $*" >&2
    exit 3
}

browser() {
    command -v "${CHROMIUM:-chromium}" || command -v chromium-browser || command -v google-chrome || command -v google-chrome-stable
}
if ! browser >/dev/null; then
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || skip "Chromium is not installed (install it, or set CHROMIUM to its path)"
    apt-get install --yes --no-install-recommends chromium >/dev/null 2>&1 || skip "apt-get cannot install Chromium"
fi

exec "$here/../support/venv.sh" "$here"
