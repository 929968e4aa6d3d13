#!/usr/bin/env python3
"""Renders docs/performance.md: first what the sidecar costs and earns, then the bars, then the
samples of run.py as medians, ranges and ratios within a round."""

import argparse
import json
import statistics
import sys
from pathlib import Path

import batching_report
import cost
from cost import SIDECAR
from figures import cpu, differences, middle, number, p50, ratios, records_of, spread, table

BASE = "envoy"
CONFORMING = {"S_nobatch": "S", "S_f64": "S", "L_nobatch": "L"}
TITLES = {"S": "S", "M": "M (packed float_val)", "L": "L", "XL": "XL", "S_nobatch": "S without its batch dimension",
          "S_f64": "S as float64", "L_nobatch": "L without its batch dimension"}  # fmt: skip
INTRO = (
    "What the sidecar costs between a client and TensorFlow Serving, compared with general proxies, and what it earns."
    " Written by `make bench-proxy` and `make bench-footprint`; every figure is from a run, except where marked as written by hand."
)
# CPU per request relative to another proxy's in mode `one`: (proxy, payload, limit, whether it is a
# bar or only a wish). What S and M cost is mostly HTTP/2 and the kernel, so their bars are relative
# to proxies that do little else; Envoy's cost for them differs by a factor of four between hosts.
CPU_BARS = [
    ("bare-hyper", "S", 0.85, True), ("haproxy", "S", 1.00, False), ("bare-hyper", "M", 0.90, True),
    ("haproxy", "M", 0.60, True), (BASE, "L", 0.75, True), (BASE, "L_nobatch", 0.75, True), (BASE, "XL", 0.95, True),
]  # fmt: skip
WORKERS_BAR = 1.10
IDLE_BAR_MB = 12
PEAK_BAR = 3
IMAGE_BAR_MB = 15

METHOD = """\
* **Load** comes from the harness's own generator: 4 connections with 16 streams each (XL: 2) in a
  closed loop, or Poisson arrivals with latency counted from when a request was due, so that a stall
  is not hidden. An answer counts only with HTTP 200, gRPC's content type, `grpc-status: 0`, one
  complete message, and the expected bytes.
* **The upstream** is a stub of TensorFlow Serving on one thread. It compares every arriving body
  with the expected one, also while measuring, and answers with a float [1,10]. A repaired request
  must arrive with the same meaning as the conforming one.
* **Before measuring**, every proxy must deliver S, M, L and XL byte for byte, and a wrong body and a
  wrong answer must be detected as errors.
* **Rounds**: each round measures every proxy once per mode and payload; the order rotates by one
  position from round to round. Ratios are taken within a round and their median is shown; ranges
  are over the rounds. Samples with an error are left out and counted.
* **CPU** is the time that the scheduler gave to all threads of a proxy's processes in the
  measurement window, divided by the answers in it.
* **Modes**: `one`: a single worker alone on the last CPU, generator and stub on the first. `all`:
  two workers, nothing pinned. `open`: 2,000 requests per second, two workers, nothing pinned, and an
  idle-priority spinner on each CPU, because waking a halted virtual CPU takes longer than a request.
* **Memory**: every proxy is started afresh; resident memory before any traffic, and its peak under a
  closed loop.
* **`bare-hyper`** is part of the harness: HTTP/2 on both sides by hyper, with the sidecar's windows
  and frame sizes, one thread, bodies forwarded without reading them. It shows what HTTP/2 costs in
  Rust before anything is done with a request.
* **Settings**: peers run with their defaults, except: no access log; Envoy's timeouts off and circuit
  breakers opened; nginx's limits on requests per connection and on body size lifted. `haproxy-64k`
  has buffers of 64 KiB and windows of 1 MiB. The stub offers all of them frames of 1 MiB and
  windows of 4 MiB per stream.
* **Not covered**: everything runs on loopback without TLS, the stub is not TensorFlow Serving, and
  the generator, the stub and the proxy share the machine. Percentiles beyond p50 mostly show the
  machine's scheduling."""


