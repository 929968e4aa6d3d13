#!/bin/sh
# Counts the sidecar's user-space instructions per request under callgrind and compares them with
# instructions.json. TFS_SIDECAR_BIN names the binary. Options go to instructions.py: --update
# writes the figures, --peer NAME counts another proxy.
set -eu
command -v valgrind >/dev/null || { echo "instructions: valgrind is not installed" >&2; exit 2; }
exec python3 "$(dirname "$0")/instructions.py" "$@"
