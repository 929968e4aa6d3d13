"""The table at the top of docs/performance.md: what the sidecar costs beside its peers, and what
it earns. Each row comes from the file of one benchmark; without the file the row is left out."""

import statistics

import batching_report
from batching_real import CLIENTS as REAL_CLIENTS
from batching_real import MODELS as REAL
from figures import cpu, differences, middle, number, p50, ratios

SIDECAR = "tfs-sidecar"
# Columns after the sidecar's own: target and title. The last one is for runs without a proxy.
PEERS = {"bare-hyper": "bare hyper", "envoy": "Envoy", "nginx": "nginx", "haproxy": "HAProxy"}
HEAD = ["", SIDECAR, *PEERS.values(), "no proxy"]
PAYLOADS = ("S", "M", "L", "XL")
CLIENTS = 64
HOW = """\
A figure is the median of its rounds. In parentheses: the sidecar's relative to it, the median of
the ratios within a round. One worker each. *Bare hyper* forwards HTTP/2 with the sidecar's own
library and settings, and reads nothing. Peers are *started* when they accept connections, the
sidecar when it has read the signatures of its models."""
COMMANDS = {"results": "make bench-proxy", "footprint": "make bench-footprint", "batching": "make bench-batching"}
ROWS_OF = {"results": "CPU, latency and answers per second", "footprint": "memory, start and sizes", "batching": "batching"}


class Footprint:
    """The samples of footprint.py that are good."""

    def __init__(self, records):
        self.machine = next((r for r in records if r["record"] == "machine"), None)
        self.records = [r for r in records if r.get("good", True)]

    def values(self, value, kind, **wanted):
        """{round: value of the sample}"""
        found = [r for r in self.records if r["record"] == kind and all(r[key] == want for key, want in wanted.items())]
        return {r.get("round", 0): value(r) for r in found}


def megabytes(key):
    """Of memory, in which a megabyte has 2^20 bytes as elsewhere on the page."""
    return lambda record: record[key] / 1024


def disk(key):
    """Decimal megabytes, in which the limit of the image is given."""
    return lambda record: record[key] / 1e6 if key in record else None


def section(results, footprint, batching, instructions):
    rows = [["**What it costs**"], *cost_rows(results, footprint, instructions), ["**What it earns**"], *earned_rows(results, batching)]
    lines = ["| " + " | ".join(HEAD) + " |", "|---|" + "---:|" * (len(HEAD) - 1)]
    lines += ["| " + " | ".join(row + [""] * (len(HEAD) - len(row))) + " |" for row in rows]
    return "\n\n".join(["## What it costs, what it earns", "\n".join(lines), HOW, runs(results, footprint, batching)])


def runs(results, footprint, batching):
    """When the figures were measured, and what fills the rows that are missing."""
    parts = {"results": results.machine, "footprint": footprint.machine, "batching": batching.machine}
    lines = []
    for name, ran in parts.items():
        if not ran:
            lines.append(f"* Not measured: {ROWS_OF[name]}. `{COMMANDS[name]}` adds these rows.")
            continue
        line = f"* {ROWS_OF[name]}: {ran['date']}, `{COMMANDS[name]}`, {ran['cpu']}, {ran['cpus']} CPUs."
        lines.append(line + (" A quick run to test the benchmark: its figures mean nothing." if ran.get("quick") else ""))
    return "\n".join(capital(line) for line in lines)


def capital(line):
    return line[:2] + line[2].upper() + line[3:]


def row(title, ours, theirs, shown=number):
    """A row with the sidecar's values and those of each peer, by round; `None` if there are none of
    ours."""
    if not ours:
        return None
    cells = [title, shown(statistics.median(ours.values()))]
    for peer in PEERS:
        values = theirs(peer)
        relative = ratios(ours, values)
        ratio = f" ({statistics.median(relative):.2f}x)" if relative else ""
        cells.append(shown(statistics.median(values.values())) + ratio if values else "-")
    return [*cells, "-"]


def alone(title, values):
    """A row that only the sidecar has."""
    return [title, middle(values), *["-"] * (len(PEERS) + 1)] if values else None


