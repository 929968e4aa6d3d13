#!/usr/bin/env python3
"""Sends mixed traffic with cancellations, slow clients and upstream restarts, then compares counts.

Fails if a request never ended, if one failed outside a restart, if memory grew, or if the sidecar's
counters differ from what the client saw. `--peer envoy` leaves out the checks specific to the sidecar.
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
import time

from harness import PEERS, SIDECAR, Bench, find

# name, body, share, how; entries with the same model and `how` differ in their body
TRAFFIC = [
    ("S", "S", 40, "ok"),
    ("M", "M", 12, "ok"),
    ("L", "L", 6, "ok"),
    ("XL", "XL", 0.2, "ok"),
    ("early", "L", 2, "cancel-early"),
    ("late", "S_slow", 4, "cancel-late"),
    ("sip", "S", 3, "slow-read"),
    ("drip", "L", 1, "slow-write"),
    ("wrong", "S_bad", 4, "refuse"),
]
REPAIRED = [("S_nobatch", "S_nobatch", 15, "ok"), ("S_f64", "S_f64", 10, "ok"), ("L_nobatch", "L_nobatch", 3, "ok")]
# The model whose requests are cancelled after the whole body: the proxy may count a request as
# answered that we gave up.
LATE_MODEL = "slow"
DOWN_SECONDS = 1.0
# How long requests may still fail after the upstream is back.
RECOVERY_SECONDS = 3.0
GROWTH, GROWTH_KB = 1.10, 4096


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--minutes", type=float, default=10)
    options.add_argument("--rate", type=float, default=300, help="requests per second")
    options.add_argument("--restart-every", type=float, default=60, help="seconds; 0 to never restart")
    options.add_argument("--peer", default=SIDECAR, choices=PEERS)
    options.add_argument("--workers", type=int, default=2)
    options = options.parse_args()
    with Bench() as bench:
        path, why = find(options.peer, bench.tool)
        if not path:
            print(f"soak: {why}", file=sys.stderr)
            return 2
        return soak(bench, options)


def soak(bench, options):
    stub = bench.stub("--slow-us", "30000")
    proxy = bench.peer(options.peer, options.workers, stub.port)
    ours = options.peer == SIDECAR
    argv = [bench.tool, "soak", "--target", f"127.0.0.1:{proxy.port}", "--expect", bench.body("answer")]
    argv += ["--rate", str(options.rate), "--seconds", str(options.minutes * 60)]
    for name, body, share, how in TRAFFIC + (REPAIRED if ours else []):
        argv += ["--mix", f"{name},{bench.body(body)},{share},{how}"]
    output = bench.folder / "soak.json"
    with output.open("w") as out:
        client = subprocess.Popen(argv, stdout=out)
    try:
        windows, memory = watch(client, stub, proxy, options)
    finally:
        client.kill()
        client.wait()
    report = json.loads(output.read_text())
    counters = settled_counters(proxy, report) if ours else None
    faults = judge(report, windows, memory, counters)
    if proxy.process.poll() is not None:
        faults.append(f"{options.peer} exited: {proxy.tail()}")
    tell(report, windows, memory)
    for fault in faults:
        print(f"FAULT {fault}")
    print("soak: " + (f"{len(faults)} faults" if faults else "all counts match"))
    return 1 if faults else 0


def watch(client, stub, proxy, options):
    """Restarts the stub and samples memory until the client exits: ([(down, up again)], [kB])."""
    windows, memory = [], []
    begin = time.monotonic()
    end = begin + options.minutes * 60
    restart = begin + options.restart_every if options.restart_every else end
    while client.poll() is None and time.monotonic() < end + 45:
        memory.append(proxy.memory_kb("VmRSS"))
        if restart <= time.monotonic() < end - 2 * RECOVERY_SECONDS:
            down = time.time()
            stub.kill()
            time.sleep(DOWN_SECONDS)
            stub.start()
            stub.wait_for_port()
            windows.append((down, time.time()))
            restart = time.monotonic() + options.restart_every
        time.sleep(1)
    return windows, memory


def ends(report):
    return {(e["name"], e["end"]): e["count"] for e in report["ends"]}


def settled_counters(proxy, report):
    """The sidecar's counters once they no longer change: the last cancellations may still be in
    progress."""
    last = None
    for _ in range(20):
        now = predict_counters(proxy.get("/metrics")[1])
        if now == last:
            break
        last = now
        time.sleep(0.25)
    return last


SERIES = re.compile(r"^tfs_sidecar_requests_total\{([^}]*)\} ([0-9.eE+]+)$", re.MULTILINE)
LABEL = re.compile(r'(\w+)="([^"]*)"')


def predict_counters(metrics):
    """{(model, outcome, code): count} of Predict; codes in lowercase without underscores."""
    found = {}
    for labels, value in SERIES.findall(metrics):
        labels = dict(LABEL.findall(labels))
        if labels.get("method", "").lower() == "predict":
            code = labels.get("code", "").lower().replace("_", "")
            key = (labels.get("model"), labels.get("outcome"), code)
            found[key] = found.get(key, 0) + int(float(value))
    return found


def judge(report, windows, memory, counters):
    faults = []
    total = sum(e["count"] for e in report["ends"])
    if report["unanswered"] or total != report["sent"]:
        faults.append(f"{report['sent']} sent, {total} ended, {report['unanswered']} never did")
    for when, name, end in report["listed"]:
        inside = any(down - 0.1 <= when <= up + RECOVERY_SECONDS for down, up in windows)
        if end != "unavailable" or not inside:
            faults.append(f"{name} ended with {end} " + ("within" if inside else "outside") + " a restart")
    if len(faults) > 20:
        faults = [*faults[:20], f"and {len(faults) - 20} more"]
    faults += grown(memory)
    return faults + (disagreements(ends(report), counters) if counters is not None else [])


def grown(memory):
    """A fault if the last quarter of the samples is above the first, ignoring the first tenth
    (startup)."""
    settled = memory[len(memory) // 10 :]
    quarter = len(settled) // 4
    if quarter < 3:
        return []
    first, last = statistics.median(settled[:quarter]), statistics.median(settled[-quarter:])
    if last > first * GROWTH + GROWTH_KB:
        return [f"memory grew from {first / 1024:.1f} to {last / 1024:.1f} MB"]
    return []


def disagreements(seen, counters):
    """Compares the client's counts with the sidecar's: exactly, or as a range where cancellations
    count."""
    def ours(end, *names):
        return sum(count for (name, how), count in seen.items() if how == end and name in names)

    def theirs(outcome=None, code=None, late=False):
        return sum(
            count
            for (model, was, status), count in counters.items()
            if (model == LATE_MODEL) == late and outcome in (None, was) and code in (None, status)
        )

    repaired = [name for name, *_ in REPAIRED]
    plain = [name for name, _, _, how in TRAFFIC if how in ("ok", "slow-read", "slow-write")]
    pairs = [
        ("conforming and OK", ours("ok", *plain), theirs("conforming", "ok")),
        ("repaired and OK", ours("ok", *repaired), theirs("repaired", "ok")),
        ("rejected", ours("refused", "wrong"), theirs("rejected", "invalidargument")),
    ]
    faults = [f"{what}: the client saw {a}, the sidecar counted {b}" for what, a, b in pairs if a != b]
    # A cancelled request may have ended either way in the sidecar.
    ranges = [
        ("UNAVAILABLE", ours("unavailable", *plain, *repaired), ours("cancelled", "early"), theirs(code="unavailable")),
        ("OK with cancellations", ours("ok", "late"), ours("cancelled", "late"), theirs(code="ok", late=True)),
    ]
    for what, least, given_up, found in ranges:
        if not least <= found <= least + given_up:
            faults.append(f"{what}: expected {least} to {least + given_up}, the sidecar counted {found}")
    return faults


def tell(report, windows, memory):
    print(f"{report['sent']} requests, {len(windows)} upstream restarts")
    for (name, end), count in sorted(ends(report).items()):
        print(f"  {name:10} {end:20} {count:8}")
    if memory:
        print(f"memory MB: first {memory[0] / 1024:.1f}, last {memory[-1] / 1024:.1f}, peak {max(memory) / 1024:.1f}")


if __name__ == "__main__":
    sys.exit(main())
