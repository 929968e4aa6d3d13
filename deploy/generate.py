#!/usr/bin/env python3
"""Makes the copies of Prometheus rules and Grafana dashboards that Kubernetes and Helm need.

deploy/prometheus/rules/*.yml and deploy/grafana/dashboards/*.json are the originals. Run this after a
change of one of them. With --check it writes nothing, and fails if a copy is not up to date.
"""

import sys
import textwrap
from pathlib import Path

NOTICE = "# Made by deploy/generate.py from {}. Do not edit it.\n"


def rules(deploy):
    """The groups of all rules files, as text without comments in front of them."""
    parts = [path.read_text() for path in sorted((deploy / "prometheus/rules").glob("*.yml"))]
    for part in parts:
        assert "\ngroups:\n" in "\n" + part, "a rules file without a line `groups:`"
    return "groups:\n" + "".join(("\n" + part).split("\ngroups:\n", 1)[1] for part in parts)


def dashboards(deploy):
    """The text of each dashboard by the name of its file."""
    return {path.name: path.read_text().rstrip("\n") + "\n" for path in sorted((deploy / "grafana/dashboards").glob("*.json"))}


def config_map(name, file, text):
    """A ConfigMap with one dashboard. Each has its own, because their size is limited to 1 MiB."""
    return (
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n"
        f'  name: tfs-sidecar-dashboard-{name}\n  labels:\n    grafana_dashboard: "1"\n'
        f"data:\n  {file}: |\n" + textwrap.indent(text, "    ")
    )


def copies(deploy):
    """The text of each generated file by its path below deploy/."""
    groups, boards = rules(deploy), dashboards(deploy)
    made = {
        "kubernetes/monitoring/prometheusrule.yaml": NOTICE.format("deploy/prometheus/rules")
        + "apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata:\n  name: tfs-sidecar\n"
        + "  labels:\n    app.kubernetes.io/name: tfs-sidecar\nspec:\n"
        + textwrap.indent(groups, "  "),
        "kubernetes/monitoring/dashboards.yaml": NOTICE.format("deploy/grafana/dashboards")
        + "---\n".join(config_map(Path(file).stem, file, text) for file, text in boards.items()),
        "helm/tfs-sidecar/files/rules.yaml": NOTICE.format("deploy/prometheus/rules") + groups,
    }
    made |= {f"helm/tfs-sidecar/files/dashboards/{file}": text for file, text in boards.items()}
    return made


def main(deploy, check):
    """Writes the copies below `deploy`, or names those that are not up to date."""
    wanted = copies(deploy)
    present = {path.relative_to(deploy).as_posix() for path in (deploy / "helm/tfs-sidecar/files").rglob("*.*")}
    stale = [deploy / path for path in present - wanted.keys()]
    stale += [deploy / path for path, text in wanted.items() if not (deploy / path).exists() or (deploy / path).read_text() != text]
    for path in stale:
        print(("not up to date: " if check else "wrote: ") + str(path), file=sys.stderr)
        name = path.relative_to(deploy).as_posix()
        if check:
            continue
        if name not in wanted:
            path.unlink()
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(wanted[name])
    return 1 if check and stale else 0


if __name__ == "__main__":
    folders = [argument for argument in sys.argv[1:] if argument != "--check"]
    sys.exit(main(Path(folders[0]) if folders else Path(__file__).resolve().parent, "--check" in sys.argv))