FOOTPRINT = """\
Each process is started afresh, with one worker and one model. Memory is what is resident once it
no longer changes; a connection has had the answer to one S. nginx and HAProxy are configured for
that many connections and reserve memory for them when they start; nginx is the sum of two
processes. Files are as installed: nginx and HAProxy need shared libraries besides. The image has
nothing but the program, without symbols, and the certificates. The models have a signature of 128
numbers each, and "in use" means 100 requests to each of them."""
RUN = Path(__file__).parent / ".run"
# What no run can measure: why a bar is missed, and what was tried.
TRIED = (Path(__file__).parent / "tried.md").read_text(encoding="utf-8")


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("results", nargs="+", help="from run.py; the figures of several runs are joined")
    options.add_argument("--write", help="the Markdown file to write (default: stdout)")
    options.add_argument("--footprint", default=str(RUN / "footprint.jsonl"))
    options.add_argument("--batching", default=str(RUN / "batching.jsonl"))
    options.add_argument("--instructions", default=str(Path(__file__).parent / "instructions.json"))
    options = options.parse_args()
    records = []
    for index, name in enumerate(options.results):
        for record in records_of(name):
            if "round" in record:
                record["round"] += 10_000 * index  # keeps the rounds of several runs apart
            records.append(record)
    footprint = cost.Footprint(records_of(options.footprint))
    batching = batching_report.Results(records_of(options.batching))
    text = render(Results(records), committed(options.instructions), footprint, batching)
    if options.write:
        Path(options.write).parent.mkdir(parents=True, exist_ok=True)
        Path(options.write).write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)


def committed(path):
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {"per_request": {}, "peers": {}}


class Results:
    def __init__(self, records):
        def of(kind):
            return [r for r in records if r["record"] == kind]

        self.machine = (of("machine") or [None])[-1]
        self.skipped = {r["target"]: r["why"] for r in of("skipped")}
        self.samples = [r for r in of("sample") if r["good"]]
        self.bad = len(of("sample")) - len(self.samples)
        self.memory = [r for r in of("memory") if r["good"]]
        self.verify = of("verify")
        self.concurrency = of("concurrency")

    def values(self, value, mode, payload, target, workers=None):
        """{round: value of the sample}, without samples that have no value."""
        found = {}
        for s in self.samples:
            if (s["mode"], s["payload"], s["target"]) != (mode, payload, target):
                continue
            if workers is not None and s["workers"] != workers:
                continue
            if (v := value(s)) is not None:
                found[s["round"]] = v
        return found


def render(results, instructions, footprint, batching):
    parts = ["# Performance", INTRO, cost.section(results, footprint, batching, instructions)]
    parts += ["## Bars", bars(results, footprint), TRIED.strip()]
    if footprint.machine:
        parts += ["## Footprint", footprint_table(footprint)]
    if results.machine:
        parts += details(results)
    if instructions["per_request"] or instructions["peers"]:
        parts += ["## Instructions", instruction_table(instructions)]
    return "\n\n".join(p for p in parts if p) + "\n"


def details(results):
    parts = ["## The run", run(results), "## Method", METHOD]
    parts += ["## One worker", "Closed loop, a single worker alone on its CPU."]
    payloads = [p for p in TITLES if any(s["payload"] == p and s["mode"] == "one" for s in results.samples)]
    parts += [closed_table(results, "one", payload) for payload in payloads]
    parts += ["## Two workers", "Closed loop, nothing pinned."]
    parts += [closed_table(results, "all", payload) for payload in ("S", "L")]
    parts += ["## Latency at 2,000 requests per second (S)", open_table(results)]
    parts += ["## Memory", memory_table(results)]
    return parts + concurrency(results)


