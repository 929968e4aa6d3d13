#!/bin/sh
# Makes sure that Prometheus and Alertmanager are installed, for `make demo-ops`.
set -eu

have() { command -v "$1" >/dev/null; }
ready() { have prometheus && { have prometheus-alertmanager || have alertmanager; }; }

ready && exit 0
packages="prometheus prometheus-alertmanager"
if [ "$(id -u)" = 0 ] && have apt-get; then
    echo "demo-ops: installing $packages"
    # A fresh machine has no package lists. Debian would start both on installation.
    # shellcheck disable=SC2086
    { apt-get update && RUNLEVEL=1 apt-get install --yes --no-install-recommends $packages; } >/dev/null 2>&1 || true
fi
ready && exit 0
cat >&2 <<END
demo-ops: Prometheus and Alertmanager are not installed.
  Debian, Ubuntu: apt-get install $packages
  others: put \`prometheus\` and \`alertmanager\` on the PATH (https://prometheus.io/download/)
END
exit 1
