#!/usr/bin/env python3
"""Writes the tables of docs/batching.md from the samples of batching.py, between their markers."""

import argparse
import json
import re
import statistics
import sys
from pathlib import Path

from batching import CURVES, THREADS, limited
from batching_real import MODELS as REAL
from figures import middle, ratios, spread, table

FIGURES = Path(__file__).parent / "instructions.json"
OFF, ON = "off", "on"
# Bars
OF_BEST, NOT_WORSE, NOT_SLOWER, OF_THREADS = 0.95, 0.98, 1.02, 1.3
THREAD_TITLES = {"direct-8": "direct, 8 threads", "direct-128": "direct, 128 threads",
                 "off": "sidecar without batching, 8 threads", "on": "sidecar with batching, 8 threads"}  # fmt: skip


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("results")
    options.add_argument("--write", required=True, help="the Markdown file whose tables are replaced")
    options.add_argument("--instructions", type=Path, default=FIGURES)
    options = options.parse_args()
    records = [json.loads(line) for line in Path(options.results).read_text(encoding="utf-8").splitlines()]
    file = Path(options.write)
    instructions = json.loads(options.instructions.read_text(encoding="utf-8"))["per_request"]
    file.write_text(fill(file.read_text(encoding="utf-8"), tables(Results(records), instructions)), encoding="utf-8")


def fill(text, made):
    """Replaces what is between `<!-- NAME -->` and `<!-- end -->` for every name."""
    for name, table in made.items():
        pattern = rf"(<!-- {re.escape(name)} -->\n).*?(<!-- end -->)"
        text, count = re.subn(pattern, lambda found, table=table: f"{found[1]}{table}\n{found[2]}", text, flags=re.DOTALL)
        if count != 1:
            sys.exit(f"expected one `<!-- {name} -->` with its `<!-- end -->`, got {count}")
    return text


class Results:
    def __init__(self, records):
        self.machine = next((r for r in records if r["record"] == "machine"), None)
        self.skipped = {r["target"]: r["why"] for r in records if r["record"] == "skipped"}
        samples = [r for r in records if r["record"] == "sample"]
        self.bad = [s for s in samples if not s["good"]]
        self.samples = {}
        for s in samples:
            if s["good"]:
                self.samples.setdefault((s["case"], s["load"], s["target"]), {})[s["round"]] = s

    def values(self, value, case, load, target):
        """{round: value of the sample}, without samples that have no value."""
        found = {n: value(s) for n, s in self.samples.get((case, load, target), {}).items()}
        return {n: v for n, v in found.items() if v is not None}

    def loads(self, case):
        return list(dict.fromkeys(load for c, load, _ in self.samples if c == case))

    def ratio(self, value, case, load, ours=ON, base=OFF):
        return ratios(self.values(value, case, load, ours), self.values(value, case, load, base))


def rate(sample, group="all"):
    return sample["groups"][group]["rows_per_s"]


def latency(key, group="all"):
    """Milliseconds."""

    def of(sample):
        found = sample["groups"].get(group, {}).get("latency_us")
        return found and found[key] / 1000

    return of


def run_rows(sample):
    return sample["run_rows"] / sample["runs"] if sample["runs"] else None


def proxy_us(sample):
    return sample["procs"].get("proxy", {}).get("us")


def tables(results, instructions):
    return {
        "run": run(results), "bars": bars(results, instructions), "closed": closed(results), "open": opened(results),
        "threads": threads(results), "step": step(results), "models": models(results), "greedy": greedy(results),
        "real": real(results), "instructions": instruction_table(instructions),
    }  # fmt: skip


def run(results):
    m = results.machine
    count = sum(map(len, results.samples.values()))
    others = [s["other_cores"] for rounds in results.samples.values() for s in rounds.values()]
    other = f"{statistics.median(others):.2f}" if others else "an unknown number of"
    text = (f"{m['date']}: {m['cpu']}, {m['cpus']} CPUs, {m['memory_gb']} GB, Linux {m['kernel']}, sidecar {m['version']}."
            f" {m['rounds']} rounds, {count} samples, {len(results.bad)} more left out because an answer was wrong, missing,"
            f" failed or refused. Other work on the machine took a median of {other} cores.")  # fmt: skip
    if m.get("quick"):
        text += " This was a quick run to test the benchmark: its figures mean nothing."
    for target, why in results.skipped.items():
        text += f" `{target}` was skipped: {why}."
    return text