def run(results):
    m = results.machine
    sizes = m["sizes"]
    lines = [
        f"{m['date']}: {m['cpu']}, {m['cpus']} CPUs, {m['memory_gb']} GB, Linux {m['kernel']}. {m['rounds']} rounds,"
        f" windows of {m['seconds']:g} s. {len(results.samples)} samples, {results.bad} more left out because of errors.",
    ]
    if results.verify:
        passed, failed = results.verify[-1]["passed"], len(results.verify[-1]["failed"])
        lines[-1] += f" {passed} correctness checks passed, {failed} failed."
    if results.samples:
        other = [s["other_cores"] for s in results.samples if s["mode"] != "open"]
        if other:
            lines.append(
                f"Other work on the machine took a median of {statistics.median(other):.2f} cores in a closed-loop sample"
                f" (at most {max(other):.2f}): the more it took, the less reliable the figures."
            )
    versions = "\n".join(f"* {name}: {v}" for name, v in m["versions"].items())
    skipped = "\n".join(f"* {name} was skipped: {why}" for name, why in results.skipped.items())
    listed = "\n".join(filter(None, [versions, skipped]))
    bodies = ["| payload | bytes |", "|---|---:|"]
    bodies += [f"| {title} | {sizes[name]:,} |" for name, title in TITLES.items() if name in sizes]
    return "\n\n".join([*lines, listed, "\n".join(bodies)])


def bars(results, footprint):
    rows = ["| bar | required | measured | |", "|---|---|---|---|"]
    for what, wanted, values, limit, required in [*cpu_bars(results), *other_bars(results, footprint)]:
        wanted += "" if required else " (a wish)"
        if not values:
            rows.append(f"| {what} | {wanted} | - | not measured |")
            continue
        missed = "**missed**" if required else "not met"
        rows.append(f"| {what} | {wanted} | {spread(values)} | {'met' if statistics.median(values) <= limit else missed} |")
    return "\n".join(rows)


def cpu_bars(results):
    names = {"envoy": "Envoy", "haproxy": "HAProxy", "bare-hyper": "a bare hyper proxy"}
    for base, payload, limit, required in CPU_BARS:
        ours = results.values(cpu, "one", payload, SIDECAR)
        theirs = results.values(cpu, "one", CONFORMING.get(payload, payload), base)
        title = TITLES[payload] + (" (repaired)" if payload in CONFORMING else "")
        yield f"CPU per request relative to {names[base]}, {title}", f"≤ {limit:.2f}x", ratios(ours, theirs), limit, required


def other_bars(results, footprint):
    for payload in ("S", "L"):
        two = results.values(cpu, "all", payload, SIDECAR, workers=2)
        one = results.values(cpu, "all", payload, SIDECAR, workers=1)
        what = f"CPU per request, two workers relative to one, {payload}"
        yield what, f"≤ {WORKERS_BAR:.2f}x", ratios(two, one), WORKERS_BAR, True
    direct = results.values(p50, "open", "S", "direct")
    ours = differences(results.values(p50, "open", "S", SIDECAR), direct)
    envoy = differences(results.values(p50, "open", "S", BASE), direct)
    limit = statistics.median(envoy) if envoy else 0
    wanted = f"below Envoy's {number(limit)} µs" if envoy else "below Envoy's"
    yield "added p50 at 2,000 S per second, µs", wanted, ours if envoy else [], limit, True
    mine = [r for r in results.memory if r["target"] == SIDECAR]
    yield "idle memory, MB", f"≤ {IDLE_BAR_MB}", [r["idle_kb"] / 1024 for r in mine], IDLE_BAR_MB, True
    for payload in ("L", "XL", "L_nobatch"):
        peaks = [r["peak_kb"] * 1024 / r["in_flight_bytes"] for r in mine if r["payload"] == payload]
        yield f"peak memory relative to bytes in flight, {TITLES[payload]}", f"≤ {PEAK_BAR}x", peaks, PEAK_BAR, True
    sizes = footprint.values(cost.disk("image_bytes"), "size", target=SIDECAR)
    yield "image, MB of 1,000,000 bytes", f"≤ {IMAGE_BAR_MB}", list(sizes.values()), IMAGE_BAR_MB, True


