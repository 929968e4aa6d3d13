#!/usr/bin/env python3
"""Counts the instructions a proxy spends per request, with callgrind.

The count does not depend on other load on the machine. The proxy runs twice per payload, for few
requests and for many; the difference of the two counts leaves out startup and shutdown.
"""

import argparse
import json
import re
import sys
from pathlib import Path

from harness import HERE, PEERS, SIDECAR, Bench, find

# Requests in the short and in the long run. The difference is large, because startup varies.
RUNS = {"S": (500, 4500), "M": (500, 4500), "S_nobatch": (500, 4500), "S_f64": (500, 4500), "S_traced": (500, 4500), "S_watched": (500, 4500), "S_traced_all": (500, 4500)}
STREAMS = 8
# Clients that send S to a stub that computes rows: (runs, clients, `batching` or nothing). With a long
# `max_delay` every run has the rows of all clients, however slow callgrind makes them.
FULL = "{enabled: on, probation: 0, max_rows: 64, max_delay: 10s}"
CLIENTS = {
    "S_one": ((500, 4500), 1, ""),
    "S_lone": ((500, 4500), 1, "{enabled: on, probation: 0}"),
    "S_batched": ((640, 6400), 64, FULL),
}
# Initializes a value on first use; not counted.
ONCE = "once_cell::imp::OnceCell<T>::initialize"
# The share of the requests of S that are traced, and its access log; the stub takes the traces.
TRACED = {"S_traced": (0.01, "off"), "S_watched": (0.01, "all"), "S_traced_all": (1, "off")}
# The most that a case may take of another in the same run. The client's half of HTTP/2 and the checks,
# which batching does not save, are more than half of S (docs/batching.md).
BARS = {"S_lone": ("S_one", 1.03), "S_batched": ("S", 0.9), "S_traced": ("S", 1.02), "S_watched": ("S", 1.1)}


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--peer", default=SIDECAR, choices=PEERS)
    options.add_argument("--payloads", default="")
    options.add_argument("--update", action="store_true", help="write the figures to the file")
    options.add_argument("--figures", type=Path, default=HERE / "instructions.json")
    options = options.parse_args()
    repairs = options.peer == SIDECAR
    payloads = [p for p in options.payloads.split(",") if p] or [p for p in [*RUNS, *CLIENTS] if repairs or p in "SM"]
    if not repairs and any(p in CLIENTS for p in payloads):
        print("instructions: only the sidecar batches", file=sys.stderr)
        return 2
    with Bench() as bench:
        path, why = find(options.peer, bench.tool)
        if not path:
            print(f"instructions: {why}", file=sys.stderr)
            return 2
        figures = {payload: per_request(bench, options.peer, payload) for payload in payloads}
    kept = json.loads(options.figures.read_text(encoding="utf-8"))
    mine = kept["per_request"] if repairs else kept["peers"].setdefault(options.peer, {})
    if options.update:
        mine.update(figures)
        options.figures.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")
    if not repairs:
        print("\n".join(f"{p}: {n:,} instructions per request" for p, n in figures.items()))
        return 0
    # How reads are split varies from run to run and can only add instructions. So a figure that
    # looks too high is counted again, and the lowest counts.
    for _ in range(4):
        for payload in [p for p in figures if more(figures[p], kept["per_request"].get(p), kept["tolerance"])]:
            figures[payload] = min(figures[payload], per_request_again(payload))
        for payload in exceeding(figures):
            for counted in (payload, BARS[payload][0]):
                figures[counted] = min(figures[counted], per_request_again(counted))
    lines, good = compare(figures, kept["per_request"], kept["tolerance"])
    ratios, within = bars(figures)
    print("\n".join(lines + ratios))
    return 0 if good and within else 1


def more(now, before, tolerance):
    """Whether a figure exceeds the committed one by more than the tolerance."""
    return before is not None and now > before * (1 + tolerance)


def per_request_again(payload):
    """Counts one figure of the sidecar again."""
    with Bench() as bench:
        return per_request(bench, SIDECAR, payload)