def bars(results, instructions):
    rows = []

    def add(what, wanted, found, met):
        rows.append([what, wanted, found, "not measured" if met is None else "met" if met else "**missed**"])

    reached = best_ratios(results)
    worst = min(reached, key=reached.get, default=None)
    add("closed loop, 64 and 256 clients: rows/s of the best possible, curves below 10,000 rows/s", f"at least {OF_BEST}x",
        f"lowest {reached[worst]:.2f}x ({worst})" if worst else "-", reached[worst] >= OF_BEST if worst else None)  # fmt: skip
    compared, worse = never_worse(results)
    add("rows/s, p50 and p99 compared with no batching, all loads", f"at least {NOT_WORSE}x, at most {NOT_SLOWER}x",
        f"{len(worse)} of {compared} comparisons worse in every round, by more than the spread without batching" + (": " + "; ".join(worse) if worse else ""),
        not worse if compared else None)  # fmt: skip
    gain = results.ratio(rate, "threads", "closed 64", ON, "direct-128")
    slower = results.ratio(latency("p99"), "threads", "closed 64", ON, "direct-128")
    refused = sum(s["groups"]["all"]["refused"] for s in results.samples.get(("threads", "closed 64", ON), {}).values())
    add("64 clients, 8 threads with batching, relative to 128 threads direct: rows/s", f"at least {OF_THREADS}x",
        spread(gain, "x"), statistics.median(gain) >= OF_THREADS if gain else None)  # fmt: skip
    add("the same: p99, and refusals", "below 1.00x, none", f"{spread(slower, 'x')}, {refused}",
        statistics.median(slower) < 1 and not refused if slower else None)  # fmt: skip
    for name in REAL:
        best = best_of_grid(results, name)
        ours = [results.ratio(value, "real", name, ON, best) for value in (rate, latency("p99"))] if best else [[], []]
        good = statistics.median(ours[0]) >= 1 and statistics.median(ours[1]) <= 1 if all(ours) else None
        add(f"{name} on TensorFlow, relative to the best of its own batching ({best or '-'}): rows/s, p99",
            "at least 1.00x, at most 1.00x", f"{spread(ours[0], 'x')}, {spread(ours[1], 'x')}", good)  # fmt: skip
    for payload, base, most in (("S_batched", "S", 0.5), ("S_lone", "S_one", 1.03)):
        known = payload in instructions and base in instructions
        ratio = instructions[payload] / instructions[base] if known else 0
        what = {"S_batched": "a member of a run of 64 relative to an unbatched S", "S_lone": "a lone client relative to no batching"}
        add(f"instructions: {what[payload]}", f"at most {most}x", f"{ratio:.2f}x" if known else "-", ratio <= most if known else None)
    return "\n".join(["| bar | required | measured | |", "|---|---|---|---|", *("| " + " | ".join(row) + " |" for row in rows)])


def best_ratios(results):
    """{curve and load: median of the rows a second over the best possible}"""
    found = {}
    for name, curve in CURVES.items():
        for clients in (64, 256):
            values = results.values(rate, name, f"closed {clients}", ON)
            if values and not limited(curve):
                found[f"{name}, {clients} clients"] = statistics.median(values.values()) / curve.best(clients)
    return found


def never_worse(results):
    """(number of comparisons, those that batching makes worse). A comparison is worse if it is so in
    every round, and by more than the same binary without batching differs from round to round."""
    compared, worse = 0, []
    for name in CURVES:
        for load in results.loads(name):
            for what, value, up in (("rows/s", rate, False), ("p50", latency("p50"), True), ("p99", latency("p99"), True)):
                found = results.ratio(value, name, load)
                if not found:
                    continue
                compared += 1
                alone = results.values(value, name, load, OFF).values()
                spread_alone = max(alone) / min(alone)
                middle_of = statistics.median(found)
                if up:
                    bad = min(found) > NOT_SLOWER and middle_of > spread_alone
                else:
                    bad = max(found) < NOT_WORSE and middle_of < 1 / spread_alone
                if bad:
                    worse.append(f"{name}, {load}, {what} {middle_of:.2f}x")
    return compared, worse


def best_of_grid(results, name):
    targets = [t for case, load, t in results.samples if (case, load) == ("real", name) and t not in ("plain", ON)]
    def median(target):
        return statistics.median(results.values(rate, "real", name, target).values())

    return max(targets, key=median, default=None)


def closed(results):
    head = ["", "clients", "direct rows/s", "without", "with", "with / without", "of the best possible", "p50 ms without", "with",
            "p99 ms without", "with", "rows a run"]  # fmt: skip
    rows = []
    for name, curve in CURVES.items():
        for load in results.loads(name):
            if not load.startswith("closed"):
                continue
            clients = int(load.split()[1])

            def column(value, target, name=name, load=load):
                return results.values(value, name, load, target).values()

            rates = column(rate, ON)
            share = f"{statistics.median(rates) / curve.best(clients):.2f}x" if rates and curve.best(clients) <= 10_000 else "-"
            latencies = [middle(column(latency(key), target)) for key in ("p50", "p99") for target in (OFF, ON)]
            rows.append([
                name + (" *" if limited(curve) else ""), str(clients), middle(column(rate, "direct")), middle(column(rate, OFF)),
                spread(rates), spread(results.ratio(rate, name, load), "x"), share, *latencies, middle(column(run_rows, ON)),
            ])  # fmt: skip
    return table(head, rows)


def opened(results):
    head = ["", "load", "rows/s", "p50 ms without", "with", "with / without", "p99 ms without", "with", "with / without", "rows a run"]
    rows = []
    for name, curve in CURVES.items():
        for load in results.loads(name):
            if not load.startswith("open"):
                continue
            cells = []
            for key in ("p50", "p99"):
                cells += [middle(results.values(latency(key), name, load, target).values()) for target in (OFF, ON)]
                cells.append(spread(results.ratio(latency(key), name, load), "x"))
            served = middle(results.values(rate, name, load, ON).values())
            rows.append([name + (" *" if limited(curve) else ""), load.removeprefix("open "), served, *cells,
                         middle(results.values(run_rows, name, load, ON).values())])  # fmt: skip
    return table(head, rows)