def footprint_table(footprint):
    """Ranges, and what a connection takes."""
    rows = []
    for target in (SIDECAR, *cost.PEERS):
        def column(value, kind, target=target, **wanted):
            return footprint.values(value, kind, target=target, **wanted).values()

        each = column(lambda r: (r["held_kb"] - r["idle_kb"]) / r["connections"], "connections")
        rows.append([target, spread(column(lambda r: r["ms"], "start", models=1)),
                     spread(column(cost.megabytes("idle_kb"), "connections")),
                     spread(column(cost.megabytes("held_kb"), "connections")), spread(each)])  # fmt: skip
    head = ["", "started after ms", "idle MB", "with connections MB", "KB for a connection"]
    rows = [cells for cells in rows if set(cells[1:]) != {"-"}]
    m = footprint.machine
    return f"{FOOTPRINT}\n\n{m['date']}. Starts of each: {m['starts']}. Rounds: {m['rounds']}.\n\n{table(head, rows)}"


def rows_of(results, mode, payload):
    """(target, workers) in a fixed order of targets."""
    order = ["direct", "relay", "bare-hyper", "envoy", "nginx", "haproxy", "haproxy-64k", SIDECAR]
    found = {(s["target"], s["workers"]) for s in results.samples if (s["mode"], s["payload"]) == (mode, payload)}
    return sorted(found, key=lambda t: (order.index(t[0]), t[1]))


def label(target, workers, mode):
    return f"{target}, one worker" if mode == "all" and workers == 1 and target != "direct" else target


