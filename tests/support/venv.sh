#!/bin/sh
# Makes FOLDER/.venv with the packages of FOLDER/requirements.txt; does nothing if it is up to date.
# Exits with 3 if they cannot be installed.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
folder=$(cd "$1" && pwd)
venv=$folder/.venv
stamp=$venv/.ok

skip() {
    echo "venv.sh: $*" >&2
    exit 3
}

wanted=$(cat "$folder/requirements.txt" "$here/venv.sh" | cksum)
[ -x "$venv/bin/python" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && exit 0
rm -rf "$venv"
uv=$(command -v uv || echo "$here/../../.venv/bin/uv")
if "$uv" --version >/dev/null 2>&1; then
    "$uv" venv --quiet --python "${PYTHON:-python3}" "$venv"
    "$uv" pip install --quiet --python "$venv/bin/python" --require-hashes -r "$folder/requirements.txt" || skip "the Python packages cannot be installed"
else
    "${PYTHON:-python3}" -m venv "$venv" || skip "\`python3 -m venv\` failed (on Debian and Ubuntu: apt-get install python3-venv)"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r "$folder/requirements.txt" || skip "the Python packages cannot be installed"
fi
printf '%s\n' "$wanted" >"$stamp"
