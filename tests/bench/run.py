#!/usr/bin/env python3
"""Measures the sidecar and its peers in interleaved rounds and writes one JSON line per sample.

Modes:
  one          closed loop, the proxy's single worker alone on the last CPU, load and stub on the first
  all          closed loop, two workers, nothing pinned
  open         Poisson arrivals, 2000 S per second, nothing pinned
  memory       starts every proxy afresh and reads its memory before and after load
  concurrency  closed loop, a growing number of clients on a stub that has few threads and refuses
               requests beyond them
"""

import argparse
import os
import platform
import sys
import time
from pathlib import Path

from harness import HERE, OWN, PEERS, SIDECAR, Bench, Records, awake, find, version

# Requests in flight on each of the four connections.
STREAMS = {"S": 16, "M": 16, "L": 16, "XL": 2, "S_nobatch": 16, "S_f64": 16, "L_nobatch": 16}
CONNECTIONS = 4
REPAIRED = ["S_nobatch", "S_f64", "L_nobatch"]
PAYLOADS = {"one": ["S", "M", "L", "XL", *REPAIRED], "all": ["S", "L"], "open": ["S"]}
MEMORY_PAYLOADS = ["L", "XL", "L_nobatch"]
OPEN_RATE = 2000
WORKERS = 2
# TF Serving's default on two cores is eight threads.
THREADS, SERVICE_US = 8, 2000
CLIENTS = {"direct": [1, 2, 4, 8, 16, 64], SIDECAR: [1, 8, 64]}


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--out", default=str(HERE / ".run" / "results.jsonl"))
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--seconds", type=float, default=2.0, help="measurement window of a sample")
    options.add_argument("--warmup", type=float, default=0.5)
    options.add_argument("--modes", default="one,all,open,memory,concurrency")
    options.add_argument("--targets", default="", help="comma-separated, from direct, " + ", ".join(PEERS))
    options.add_argument("--verify-only", action="store_true")
    options = options.parse_args()
    wanted = [t for t in options.targets.split(",") if t] or ["direct", *PEERS]
    Path(options.out).parent.mkdir(parents=True, exist_ok=True)
    with Bench() as bench, open(options.out, "w", buffering=1, encoding="utf-8") as out:
        return Run(bench, out, options, wanted).everything()


