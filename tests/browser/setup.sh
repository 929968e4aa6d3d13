#!/bin/sh
# Makes tests/browser/.venv with what the tests of the status page need, and installs Chromium if there
# is none and apt-get may. Exits with 3 if that is not possible.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
venv=$here/.venv
stamp=$venv/.ok

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

wanted=$(cd "$here" && cat requirements.txt setup.sh | cksum)
[ -x "$venv/bin/python" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && exit 0
rm -rf "$venv"
uv=$(command -v uv || echo "$here/../../.venv/bin/uv")
if "$uv" --version >/dev/null 2>&1; then
    "$uv" venv --quiet --python "${PYTHON:-python3}" "$venv"
    "$uv" pip install --quiet --python "$venv/bin/python" --require-hashes -r "$here/requirements.txt" || skip "the Python packages cannot be installed"
else
    "${PYTHON:-python3}" -m venv "$venv" || skip "\`python3 -m venv\` failed (on Debian and Ubuntu: apt-get install python3-venv)"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r "$here/requirements.txt" || skip "the Python packages cannot be installed"
fi
printf '%s\n' "$wanted" >"$stamp"
