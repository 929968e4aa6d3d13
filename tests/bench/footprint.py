#!/usr/bin/env python3
"""Measures what the sidecar and its peers take without load: start, memory, and size on disk.
Writes one JSON line per sample.

Parts:
  sizes        bytes of the programs, and of what the sidecar's image holds
  start        from exec until the sidecar is ready, or until a peer accepts connections
  connections  memory idle, and with many open connections that have had an answer each
  models       the sidecar's memory with many models, with and without a profile each
  batching     the sidecar's memory under load, with and without batching
"""

import argparse
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

from harness import HERE, REPO, SIDECAR, Bench, Records, clean_environment, find, version
from run import machine, say

TARGETS = ["bare-hyper", "envoy", "nginx", "haproxy", SIDECAR]
PARTS = "sizes,start,connections,models,batching"
WORKERS = 1
CONNECTIONS = 10_000
MODELS = 100
# Of the model behind a profile: as many features as the input of the stub's models has.
PROFILE_ROWS, FEATURES, INPUT = 1000, 128, "input_tensor"
REQUESTS_EACH = 100
# A proxy needs file descriptors for the server and for itself, too.
SPARE_FILES = 1500
# A server with more threads than clients, and one that has too few for the clients of `batching`.
ENOUGH, FEW = "128,1,0", "8,65,1"
CLIENTS = 64
BATCHED = {"S": {}, "L": {"model": "img", "dims": "224x224x3"}}
ON = "{signatures: {serving_default: {batching: {enabled: on, probation: 0}}}}"


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--out", default=str(HERE / ".run" / "footprint.jsonl"))
    options.add_argument("--starts", type=int, default=11)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--connections", type=int, default=CONNECTIONS)
    options.add_argument("--parts", default=PARTS)
    options.add_argument("--targets", default="", help="comma-separated, from " + ", ".join(TARGETS))
    options.add_argument("--quick", action="store_true", help="a few short samples, to test the benchmark")
    options = options.parse_args()
    if options.quick:
        options.starts, options.rounds, options.connections = 3, 1, 500
    files = allow_files()
    if files - SPARE_FILES < options.connections:
        options.connections = files - SPARE_FILES
        say(f"a process may open {files} files: only {options.connections} connections are measured")
    Path(options.out).parent.mkdir(parents=True, exist_ok=True)
    with Bench() as bench, open(options.out, "w", buffering=1, encoding="utf-8") as out:
        return Run(bench, out, options).everything()


