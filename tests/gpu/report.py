#!/usr/bin/env python3
"""Writes the tables of docs/batching.md about GPUs from the samples of bench.py, between their
markers. The samples of a model are those of the last file that has it."""

import argparse
import json
import sys
from pathlib import Path

from bench import NAMES

# bench.py makes this importable.
from batching_report import fill, latency, rate
from figures import middle, ratios, spread, table

OFF, ON, CHECKED = "off", "unchecked", "on"


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("results", nargs="+")
    options.add_argument("--write", required=True, help="the Markdown file whose tables are replaced")
    options = options.parse_args()
    models = {}
    for path in options.results:
        records = [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]
        for name in NAMES:
            own = [r for r in records if name in (r.get("case"), r.get("model"))]
            if own:
                models[name] = Model(name, own, [r for r in records if r["record"] in ("machine", "packages", "state")])
    if not models:
        sys.exit("no samples")
    made = {"gpu-run": run(models), "gpu": loads(models), "gpu-rows": rows(models)}
    file = Path(options.write)
    file.write_text(fill(file.read_text(encoding="utf-8"), made), encoding="utf-8")


class Model:
    def __init__(self, name, records, shared):
        self.name = name
        self.shared = {r["record"]: r for r in shared}
        self.states = {r["target"]: r["metrics"] for r in shared if r["record"] == "state"}
        self.rows = [r for r in records if r["record"] == "rows"]
        self.samples = [r for r in records if r["record"] == "sample" and r["load"] != "learning"]

    def values(self, value, load, target):
        """{round: value} of the good samples."""
        return {s["round"]: value(s) for s in self.samples if s["good"] and (s["load"], s["target"]) == (load, target)}

    def ratio(self, value, load):
        return spread(ratios(self.values(value, load, ON), self.values(value, load, OFF)), "x")

    def shares(self):
        """Whether the sidecar with its check on still lets requests share runs at the end."""
        lines = [line for line in self.states[CHECKED] if line.startswith("tfs_sidecar_batching{") and f'"{self.name}"' in line]
        return any(line.endswith(" 1") for line in lines)


def run(models):
    last = list(models.values())[-1].shared
    m, p = last["machine"], last["packages"]
    kinds = [s for model in models.values() for s in model.samples]
    wrong = sum(not s["good"] for s in kinds)
    return (f"{m['date']}: {m['card']}, driver {m.get('driver', '-')}, {m['cpus']} CPUs ({m['cpu']}), PyTorch {p['torch']}, gRPC {p['grpcio']},"
            f" sidecar {m['version']}. {len(kinds)} samples, {wrong} with a wrong, missing, failed or refused answer.")  # fmt: skip


def shared_rows(sample):
    """Rows of a run. Each client has asked once for its reference, alone."""
    clients = int(sample["load"].split()[1])
    return (sample["run_rows"] - clients) / max(1, sample["runs"] - clients)


def loads(models):
    head = ["", "clients", "rows/s without", "with", "with / without", "p99 ms without", "with", "with / without", "rows a run", "wrong answers"]
    lines = []
    for model in models.values():
        for load in dict.fromkeys(s["load"] for s in model.samples if s["target"] == ON):
            bad = sum(sum(s["groups"]["all"][key] for key in ("wrong", "refused", "errors", "missing")) for s in model.samples if s["load"] == load)

            def column(value, target, model=model, load=load):
                return middle(model.values(value, load, target).values())

            lines.append([model.name, load.split()[1], column(rate, OFF), column(rate, ON), model.ratio(rate, load),
                          column(latency("p99"), OFF), column(latency("p99"), ON), model.ratio(latency("p99"), load),
                          column(shared_rows, ON), str(bad)])  # fmt: skip
        whole = model.values(rate, "64 rows a request", "direct").values()
        lines.append([model.name, "2 of 64 rows, direct", "-", middle(whole), "-", "-", "-", "-", "64.0", "0"])
    return table(head, lines)


def rows(models):
    head = ["", "float32 in", "µs of 1 row", "16 rows", "64 rows", "largest difference from a lone run", "rows beyond the check",
            "difference from a run of copies", "with the check on"]  # fmt: skip
    lines = []
    for model in models.values():
        for tf32 in (True, False):
            own = {r["rows"]: r for r in model.rows if r["tf32"] == tf32}
            apart = max(r["largest_of_row"] for r in own.values())
            beyond = max(r["rows_beyond"] for r in own.values())
            copies = max(r["repeated"]["largest_difference"] for r in own.values())
            checked = ("shares runs" if model.shares() else "switched off") if tf32 == model.shared["machine"]["tf32"] else "-"
            lines.append([model.name, "TF32" if tf32 else "full", *(f"{own[n]['us']:,}" if n in own else "-" for n in (1, 16, 64)), f"{apart:.1e}",
                          f"{100 * beyond:.0f} %", f"{copies:.0e}" if copies else "0", checked])  # fmt: skip
    return table(head, lines)


if __name__ == "__main__":
    main()