def closed_table(results, mode, payload):
    rows = rows_of(results, mode, payload)
    if not rows:
        return ""
    base_payload = CONFORMING.get(payload, payload)
    base_cpu = results.values(cpu, mode, base_payload, BASE)
    base_rate = results.values(lambda s: s["rps"], mode, base_payload, BASE)
    lines = [
        f"**{TITLES[payload]}**" + (f" (relative to Envoy's {base_payload})" if payload in CONFORMING else ""),
        "",
        "| | CPU µs per request | vs. Envoy | user | sys | requests/s | vs. Envoy | cores | p50 µs |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for target, workers in rows:
        def column(value, target=target, workers=workers):
            return results.values(value, mode, payload, target, workers)

        def proxy(key, column=column):
            return column(lambda s: s["procs"].get("proxy", {}).get(key)).values()

        rate = column(lambda s: s["rps"])
        cells = [spread(proxy("us")), spread(ratios(column(cpu), base_cpu), "x"), spread(proxy("user_us")).split(" ")[0],
                 spread(proxy("sys_us")).split(" ")[0], spread(rate.values()), spread(ratios(rate, base_rate), "x"),
                 spread(proxy("cores")).split(" ")[0], spread(column(p50).values())]  # fmt: skip
        lines.append(f"| {label(target, workers, mode)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def open_table(results):
    rows = rows_of(results, "open", "S")
    if not rows:
        return "Not measured."
    direct = results.values(p50, "open", "S", "direct")
    lines = ["| | p50 µs | added to direct | p90 µs | p99 µs | CPU µs per request | sent late, p99 µs |", "|---|---:|---:|---:|---:|---:|---:|"]
    for target, _ in rows:
        def column(value, target=target):
            return results.values(value, "open", "S", target)

        added = differences(column(p50), direct) if target != "direct" else []
        cells = [column(p50).values(), added, column(lambda s: s["latency_us"]["p90"]).values(),
                 column(lambda s: s["latency_us"]["p99"]).values(), column(cpu).values(),
                 column(lambda s: s["late_us"]["p99"]).values()]  # fmt: skip
        lines.append(f"| {target} | " + " | ".join(map(spread, cells)) + " |")
    return "\n".join(lines)


def memory_table(results):
    if not results.memory:
        return "Not measured."
    lines = ["| | workers | payload | in flight MB | idle MB | peak MB | peak vs. bytes in flight | 1 s later MB |",
             "|---|---:|---|---:|---:|---:|---:|---:|"]  # fmt: skip
    for r in results.memory:
        peak = r["peak_kb"] * 1024 / r["in_flight_bytes"]
        cells = [r["in_flight_bytes"] / 2**20, r["idle_kb"] / 1024, r["peak_kb"] / 1024]
        shown = " | ".join(map(number, cells))
        lines.append(f"| {r['target']} | {r['workers']} | {r['payload']} | {shown} | {number(peak)}x | {number(r['after_kb'] / 1024)} |")
    return "\n".join(lines)


def concurrency(results):
    """Many clients and few threads: the throughput with and without the sidecar."""
    if not results.concurrency:
        return []
    threads, service = results.concurrency[0]["threads"], results.concurrency[0]["service_us"]
    rows = ["| | clients | answered/s | refused, seen by clients | refused by the server | p50 µs | p99 µs |", "|---|---:|---:|---:|---:|---:|---:|"]
    found = {}
    for r in results.concurrency:
        found.setdefault((r["target"], r["clients"]), {})[r["round"]] = r
    for (target, clients), rounds in sorted(found.items(), key=lambda item: (item[0][0] != "direct", item[0][1])):
        sent = sum(r["sent"] for r in rounds.values())
        shown = f"{100 * sum(r['refused'] for r in rounds.values()) / sent:.1f} %" if sent else "-"
        answered = spread(r["rps"] for r in rounds.values())
        exhausted = spread(r["exhausted"] for r in rounds.values()).split(" ")[0]
        rows.append(f"| {target} | {clients} | {answered} | {shown} | {exhausted} | "
                    f"{spread(percentiles(rounds, 'p50'))} | {spread(percentiles(rounds, 'p99'))} |")  # fmt: skip
    gains, added = [], []
    rounds = sorted({r["round"] for r in results.concurrency})
    for n in rounds:
        direct = [r for r in results.concurrency if r["round"] == n and r["target"] == "direct" and not r["refused"]]
        best = max((r["rps"] for r in direct), default=0)
        many = max((r["rps"] for (t, c), of in found.items() if (t, c) == (SIDECAR, 64) for r in of.values() if r["round"] == n), default=None)
        if best and many is not None:
            gains.append(many / best)
        one = [found.get((target, 1), {}).get(n) for target in (SIDECAR, "direct")]
        if all(r and r["latency_us"] for r in one):
            added.append(one[0]["latency_us"]["p50"] - one[1]["latency_us"]["p50"])
    lines = [
        f"The stub has {threads} threads, each of which holds a request for {service:,} µs, and refuses further requests as TF Serving"
        " does (`Server Threadpool Exhausted`). Each client sends S in its own closed loop and retries 2 ms after a refusal. The"
        " sidecar has two workers and is restarted in each round, so that it has to learn the limit. Threads and refusals cost the"
        " stub no CPU, but they do cost TF Serving CPU.",
        f"With 64 clients the sidecar reaches {spread(gains, 'x')} of the best direct throughput without refusals."
        f" A single client waits {spread(added, ' µs')} longer than without the sidecar.",
    ]
    return ["## Adaptive concurrency limit", *lines, "\n".join(rows)]


def percentiles(rounds, key):
    return [r["latency_us"][key] for r in rounds.values() if r["latency_us"]]


def instruction_table(kept):
    counts = {**kept["peers"], SIDECAR: kept["per_request"]}
    lines = ["User-space instructions per request with one worker, counted by callgrind. Unlike times they are stable, but they leave out"
             " the kernel, and a large copy counts by its bytes. The sidecar's are the committed figures that `make bench-instructions` checks.", "",
             "| | payload | instructions | vs. Envoy |", "|---|---|---:|---:|"]  # fmt: skip
    for name, figures in counts.items():
        for payload, count in figures.items():
            base = counts.get(BASE, {}).get(CONFORMING.get(payload, payload))
            ratio = f"{count / base:.2f}x" if base else "-"
            lines.append(f"| {name} | {TITLES.get(payload, payload)} | {count:,} | {ratio} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