def compare(figures, kept, tolerance):
    """(lines to print, whether all is well). A figure fails if it is too high or not committed
    yet."""
    lines, good = [], True
    for payload, now in figures.items():
        before = kept.get(payload)
        if before is None:
            lines.append(f"{payload}: {now:,} instructions per request, but no figure is committed (run with --update)")
            good = False
            continue
        change = now / before - 1
        word = "ok"
        if change > tolerance:
            word, good = f"MORE than the tolerance of {tolerance:.0%}", False
        elif change < -tolerance:
            word = "less (commit the new figure with --update)"
        lines.append(f"{payload}: {now:,} instructions per request, committed {before:,} ({change:+.1%}): {word}")
    return lines, good


def exceeding(figures):
    """The cases that take more of others than they may."""
    known = [p for p, (base, _) in BARS.items() if p in figures and base in figures]
    return [p for p in known if figures[p] > figures[BARS[p][0]] * BARS[p][1]]


def bars(figures):
    """(lines to print, whether all is well) of the cases that are bounded by others."""
    lines, good = [], True
    for payload, (base, most) in BARS.items():
        if payload in figures and base in figures:
            ratio = figures[payload] / figures[base]
            word = "ok" if ratio <= most else "MORE"
            good = good and ratio <= most
            lines.append(f"{payload}: {ratio:.2f}x of {base}, at most {most:g}x: {word}")
    return lines, good


def per_request(bench, peer, payload):
    few, many = RUNS.get(payload) or CLIENTS[payload][0]
    return round((count(bench, peer, payload, many) - count(bench, peer, payload, few)) / (many - few))


def count(bench, peer, payload, requests):
    """Instructions of one run: startup, the requests on one connection, shutdown."""
    out = bench.folder / f"callgrind-{bench.started}"
    prefix = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}"]
    if payload in CLIENTS:
        _, clients, batching = CLIENTS[payload]
        stub = bench.stub("--curve", "m,sum,0,0,1")
        signature = f"{{serving_default: {{batching: {batching}}}}}" if batching else "{}"
        proxy = bench.sidecar(1, stub.port, f"models: {{m: {{signatures: {signature}}}}}\n", prefix)
        code, figures = bench.clients(proxy.port, {"all": {"streams": clients}}, "--requests", requests)
    elif payload in TRACED:
        stub = bench.stub()
        share, access_log = TRACED[payload]
        traces = f"otlp_endpoint: 127.0.0.1:{stub.port}\notlp_sample: {share}\naccess_log: {access_log}\n"
        proxy = bench.sidecar(1, stub.port, f"{traces}models: {{m: {{}}}}\n", prefix)
        code, figures = bench.load(proxy.port, "S", "--requests", requests, "--conns", 1, "--streams", STREAMS)
    else:
        stub = bench.stub()
        proxy = bench.peer(peer, 1, stub.port, prefix, single=True)
        code, figures = bench.load(proxy.port, payload, "--requests", requests, "--conns", 1, "--streams", STREAMS)
    proxy.stop(60)
    stub.stop()
    if code:
        raise SystemExit(f"instructions: {peer} failed on {payload}: {figures.get('kinds') or figures.get('groups')}\n{proxy.tail()}")
    return sum(total(file.read_text()) for file in bench.folder.glob(out.name + "*"))


def total(dump):
    """The total of a callgrind output file, without what runs only once.

    The clock of the metrics exporter calibrates itself: 8 to 13 million instructions, by chance."""
    found = re.search(r"^(?:summary|totals): (\d+)", dump, re.MULTILINE)
    if not found:
        raise ValueError("callgrind wrote no total")
    return int(found[1]) - sum(int(call[1]) for name in ids_of(ONCE, dump) for call in calls_of(name, dump))


def ids_of(function, dump):
    """The numbers by which callgrind abbreviates the name of a function after its first use."""
    return re.findall(rf"^c?fn=(\(\d+\)) {re.escape(function)}$", dump, re.MULTILINE)


def calls_of(name, dump):
    """The calls of a function; their first group is what they cost with all that they call."""
    return re.finditer(rf"^cfn={re.escape(name)}.*\ncalls=.*\n\S+ (\d+)$", dump, re.MULTILINE)


if __name__ == "__main__":
    sys.exit(main())