def threads(results):
    head = ["", "clients", "rows/s", "vs. 128 threads direct", "refused", "p50 ms", "p99 ms", "server CPU µs a row", "rows a run"]
    rows = []
    for load in ("closed 1", "closed 64"):
        for target in THREADS:
            def column(value, target=target, load=load):
                return results.values(value, "threads", load, target).values()

            if not column(rate):
                continue
            refused, sent = (sum(column(lambda s, key=key: s["groups"]["all"][key])) for key in ("refused", "sent"))
            rows.append([THREAD_TITLES[target], load.split()[1], spread(column(rate)),
                         spread(results.ratio(rate, "threads", load, target, "direct-128"), "x"), f"{100 * refused / sent:.2f} %",
                         middle(column(latency("p50"))), middle(column(latency("p99"))),
                         middle(column(lambda s: s["procs"]["stub"]["us"])), middle(column(run_rows))])  # fmt: skip
    return table(head, rows)


def step(results):
    """By quarters of a second: before the step, its first half second, the rest of it, and after."""
    spans = {"before": range(0, 6), "first 0.5 s": range(6, 8), "the rest": range(8, 14), "after": range(14, 20)}
    head = ["", *(f"{name}: {what}" for name in spans for what in ("rows/s", "p50 ms"))]
    rows = []
    for load in results.loads("step"):
        for target in (OFF, ON):
            cells = []
            for span in spans.values():
                found = [bins_of(s, span) for s in results.samples.get(("step", load, target), {}).values()]
                cells += [middle(r for r, _ in found), middle(p for _, p in found if p is not None)]
            if cells[0] != "-":
                rows.append([f"{load}, {'with' if target == ON else 'without'}", *cells])
    return table(head, rows)


def bins_of(sample, span):
    """(rows a second, median of the p50s in ms) of the quarters of a second in `span`."""
    rows, medians = 0, []
    for group in sample["groups"].values():
        for index in span:
            if index < len(group["bins"]) and group["bins"][index]["rows"]:
                rows += group["bins"][index]["rows"]
                medians.append(group["bins"][index]["latency_us"]["p50"] / 1000)
    return rows / (len(span) / 4), statistics.median(medians) if medians else None


def models(results):
    head = ["", "model", "rows/s", "vs. without", "p50 ms", "p99 ms"]
    rows = []
    for load in results.loads("models"):
        for group in ("recommender", "bert-base"):
            for target in ("direct", OFF, ON):
                def value(sample, group=group):
                    return rate(sample, group)

                def column(of, target=target):
                    return results.values(of, "models", load, target).values()

                rows.append([target, group, spread(column(value)), spread(results.ratio(value, "models", load, target), "x"),
                             middle(column(latency("p50", group))), middle(column(latency("p99", group)))])  # fmt: skip
    return table(head, rows)


def greedy(results):
    head = ["", "client", "rows/s", "p50 ms", "p99 ms"]
    rows = []
    for load, groups in (("polite alone", ["polite"]), ("both", ["polite", "greedy"])):
        for target in (OFF, ON):
            for group in groups:
                def column(of, load=load, target=target):
                    return results.values(of, "greedy", load, target).values()

                served = column(lambda s, group=group: rate(s, group))
                if served:
                    rows.append([f"{load}, {'with' if target == ON else 'without'}", group, spread(served),
                                 spread(column(latency("p50", group))), spread(column(latency("p99", group)))])  # fmt: skip
    return table(head, rows)


def real(results):
    head = ["", "", "rows/s", "vs. plain", "p50 ms", "p99 ms", "server CPU µs a row", "sidecar CPU µs a row"]
    rows = []
    for name in results.loads("real"):
        targets = sorted({t for case, load, t in results.samples if (case, load) == ("real", name)}, key=lambda t: (t == ON, t != "plain", t))
        for target in targets:
            def column(value, name=name, target=target):
                return results.values(value, "real", name, target).values()

            title = {"plain": "plain", ON: "plain, behind the sidecar"}.get(target, f"TensorFlow's batching, {target}")
            rows.append([name, title, spread(column(rate)), spread(results.ratio(rate, "real", name, target, "plain"), "x"),
                         spread(column(latency("p50"))), spread(column(latency("p99"))),
                         middle(column(lambda s: s["procs"]["stub"]["us"])), middle(column(proxy_us))])  # fmt: skip
    return table(head, rows)


def instruction_table(instructions):
    titles = {"S": "S, no batching, 8 requests in flight", "S_batched": "S, a member of a run of 64", "S_one": "S, one client, no batching",
              "S_lone": "S, one client, batching on"}  # fmt: skip
    return table(["", "instructions a request"], [[title, f"{instructions[key]:,}"] for key, title in titles.items() if key in instructions])


if __name__ == "__main__":
    main()