def allow_files():
    """Lets this process and its children open as many files as they may: how many that is."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most if most != resource.RLIM_INFINITY else sys.maxsize


def config(models, entry="{}"):
    """A configuration file with an entry for each model, in which MODEL is its name."""
    return "models:\n" + "".join(f"  {model}: {entry.replace('MODEL', model)}\n" for model in models)


def settled(child, seconds=15):
    """Resident kB once they have stayed within 1 % for a second."""
    seen = [child.memory_kb("VmRSS")]
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.25)
        seen.append(child.memory_kb("VmRSS"))
        last = seen[-5:]
        if len(last) == 5 and max(last) - min(last) <= max(last) // 100:
            break
    return seen[-1]


class Run(Records):
    def fault(self, text):
        self.faults += 1
        say(text)

    def everything(self):
        self.paths, versions, skipped = {}, {}, {}
        wanted = [t for t in self.options.targets.split(",") if t] or TARGETS
        for name in wanted:
            path, why = find(name, self.bench.tool)
            if path:
                self.paths[name] = path
            else:
                skipped[name] = why
                say(f"{name} is skipped: {why}")
            if path and path != self.bench.tool:
                versions[name] = version(name, path)
        if SIDECAR in skipped:
            return 2
        self.write("machine", **machine(sorted(os.sched_getaffinity(0))), versions=versions, starts=self.options.starts,
                   rounds=self.options.rounds, quick=self.options.quick)  # fmt: skip
        for name, why in skipped.items():
            self.write("skipped", target=name, why=why)
        for part in self.options.parts.split(","):
            getattr(self, part)()
            say(f"{part} done, {self.faults} samples with errors")
        return 1 if self.faults else 0

    def sizes(self):
        for name, path in self.paths.items():
            if path != self.bench.tool and name != SIDECAR:
                self.write("size", target=name, binary_bytes=os.path.getsize(path))
        if SIDECAR not in self.paths:
            return
        folder = self.bench.folder / "image"
        made = subprocess.run(
            [REPO / "deploy" / "docker" / "context.sh", self.paths[SIDECAR], folder], capture_output=True, text=True
        )
        if made.returncode:
            return self.fault(f"the image: {made.stderr.strip()}")
        files = {file.name: file.stat().st_size for file in folder.iterdir()}
        self.write("size", target=SIDECAR, binary_bytes=files[SIDECAR], image_bytes=sum(files.values()))

    def start(self):
        stub = self.bench.stub("--models", str(MODELS))
        many = config(f"m{n}" for n in range(MODELS))

        def sidecar(models):
            return lambda: self.bench.sidecar(WORKERS, stub.port, models, wait=False)

        launches = [(name, 1, lambda name=name: self.bench.peer(name, WORKERS, stub.port, wait=False))
                    for name in self.paths if name != SIDECAR]  # fmt: skip
        if SIDECAR in self.paths:
            launches += [(SIDECAR, 1, sidecar(config(["m"]))), (SIDECAR, MODELS, sidecar(many))]
        for number in range(self.options.starts):
            turn = number % len(launches)
            for name, models, launch in launches[turn:] + launches[:turn]:
                child = launch()
                wait = child.wait_until_ready if name == SIDECAR else child.wait_for_port
                try:
                    wait(every=0.001)
                    took = time.perf_counter() - child.began
                    self.write("start", round=number, target=name, models=models, ms=took * 1000)
                except RuntimeError as error:
                    self.fault(str(error))
                child.stop()
        stub.stop()

    def connections(self):
        stub = self.bench.stub()
        names = list(self.paths)
        for number in range(self.options.rounds):
            turn = number % len(names)
            for name in names[turn:] + names[:turn]:
                try:
                    with self.launched(name, stub) as child:
                        self.hold(number, name, child)
                except RuntimeError as error:
                    self.fault(str(error))
        stub.stop()

    def launched(self, name, stub):
        if name == SIDECAR:
            return self.bench.sidecar(WORKERS, stub.port, config(["m"]))
        return self.bench.peer(name, WORKERS, stub.port, clients=self.options.connections)

    def hold(self, number, name, child):
        """Memory before any connection, and while all of them are open."""
        wanted, idle = self.options.connections, settled(child)
        argv = [self.bench.tool, "hold", "--target", f"127.0.0.1:{child.port}", "--conns", str(wanted)]
        argv += ["--body", self.bench.body("S"), "--expect", self.bench.body("answer")]
        holder = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            first = json.loads(holder.stdout.readline() or "{}")
            held = settled(child)
            last = json.loads(holder.communicate("", timeout=60)[0] or "{}")
        finally:
            holder.kill()
            holder.wait()
        good = (first.get("answered"), first.get("open"), last.get("open")) == (wanted, wanted, wanted)
        self.write("connections", round=number, target=name, good=good, connections=wanted, idle_kb=idle, held_kb=held,
                   open=last.get("open"), kinds=first.get("kinds"))  # fmt: skip
        if not good:
            self.fault(f"{name} with {wanted} connections: {first}, then {last}")

    def models(self):
        """Many models, each of which answers some requests."""
        stub = self.bench.stub("--models", str(MODELS), "--burn", ENOUGH)
        names = [f"m{n}" for n in range(MODELS)]
        profiles = self.profiles(names)
        for number in range(self.options.rounds):
            for profiled in (False, True):
                entry = f"{{profile: {profiles}/MODEL.yaml}}" if profiled else "{}"
                with self.bench.sidecar(WORKERS, stub.port, config(names, entry)) as child:
                    idle = settled(child)
                    groups = {name: {"model": name} for name in names}
                    code, figures = self.bench.clients(child.port, groups, "--requests", REQUESTS_EACH)
                    self.write("models", round=number, models=MODELS, profiles=profiled, good=code == 0, idle_kb=idle,
                               used_kb=settled(child), peak_kb=child.memory_kb("VmHWM"))  # fmt: skip
                    if code:
                        self.fault(f"{MODELS} models: {faults_of(figures)}")
        stub.stop()

    def profiles(self, names):
        """A folder with a profile for each model, made of rows like those that the clients send."""
        folder = self.bench.folder / "profiles"
        folder.mkdir()
        numbers = random.Random(7)
        with (folder / "rows.jsonl").open("w") as rows:
            for _ in range(PROFILE_ROWS):
                rows.write(json.dumps({INPUT: [numbers.random() for _ in range(FEATURES)]}) + "\n")
        first, *others = (folder / f"{name}.yaml" for name in names)
        argv = [self.paths[SIDECAR], "profile", "build", folder / "rows.jsonl", "--out", first]
        subprocess.run(argv, check=True, env=clean_environment(), stdout=subprocess.DEVNULL)
        for other in others:
            shutil.copy(first, other)
        return folder

    def batching(self):
        stub = self.bench.stub("--burn", FEW)
        for number in range(self.options.rounds):
            for payload, keys in BATCHED.items():
                for on in (False, True):
                    models = config(["m", "img"], ON if on else "{}")
                    with self.bench.sidecar(WORKERS, stub.port, models) as child:
                        self.load(number, payload, keys, on, child)
        stub.stop()

    def load(self, number, payload, keys, on, child):
        idle = settled(child)
        groups = {"all": {**keys, "conns": 4, "streams": CLIENTS // 4}}
        times = ["--warmup", 0.5, "--seconds", 1 if self.options.quick else 3]
        code, figures = self.bench.clients(child.port, groups, *times)
        self.write("batching", round=number, payload=payload, batching=on, good=code == 0, clients=CLIENTS, idle_kb=idle,
                   peak_kb=child.memory_kb("VmHWM"), after_kb=settled(child),
                   in_flight_bytes=CLIENTS * self.bench.sizes[payload])  # fmt: skip
        if code:
            self.fault(f"batching {'on' if on else 'off'}, {payload}: {faults_of(figures)}")


def faults_of(figures):
    return {name: group["kinds"] for name, group in figures["groups"].items() if group["kinds"]} or figures.get("error")


if __name__ == "__main__":
    sys.exit(main())