class Run(Records):
    def __init__(self, bench, out, options, wanted):
        super().__init__(bench, out, options)
        self.wanted = wanted
        self.cpus = sorted(os.sched_getaffinity(0))

    def everything(self):
        self.stub = self.bench.stub()
        versions = self.start_peers()
        self.write("machine", **machine(self.cpus), versions=versions, rounds=self.options.rounds,
                   seconds=self.options.seconds, sizes=self.bench.sizes)  # fmt: skip
        if not self.verify():
            return 1
        if self.options.verify_only:
            return 0
        modes = self.options.modes.split(",")
        for number in range(self.options.rounds):
            for mode in modes:
                if mode in PAYLOADS:
                    self.round(number, mode)
            if "concurrency" in modes and SIDECAR in self.single:
                self.concurrency(number)
            say(f"round {number + 1} of {self.options.rounds} done, {self.faults} samples with errors")
        if "memory" in modes:
            self.memory()
        return 1 if self.faults else 0

    def start_peers(self):
        """Starts each peer with one worker and with two; skips and reports missing ones; {name:
        version}."""
        self.peers, self.single, self.double, versions = [], {}, {}, {}
        for name in (n for n in PEERS if n in self.wanted):
            path, why = find(name, self.bench.tool)
            try:
                if path:
                    self.single[name] = self.bench.peer(name, 1, self.stub.port)
                    if name not in OWN:
                        self.double[name] = self.bench.peer(name, WORKERS, self.stub.port)
            except RuntimeError as error:
                if name == SIDECAR:
                    raise  # the sidecar is not optional
                self.single.pop(name, None)
                path, why = None, "it failed to start"
                say(str(error))
            if not path:
                say(f"{name} is skipped: {why}")
                self.write("skipped", target=name, why=why)
                continue
            self.peers.append(name)
            if name not in (*OWN, "haproxy-64k"):
                versions[name] = version(name, path)
        return versions

    def verify(self):
        """Checks that each proxy is correct, and that the harness detects it when it is not."""
        passed, failed = 0, []

        def check(what, good, found):
            nonlocal passed
            passed += bool(good)
            if not good:
                failed.append(f"{what}: {found}")

        everyone = [("direct", self.stub), *self.single.items(), *self.double.items()]
        for name, child in everyone:
            for payload in ["S", "M", "L", "XL", *(REPAIRED if name == SIDECAR else [])]:
                count = 20 if payload == "XL" else 100
                self.bench.stub_counts(self.stub, reset=True)
                code, figures = self.exactly(child.port, payload, count)
                seen = self.bench.stub_counts(self.stub)
                right = seen["equal"] + (seen["same"] if payload in REPAIRED else 0)
                good = (code, seen["predict"], right, figures.get("ok")) == (0, count, count, count)
                check(f"{name} delivers {payload}", good, [figures.get("kinds"), seen])
            code, figures = self.exactly(child.port, "S_bad", 20)
            refused = code == 1 and figures["kinds"] == {"grpc-status 3": 20}
            check(f"{name}: a wrong body is detected", refused, figures.get("kinds"))
        code, figures = self.exactly(self.stub.port, "S", 20, expect="S")
        seen = code == 1 and figures["kinds"] == {"wrong: answer differs": 20}
        check("a wrong answer is detected", seen, figures.get("kinds"))
        say(f"verify: {passed} checks passed, {len(failed)} failed")
        for line in failed:
            say("  " + line)
        self.write("verify", passed=passed, failed=failed)
        return not failed

    def exactly(self, port, payload, count, expect="answer"):
        options = ["--requests", count, "--conns", 2, "--streams", 4]
        return self.bench.load(port, payload, *options, expect=expect)

    def targets(self, mode, payload):
        """(name, workers, process or None for the stub itself)"""
        direct = [("direct", 1, None)] if "direct" in self.wanted and payload not in REPAIRED else []
        chosen = self.single if mode == "one" else {**self.single, **self.double}
        workers = 1 if mode == "one" else WORKERS
        listed = [(n, 1 if n in OWN else workers, c) for n, c in chosen.items()]
        if mode == "all" and SIDECAR in self.single:
            listed.append((SIDECAR, 1, self.single[SIDECAR]))
        if payload in REPAIRED:
            listed = [t for t in listed if t[0] == SIDECAR]
        return direct + listed

    def round(self, number, mode):
        for payload in PAYLOADS[mode]:
            targets = self.targets(mode, payload)
            turn = number % len(targets) if targets else 0
            for name, workers, child in targets[turn:] + targets[:turn]:
                if mode == "open":
                    with awake(self.options.seconds + self.options.warmup + 15):
                        self.sample(number, mode, payload, name, workers, child)
                else:
                    self.sample(number, mode, payload, name, workers, child)

    def sample(self, number, mode, payload, name, workers, child):
        near, far = {self.cpus[0]}, {self.cpus[-1]}
        pinned = mode == "one"
        self.stub.pin((near if child else far) if pinned else set(self.cpus))
        groups = [("stub", self.stub)]
        if child:
            child.pin(far if pinned else set(self.cpus))
            groups.append(("proxy", child))
        how = ["--conns", CONNECTIONS, "--streams", STREAMS[payload]]
        how += ["--seconds", self.options.seconds, "--warmup", self.options.warmup]
        if mode == "open":
            how += ["--rate", OPEN_RATE]
        port = child.port if child else self.stub.port
        code, figures = self.bench.load(port, payload, *how, cpus=near if pinned else None, groups=groups)
        self.write("sample", round=number, mode=mode, payload=payload, target=name, workers=workers,
                   good=code == 0, **figures)  # fmt: skip
        if code:
            self.faults += 1
            say(f"round {number} {mode} {payload} {name}: {figures.get('kinds')}")

    def concurrency(self, number):
        """A stub with few threads and a sidecar that has to learn the limit, both restarted in each
        round."""
        stub = self.bench.stub("--max-threads", str(THREADS), "--service-us", str(SERVICE_US))
        child = self.bench.peer(SIDECAR, WORKERS, stub.port)
        for target, port in (("direct", stub.port), (SIDECAR, child.port)):
            for clients in CLIENTS[target]:
                connections = min(CONNECTIONS, clients)
                how = ["--conns", connections, "--streams", clients // connections]
                how += ["--seconds", self.options.seconds, "--warmup", self.options.warmup]
                self.bench.stub_counts(stub, reset=True)
                _, figures = self.bench.load(port, "S", *how)
                exhausted = self.bench.stub_counts(stub)["exhausted"]
                kinds = dict(figures.get("kinds", {}))
                refused = kinds.pop("grpc-status 8", 0)
                self.write("concurrency", round=number, target=target, clients=clients, threads=THREADS,
                           service_us=SERVICE_US, rps=figures.get("rps", 0), sent=figures.get("sent", 0), refused=refused,
                           exhausted=exhausted, other=sum(kinds.values()), latency_us=figures.get("latency_us"))  # fmt: skip
                # Clients may fail without the sidecar: this is what the table shows.
                if target != "direct" and (kinds or refused):
                    self.faults += 1
                    say(f"round {number} concurrency {target} {clients}: {refused} refused, {kinds}")
        child.stop()
        stub.stop()

    def memory(self):
        for name in self.peers:
            for payload in MEMORY_PAYLOADS:
                if payload in REPAIRED and name != SIDECAR:
                    continue
                for workers in (1,) if name in OWN else (1, WORKERS):
                    self.memory_of(name, payload, workers)
        say("memory done")

    def memory_of(self, name, payload, workers):
        child = self.bench.peer(name, workers, self.stub.port)
        self.stub.pin(set(self.cpus))
        time.sleep(0.5)
        idle = child.memory_kb("VmRSS")
        streams = STREAMS[payload]
        code, figures = self.bench.load(
            child.port, payload, "--conns", CONNECTIONS, "--streams", streams, "--seconds", self.options.seconds
        )
        peak = child.memory_kb("VmHWM")
        time.sleep(1)
        after = child.memory_kb("VmRSS")
        child.stop()
        flight = CONNECTIONS * streams * self.bench.sizes[payload]
        self.write("memory", target=name, workers=workers, payload=payload, good=code == 0, idle_kb=idle,
                   peak_kb=peak, after_kb=after, in_flight_bytes=flight)  # fmt: skip
        if code:
            self.faults += 1
            say(f"memory {payload} {name}: {figures.get('kinds')}")


def machine(cpus):
    model, memory = "unknown CPU", 0
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemTotal:"):
            memory = round(int(line.split()[1]) / 1024 / 1024)
    return {"cpu": model, "cpus": len(cpus), "memory_gb": memory, "kernel": platform.release().split("-")[0],
            "date": time.strftime("%Y-%m-%d")}  # fmt: skip


def say(text):
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
