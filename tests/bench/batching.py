#!/usr/bin/env python3
"""Measures what batching gains and costs, in interleaved rounds, and writes one JSON line per sample.

Parts:
  curves   a stub whose runs cost what those of real models do, under closed and open loops
  threads  a stub with the threads and the CPU cost of a real server
  step     a sudden load
  models   two models on one accelerator
  greedy   a client with 1000 requests in flight beside one with a single request
  real     models on the TensorFlow runtime, beside TensorFlow's own batching (needs .venv)
"""

import argparse
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import batching_real
from harness import HERE, SIDECAR, Bench, Records, find, version
from run import machine, say

WORKERS = 2
CONNECTIONS = 4
MAX_ROWS = 64
# Beyond this the generator, the stub and two CPUs decide, not the curve.
MAX_END_TO_END = 10_000
MODELS = ("m", "slow")
BATCHING = "batching: {enabled: on, probation: 0}"


@dataclass(frozen=True)
class Curve:
    """The cost of a run in microseconds: `run + row x rows`, or the larger of the two."""

    kind: str
    run: float
    row: float
    workers: int

    def cost(self, rows):
        return self.run + self.row * rows if self.kind == "sum" else max(self.run, self.row * rows)

    def option(self, model="m", pool=""):
        words = [model, self.kind, self.run, self.row, self.workers, *filter(None, [pool])]
        return ["--curve", ",".join(map(str, words))]

    def alone(self, clients):
        """Rows a second without batching."""
        return min(clients, self.workers) * 1e6 / self.cost(1)

    def best(self, clients):
        """Rows a second of a batcher that knows the curve, before many clients of one row."""
        found = 0
        for runs in range(1, self.workers + 1):
            rows = min(MAX_ROWS, clients // runs)
            found = max([found, *(runs * b * 1e6 / self.cost(b) for b in range(1, rows + 1))])
        return found


CURVES = {
    "cnn, 2 CPUs": Curve("sum", 5500, 3800, 2),
    "mlp, 2 CPUs": Curve("sum", 1000, 100, 2),
    "dense, 2 CPUs": Curve("sum", 45, 1, 2),
    "bert-base, GPU": Curve("max", 7600, 127, 1),
    "resnet-50, GPU": Curve("max", 3600, 175, 1),
    "mobilenet, GPU": Curve("max", 3900, 74, 1),
    "recommender, GPU": Curve("max", 1170, 0, 1),
    "mlp, GPU": Curve("max", 217, 1.7, 1),
    "dense, GPU": Curve("max", 136, 0, 1),
}
TARGETS = ("direct", "off", "on")
# THREADS of the stub, the targets before it, and the clients
THREADS = {"direct-8": 8, "direct-128": 128, "off": 8, "on": 8}
# With what HTTP/2 costs the stub, a call takes about 90 us of CPU.
CALL_US, ROW_US = 65, 1


def limited(curve):
    """Whether more than the curve limits the rows a second here."""
    return curve.best(MAX_ROWS) > MAX_END_TO_END


def spread_over(clients):
    """The keys of a group of clients in closed loops."""
    connections = min(CONNECTIONS, clients)
    return {"conns": connections, "streams": clients // connections}


def loads(curve):
    """{name of a load: (keys of its clients, targets, seconds of warm-up, of the window)}"""
    found = {}
    few = curve.alone(64) > MAX_END_TO_END / 3
    for clients in (1, 64) if few or curve.best(64) > 3 * MAX_END_TO_END else (1, 8, 64, 256):
        # A sample takes several times as long as a request waits without batching.
        wait = clients / curve.alone(clients)
        times = min(max(0.3, 1.5 * wait), 2.5), min(max(0.7, 2 * wait), 3.0)
        targets = TARGETS if clients in (1, 64) else TARGETS[1:]
        found[f"closed {clients}"] = (spread_over(clients), targets, *times)
    capacity = min(curve.alone(64), MAX_END_TO_END)
    for share in (60,) if few else (30, 60, 90):
        keys = {"conns": CONNECTIONS, "rate": round(capacity * share / 100)}
        found[f"open {share} %"] = (keys, TARGETS[1:], 0.3, 1.2)
    if not limited(curve):
        keys = {"conns": CONNECTIONS, "rate": round(curve.best(256) * 0.6)}
        found["open 60 % of batched"] = (keys, TARGETS[2:], 0.5, 1.2)
    return found


def config(batching, *limits):
    lines = [*limits, "models:"]
    for model in MODELS:
        inner = f"{{signatures: {{serving_default: {{{BATCHING}}}}}}}" if batching else "{}"
        lines.append(f"  {model}: {inner}")
    return "\n".join(lines) + "\n"


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--out", default=str(HERE / ".run" / "batching.jsonl"))
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--parts", default="curves,threads,step,models,greedy,real")
    options.add_argument("--curves", default="", help="a comma-separated part of their names")
    options.add_argument("--quick", action="store_true", help="one round of a few short samples, to test the benchmark")
    options = options.parse_args()
    if options.quick:
        options.rounds, options.parts, options.curves = 1, "curves,threads,greedy", "bert-base"
    Path(options.out).parent.mkdir(parents=True, exist_ok=True)
    with Bench() as bench, open(options.out, "w", buffering=1, encoding="utf-8") as out:
        return Run(bench, out, options).everything()


class Run(Records):
    def everything(self):
        path, why = find(SIDECAR, self.bench.tool)
        if not path:
            say(why)
            return 2
        began = time.monotonic()
        self.write("machine", **machine(sorted(os.sched_getaffinity(0))), version=version(SIDECAR, path),
                   rounds=self.options.rounds, quick=self.options.quick)  # fmt: skip
        parts = self.options.parts.split(",")
        real = None
        if "real" in parts:
            real = batching_real.prepare(self.bench, self)
        for number in range(self.options.rounds):
            for part in parts:
                if part != "real":
                    getattr(self, part)(number)
                elif real:
                    real.round(number)
            took = time.monotonic() - began
            say(f"round {number + 1} of {self.options.rounds} done after {took:.0f} s, {self.faults} samples with errors")
        return 1 if self.faults else 0

    def sample(self, number, case, load, target, port, groups, *options, pids=(), stub=None, may_refuse=False):
        """Measures once. A sample with a wrong, missing, failed or refused answer is not good."""
        if stub:
            self.bench.stub_counts(stub, reset=True)
        code, figures = self.bench.clients(port, groups, *options, pids=pids)
        seen = self.bench.stub_counts(stub) if stub else {}
        kinds = {name: group["kinds"] for name, group in figures["groups"].items() if group["kinds"]}
        failed = [g["wrong"] + g["missing"] + g["errors"] + g["not_sent"] for g in figures["groups"].values()]
        good = code == 0 or (may_refuse and bool(failed) and not any(failed) and all(g["done"] for g in figures["groups"].values()))
        self.write("sample", round=number, case=case, load=load, target=target, good=good, runs=seen.get("predict", 0),
                   run_rows=seen.get("rows", 0), exhausted=seen.get("exhausted", 0), **figures)  # fmt: skip
        if not good:
            self.faults += 1
            say(f"round {number} {case}, {load}, {target}: {kinds or figures.get('error') or 'no answers'}")

    def started(self, stub, *limits):
        """The port and the processes of each target."""
        off, on = (self.bench.sidecar(WORKERS, stub.port, config(batching, *limits)) for batching in (False, True))
        return {"direct": (stub.port, None), "off": (off.port, off), "on": (on.port, on)}

    def stop(self, stub, targets):
        for _, child in targets.values():
            if child:
                child.stop()
        stub.stop()

    def measure(self, number, case, load, groups, stub, targets, wanted, *options):
        turn = number % len(wanted)
        for target in wanted[turn:] + wanted[:turn]:
            port, child = targets[target]
            pids = [("stub", stub)] + ([("proxy", child)] if child else [])
            self.sample(number, case, load, target, port, groups, *options, pids=pids, stub=stub)

    def curves(self, number):
        for name, curve in CURVES.items():
            if self.options.curves not in name:
                continue
            stub = self.bench.stub(*curve.option())
            targets = self.started(stub)
            for load, (keys, wanted, warmup, seconds) in loads(curve).items():
                if self.options.quick and load not in ("closed 8", "closed 64"):
                    continue
                times = ["--warmup", warmup, "--seconds", seconds]
                self.measure(number, name, load, {"all": keys}, stub, targets, wanted, *times)
            self.stop(stub, targets)

    def threads(self, number):
        """A server with few threads and many clients."""
        wanted = list(THREADS)
        turn = number % len(wanted)
        for target in wanted[turn:] + wanted[:turn]:
            stub = self.bench.stub("--burn", f"{THREADS[target]},{CALL_US},{ROW_US}")
            child = self.bench.sidecar(WORKERS, stub.port, config(target == "on")) if target in TARGETS else None
            pids = [("stub", stub)] + ([("proxy", child)] if child else [])
            port = child.port if child else stub.port
            for clients in (64,) if self.options.quick else (1, 64):
                times = ["--warmup", 0.5, "--seconds", 1 if self.options.quick else 2]
                groups = {"all": spread_over(clients)}
                direct = child is None
                self.sample(number, "threads", f"closed {clients}", target, port, groups, *times, pids=pids, stub=stub,
                            may_refuse=direct)  # fmt: skip
            self.stop(stub, {target: (port, child)})

    def step(self, number):
        """Few clients, and many more for two seconds."""
        for name in ("bert-base, GPU", "mlp, 2 CPUs"):
            stub = self.bench.stub(*CURVES[name].option())
            targets = self.started(stub)
            groups = {"base": spread_over(4), "step": {**spread_over(64), "from": 1.5, "until": 3.5}}
            times = ["--warmup", 0.5, "--seconds", 5, "--bin", 0.25]
            self.measure(number, "step", name, groups, stub, targets, TARGETS[1:], *times)
            self.stop(stub, targets)

    def models(self, number):
        """Two models that share one accelerator."""
        fast, slow = CURVES["recommender, GPU"], CURVES["bert-base, GPU"]
        stub = self.bench.stub(*fast.option("m", "gpu"), *slow.option("slow", "gpu"))
        targets = self.started(stub)
        groups = {"recommender": spread_over(32), "bert-base": {**spread_over(32), "model": "slow"}}
        times = ["--warmup", 1, "--seconds", 2]
        self.measure(number, "models", "32 clients each", groups, stub, targets, TARGETS, *times)
        self.stop(stub, targets)

    def greedy(self, number):
        """One client with many requests in flight beside one with a single request."""
        stub = self.bench.stub(*CURVES["resnet-50, GPU"].option())
        # By default a client that holds 1000 of 1024 requests is refused more.
        targets = self.started(stub, "limits: {max_inflight_requests: 4096}")
        polite, greedy = {"conns": 1, "streams": 1}, {"conns": 1, "streams": 1000}
        times = ["--warmup", 1, "--seconds", 1 if self.options.quick else 2]
        self.measure(number, "greedy", "polite alone", {"polite": polite}, stub, targets, TARGETS[1:], *times)
        both = {"polite": polite, "greedy": greedy}
        self.measure(number, "greedy", "both", both, stub, targets, TARGETS[1:], *times)
        self.stop(stub, targets)


if __name__ == "__main__":
    sys.exit(main())
