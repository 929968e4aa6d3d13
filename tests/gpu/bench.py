#!/usr/bin/env python3
"""Measures models on a GPU behind the sidecar, with and without batching, in interleaved rounds, and
writes one JSON line per sample. `--quick --device cpu` tests the benchmark without a GPU."""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
BENCH = HERE.parent / "bench"
sys.path.insert(0, str(BENCH))

import batching  # noqa: E402
from harness import SIDECAR, Bench, find, free_port, version  # noqa: E402
from run import machine, say  # noqa: E402

NAMES = ("bert-base", "resnet-50", "recommender")
INPUTS = {"bert-base": {"dims": "128"}, "resnet-50": {"dtype": "uint8", "dims": "224x224x3"}, "recommender": {"dims": "39"}}
# By how much a value may differ from that of a lone run, relative to the largest of the answer. Some of
# the 1000 logits are near zero. The others have the default of `proxy-bench`.
TOLERANCES = {"resnet-50": 5e-3}
CLIENTS = (1, 8, 64, 256)
# Settings of a signature, and targets.
SETTINGS = {"off": "", "on": "batching: {enabled: on}", "unchecked": "batching: {enabled: on, probation: 0, verify_sample: 0}"}
METRICS = ("tfs_sidecar_batching{", "tfs_sidecar_batch_divergence_total{", "tfs_sidecar_batch_run_cost_seconds{",
           "tfs_sidecar_batch_row_cost_seconds{", "tfs_sidecar_batch_bypass_total{")  # fmt: skip


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--out", default=str(HERE / ".run" / "gpu.jsonl"))
    options.add_argument("--tool", help="proxy-bench; built if not given")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--device", default="cuda")
    options.add_argument("--models", default=",".join(NAMES))
    options.add_argument("--targets", default="direct,off,on,unchecked", help="from direct, " + ", ".join(SETTINGS))
    options.add_argument("--clients", default=",".join(map(str, CLIENTS)))
    options.add_argument("--learn", type=float, default=8, help="seconds in which each model is learned")
    options.add_argument("--limit", type=float, default=360, help="seconds after which no round begins")
    options.add_argument("--no-tf32", action="store_true", help="multiply in full float32")
    options.add_argument("--quick", action="store_true", help="one round of short samples")
    options = options.parse_args()
    if options.quick:
        options.rounds, options.clients, options.learn = 1, "1,8", 1
    Path(options.out).parent.mkdir(parents=True, exist_ok=True)
    with Bench(options.tool) as bench, open(options.out, "w", buffering=1, encoding="utf-8") as out:
        return Run(bench, out, options).everything()


def config(names, setting):
    lines = ["models:"]
    for name in names:
        lines.append(f"  {name}: {{signatures: {{serving_default: {{{setting}}}}}}}" if setting else f"  {name}: {{}}")
    return "\n".join(lines) + "\n"


def card(device):
    if device != "cuda":
        return {"card": device}
    words = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    name, driver = subprocess.run(words, check=True, capture_output=True, text=True).stdout.splitlines()[0].split(", ")
    return {"card": name, "driver": driver}


