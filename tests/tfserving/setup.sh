#!/bin/sh
# Makes .venv in the project root with everything that the Python tests need; does nothing when it is already up to date.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
venv=$root/.venv
stamp=$venv/.ok

die() {
    echo "setup.sh: $*" >&2
    exit 1
}

# The stamp holds a checksum of all that decides what is installed: the locked requirements and this script.
wanted=$(cd "$here" && cat requirements.txt requirements-nodeps.txt requirements-uv.txt setup.sh | cksum)
if [ -x "$venv/bin/python" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
    exit 0
fi

find_python() {
    for candidate in "${PYTHON:-}" python3.11 python3; do
        [ -n "$candidate" ] || continue
        if "$candidate" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; then
            "$candidate" -c 'import sys; print(sys.executable)'
            return 0
        fi
    done
    return 1
}
python=$(find_python) || die "Python 3.11 is needed: install it, or name it with PYTHON=/path/to/python3.11"

# Start afresh: packages that are no longer in the list must not linger.
rm -rf "$venv"
if uv=$(command -v uv) && "$uv" --version >/dev/null 2>&1; then
    "$uv" venv --quiet --python "$python" "$venv"
else
    # No uv here: a plain virtual environment (which needs no rights beyond the project's directory) gets one.
    "$python" -m venv "$venv" || die "'$python -m venv' failed (on Debian and Ubuntu: apt-get install python3.11-venv)"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r "$here/requirements-uv.txt"
    uv=$venv/bin/uv
fi

# Compiled bytecode matters where PYTHONDONTWRITEBYTECODE is set: without it every import of TensorFlow takes 12 s, not 4 s.
install() {
    "$uv" pip install --quiet --python "$venv/bin/python" --require-hashes --compile-bytecode "$@"
}
install -r "$here/requirements.txt"
install --no-deps -r "$here/requirements-nodeps.txt"

printf '%s\n' "$wanted" >"$stamp"