def cost_rows(results, footprint, instructions):
    sizes = results.machine["sizes"] if results.machine else {}
    rows = [
        row(f"CPU µs per request, {payload} ({sizes.get(payload, 0):,} bytes)", results.values(cpu, "one", payload, SIDECAR),
            lambda peer, payload=payload: results.values(cpu, "one", payload, peer))
        for payload in PAYLOADS
    ]  # fmt: skip
    for payload in ("S", "M"):
        counts = {name: figures.get(payload) for name, figures in instructions["peers"].items()}
        ours = instructions["per_request"].get(payload)
        rows.append(row(f"instructions per request, {payload}, without the kernel's", {0: ours} if ours else {},
                        lambda peer, counts=counts: {0: counts[peer]} if counts.get(peer) else {}))  # fmt: skip
    rows.append(added_latency(results))
    held = footprint.values(lambda r: r["connections"], "connections", target=SIDECAR)
    connections = f"{statistics.median(held.values()):,.0f}" if held else ""
    for key, title in (("idle_kb", "memory idle, MB"), ("held_kb", f"memory with {connections} idle connections, MB")):
        rows.append(footprint_row(footprint, title, megabytes(key), "connections"))
    rows += sidecar_memory(footprint)
    starts = footprint.values(lambda r: r["ms"], "start", target=SIDECAR, models=1)
    rows.append(row("started after, ms", starts, lambda peer: footprint.values(lambda r: r["ms"], "start", target=peer)))
    many = {r["models"] for r in footprint.records if r["record"] == "start"} - {1}
    for models in sorted(many):
        values = footprint.values(lambda r: r["ms"], "start", target=SIDECAR, models=models)
        rows.append(alone(f"started with {models} models after, ms", values.values()))
    rows.append(footprint_row(footprint, "program on disk, MB", disk("binary_bytes"), "size"))
    image = [size for size in footprint.values(disk("image_bytes"), "size", target=SIDECAR).values() if size]
    rows.append(alone("image (program and certificates), MB", image))
    return [found for found in rows if found]


def footprint_row(footprint, title, value, kind):
    def of(target):
        return footprint.values(value, kind, target=target)

    return row(title, of(SIDECAR), of)


def added_latency(results):
    direct = results.values(p50, "open", "S", "direct")

    def added(target):
        by_round = results.values(p50, "open", "S", target)
        return {n: by_round[n] - direct[n] for n in by_round if n in direct}

    found = row("added p50 at 2,000 S per second, µs", added(SIDECAR), added)
    # A difference may be close to zero or below, so a ratio of two says little.
    return found and [cell.split(" (")[0] if index else cell for index, cell in enumerate(found)]


def sidecar_memory(footprint):
    """Rows of memory that peers have nothing to compare with."""
    for profiles, what in ((False, "no profile"), (True, "a profile each")):
        used = footprint.values(megabytes("used_kb"), "models", profiles=profiles)
        models = {r["models"] for r in footprint.records if r["record"] == "models"}
        yield alone(f"memory, {max(models, default=0)} models in use, {what}, MB", used.values())
    for payload in ("S", "L"):
        peak = footprint.values(megabytes("peak_kb"), "batching", payload=payload, batching=True)
        yield alone(f"peak memory with batching, {CLIENTS} clients of {payload}, MB", peak.values())


def earned_rows(results, batching):
    return [found for found in [limited(results), busy_threads(batching), *real_models(batching)] if found]


def earned(title, ours, without):
    return [title, ours, *["-"] * len(PEERS), without]


def limited(results):
    """Many clients of a server with few threads, which refuses what it has no thread for."""
    samples = [r for r in results.concurrency if r["clients"] == CLIENTS]
    cells = []
    for target in (SIDECAR, "direct"):
        rounds = [r for r in samples if r["target"] == target]
        if not rounds:
            return None
        sent = sum(r["sent"] for r in rounds)
        refused = sum(r["refused"] for r in rounds)
        share = f"{100 * refused / sent:.1f} % refused" if refused else "none refused"
        cells.append(f"{middle(r['rps'] for r in rounds)}, {share}")
    return earned(f"answers per second, {CLIENTS} clients of a server with {samples[0]['threads']} threads", *cells)


def busy_threads(batching):
    """Batching before a server whose calls cost CPU, beside one with a thread for each client."""
    on, base, load = batching_report.ON, "direct-128", f"closed {CLIENTS}"
    rate = batching_report.rate
    relative = batching.ratio(rate, "threads", load, on, base)
    if not relative:
        return None
    ours, theirs = (middle(batching.values(rate, "threads", load, target).values()) for target in (on, base))
    title = f"rows per second with batching, {CLIENTS} clients, calls that cost the server CPU"
    return earned(title, ours, f"{theirs} ({statistics.median(relative):.2f}x) with a thread for each client")


def real_models(batching):
    """Batching beside the best settings of TensorFlow's own."""
    rate = batching_report.rate
    for name in REAL:
        best = batching_report.best_of_grid(batching, name)
        ours = batching.values(rate, "real", name, batching_report.ON)
        relative = batching.ratio(rate, "real", name, batching_report.ON, best) if best else []
        if not relative:
            continue
        theirs = middle(batching.values(rate, "real", name, best).values())
        plain = middle(batching.values(rate, "real", name, "plain").values())
        without = f"{theirs} ({statistics.median(relative):.2f}x) with TensorFlow's own batching at its best; {plain} with none"
        yield earned(f"rows per second with batching, {REAL_CLIENTS} clients, {name} on TensorFlow", middle(ours.values()), without)