class Run(batching.Run):
    def everything(self):
        path, why = find(SIDECAR, self.bench.tool)
        if not path:
            say(why)
            return 2
        options = self.options
        self.began, self.names = time.monotonic(), options.models.split(",")
        self.write("machine", **machine(sorted(os.sched_getaffinity(0))), **card(options.device), version=version(SIDECAR, path),
                   tf32=not options.no_tf32, quick=options.quick)  # fmt: skip
        server = self.server()
        self.rows()
        targets = {}
        for target in options.targets.split(","):
            if target == "direct":
                targets[target] = server.port, None
            else:
                # Half of the CPUs are left for the clients and the server.
                workers = max(1, min(4, len(os.sched_getaffinity(0)) // 4))
                sidecar = self.bench.sidecar(workers, server.port, config(self.names, SETTINGS[target]))
                targets[target] = sidecar.port, sidecar
        self.learn(server, targets)
        for number in range(options.rounds):
            if time.monotonic() - self.began > options.limit:
                say(f"no time for round {number + 1}")
                break
            self.round(number, server, targets)
            say(f"round {number + 1} done after {time.monotonic() - self.began:.0f} s, {self.faults} samples with errors")
        for target, (_, child) in targets.items():
            if child:
                self.state(target, child)
        return 1 if self.faults else 0

    def rows(self):
        """What runs cost, measured without gRPC."""
        argv = [sys.executable, HERE / "rows.py", "--device", self.options.device, "--models", self.options.models]
        argv += ["--most", "4", "--repeat", "2"] if self.options.quick else []
        records = []
        for precision in ([], ["--no-tf32"]):
            done = subprocess.run([*argv, *precision], check=True, stdout=subprocess.PIPE, text=True)
            records += [json.loads(line) for line in done.stdout.splitlines()]
        for record in records:
            kind = record.pop("record")
            self.write(kind, **record)
        self.alone = {r["model"]: r["us"] / 1e6 for r in records if r.get("rows") == 1 and r["tf32"] != self.options.no_tf32}
        say(f"rows measured after {time.monotonic() - self.began:.0f} s")

    def server(self):
        port, admin = free_port(), free_port()
        argv = [sys.executable, HERE / "server.py", "--port", port, "--control", admin, "--device", self.options.device]
        argv += ["--models", self.options.models] + (["--no-tf32"] if self.options.no_tf32 else [])
        server = self.bench.child("server", list(map(str, argv)), port, admin)
        server.wait_for_port(120)
        say(f"server started after {time.monotonic() - self.began:.0f} s")
        return server

    def learn(self, server, targets):
        """Lets every sidecar learn each model, and warms up the server."""
        for name in self.names:
            for target in targets:
                seconds = self.options.learn if SETTINGS.get(target) else 0.5
                self.clients(0, name, 16 if self.options.quick else 64, target, server, targets,
                             load="learning", seconds=seconds, warmup=0, bin=0.5)  # fmt: skip

    def round(self, number, server, targets):
        wanted = list(targets)
        turn = number % len(wanted)
        for name in self.names:
            for clients in map(int, self.options.clients.split(",")):
                for target in wanted[turn:] + wanted[:turn]:
                    # With the sidecar's check on, a model shares runs or does not; one load shows which.
                    if target in ("off", "unchecked") or clients == 64:
                        self.clients(number, name, clients, target, server, targets)
            self.whole(number, name, server)

    def reference(self, name, server):
        tolerance = ["--tolerance", TOLERANCES[name]] if name in TOLERANCES else []
        return ["--reference", f"127.0.0.1:{server.port}", *tolerance]

    def whole(self, number, name, server):
        """Two clients that send the server 64 rows at a time: about what a perfect batcher gets."""
        groups = {"all": {"model": name, **INPUTS[name], "rows": 64, "conns": 2, "streams": 1}}
        options = ["--warmup", 1.5, "--seconds", 1.5, *self.reference(name, server)]
        self.sample(number, name, "64 rows a request", "direct", server.port, groups, *options, pids=[("stub", server)], stub=server)

    def clients(self, number, name, clients, target, server, targets, load=None, seconds=None, warmup=None, bin=None):
        port, child = targets[target]
        # Without batching a request waits for those of all other clients.
        wait = self.alone[name] * (clients if not SETTINGS.get(target) else 1)
        if seconds is None:
            seconds, warmup = min(max(1.0, 2 * wait), 4), min(max(0.5, 1.2 * wait), 2.5)
        # Each client asks once for its reference before it begins, within the warm-up.
        prepare = 1.3 * self.alone[name] * clients
        times = ["--warmup", round(warmup + prepare, 2), "--seconds", round(seconds, 2), *(["--bin", bin] if bin else [])]
        groups = {"all": {"model": name, **INPUTS[name], **batching.spread_over(clients)}}
        pids = [("stub", server)] + ([("proxy", child)] if child else [])
        options = [*times, *self.reference(name, server)]
        self.sample(number, name, load or f"closed {clients}", target, port, groups, *options, pids=pids, stub=server)

    def state(self, target, sidecar):
        """What a sidecar has learned, and whether it still lets requests share runs."""
        lines = [line for line in sidecar.get("/metrics")[1].splitlines() if line.startswith(METRICS)]
        log = Path(sidecar.log).read_text(encoding="utf-8", errors="replace")
        self.write("state", target=target, metrics=lines, log=log[-4000:])


if __name__ == "__main__":
    sys.exit(main())
