"""Finds, starts, pins, observes and stops the processes of a benchmark."""

import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import string
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPO = HERE.parent.parent
SIDECAR = "tfs-sidecar"
HAPROXY_64K = "tune.bufsize 65536\n    tune.h2.initial-window-size 1048576"


def target_dir(package):
    return Path(os.environ.get("CARGO_TARGET_DIR") or package / "target")


def build_tool():
    """Builds proxy-bench and returns its path."""
    subprocess.run(["cargo", "build", "--release", "--quiet", "--locked"], cwd=HERE, check=True)
    return str(target_dir(HERE) / "release" / "proxy-bench")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def clean_environment():
    """The environment without what configures a sidecar."""
    return {k: v for k, v in os.environ.items() if not k.startswith("TFS_SIDECAR_")}


class Child:
    """A process we started: it serves gRPC on `port` and its status on `admin`."""

    def __init__(self, name, argv, port, admin=None, log=None, env=None):
        self.name, self.argv, self.port, self.admin, self.log = name, argv, port, admin, log
        self.env = env
        self.start()

    def start(self):
        with open(self.log or os.devnull, "ab") as log:
            self.began = time.perf_counter()
            self.process = subprocess.Popen(
                self.argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.env
            )

    def wait_for_port(self, seconds=20, every=0.02):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.name} ended with {self.process.returncode}: {self.tail()}")
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(every)
        raise RuntimeError(f"{self.name} does not accept connections: {self.tail()}")

    def wait_until_ready(self, seconds=30, every=0.02):
        """For the sidecar: waits until its admin server reports that the signatures have been
        read."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.process.poll() is None:
            with contextlib.suppress(OSError):
                if self.get("/readyz")[0] == 200:
                    return
            time.sleep(every)
        raise RuntimeError(f"{self.name} is not ready: {self.tail()}")

    def get(self, path):
        """(status, text) from the admin server."""
        connection = http.client.HTTPConnection("127.0.0.1", self.admin, timeout=5)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def tail(self):
        try:
            return Path(self.log).read_text(errors="replace")[-600:]
        except (OSError, TypeError):
            return "no log"

    def pids(self):
        """This process and its children, such as nginx's workers."""
        return [self.process.pid, *children(self.process.pid)]

    def pin(self, cpus):
        for pid in self.pids():
            with contextlib.suppress(OSError):
                for thread in os.listdir(f"/proc/{pid}/task"):
                    os.sched_setaffinity(int(thread), cpus)

    def memory_kb(self, key):
        """VmRSS or VmHWM, summed over all pids."""
        total = 0
        for pid in self.pids():
            with contextlib.suppress(OSError):
                for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                    if line.startswith(key + ":"):
                        total += int(line.split()[1])
        return total

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self, seconds=10):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                self.kill()


def children(parent):
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError, IndexError, ValueError):
                stat = Path(f"/proc/{entry}/stat").read_text()
                if int(stat.rsplit(") ", 1)[1].split()[1]) == parent:
                    found.append(int(entry))
    return found


class Records:
    """A measurement that writes one JSON line per sample, and counts those with errors."""

    def __init__(self, bench, out, options):
        self.bench, self.out, self.options = bench, out, options
        self.faults = 0

    def write(self, kind, **fields):
        self.out.write(json.dumps({"record": kind, **fields}) + "\n")


class Bench:
    """A run: its folder, the tool, the bodies, and every process it started. Stops all of them at
    exit."""

    def __init__(self, tool=None):
        self.tool = tool or build_tool()
        self.stack = contextlib.ExitStack()
        self.started = 0

    def __enter__(self):
        # Terminating this process must stop its children too.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        self.folder = Path(self.stack.enter_context(tempfile.TemporaryDirectory(prefix="proxy-bench-")))
        self.folder.chmod(0o755)  # nginx's workers run as another user
        self.bodies = self.folder / "bodies"
        listing = subprocess.run(
            [self.tool, "payloads", str(self.bodies)], check=True, capture_output=True, text=True
        )
        self.sizes = {name: int(size) for name, size in map(str.split, listing.stdout.splitlines())}
        return self

    def __exit__(self, *error):
        return self.stack.__exit__(*error)

    def body(self, name):
        return str(self.bodies / f"{name}.grpc")

    def child(self, name, argv, port, admin=None, clean_env=False):
        self.started += 1
        env = clean_environment() if clean_env else None
        child = Child(name, argv, port, admin, self.folder / f"{self.started}-{name}.log", env)
        self.stack.callback(child.stop)
        return child

    def stub(self, *options):
        port, control = free_port(), free_port()
        argv = [self.tool, "stub", "--listen", f"127.0.0.1:{port}", "--control", f"127.0.0.1:{control}"]
        for name in ("S", "M", "L", "XL", "S_slow"):
            argv += ["--check", self.body(name)]
        stub = self.child("stub", [*argv, *options], port, control)
        stub.wait_for_port()
        return stub

    def stub_counts(self, stub, reset=False):
        with socket.create_connection(("127.0.0.1", stub.admin), 5) as s:
            s.sendall(b"r" if reset else b"s")
            return json.loads(s.makefile().read())

    def peer(self, name, workers, upstream_port, prefix=(), single=False, clients=None, wait=True):
        """Starts a peer. `prefix` is put before its command; `single` keeps nginx in one process;
        `clients` are the connections that it must be able to accept."""
        path, why = find(name, self.tool)
        if not path:
            raise RuntimeError(why)
        port, admin = free_port(), free_port()
        argv = self.command(name, path, workers, port, admin, upstream_port, single, clients)
        child = self.child(name, [*prefix, *argv], port, admin, clean_env=True)
        if not wait:
            return child
        patience = 120 if prefix else 20
        child.wait_for_port(patience)
        if name == SIDECAR:
            child.wait_until_ready(patience)
        return child

    def sidecar(self, workers, upstream_port, config, prefix=(), wait=True):
        """Starts the sidecar with the text of a configuration file."""
        path, why = find(SIDECAR, self.tool)
        if not path:
            raise RuntimeError(why)
        port, admin = free_port(), free_port()
        file = self.folder / f"sidecar-{port}.yaml"
        file.write_text("drain_delay: 0s\n" + config)
        argv = [path, "run", "--config", str(file), "--upstream", f"127.0.0.1:{upstream_port}"]
        argv += ["--listen", f"127.0.0.1:{port}", "--admin-listen", f"127.0.0.1:{admin}", "--workers", str(workers)]
        child = self.child(SIDECAR, [*prefix, *argv], port, admin, clean_env=True)
        if not wait:
            return child
        patience = 120 if prefix else 20
        child.wait_for_port(patience)
        child.wait_until_ready(patience)
        return child

    def command(self, name, path, workers, port, admin, upstream_port, single, clients):
        upstream = f"127.0.0.1:{upstream_port}"
        folder = self.folder / f"{name}-{port}"
        folder.mkdir()
        words = {
            "PORT": port, "ADMIN": admin, "UPSTREAM_PORT": upstream_port, "WORKERS": workers,
            "FOLDER": folder, "MASTER": "off" if single else "on",
            "TUNE": HAPROXY_64K if name == "haproxy-64k" else "", "HAPROXY_CONNECTIONS": clients or 4096,
            # nginx counts its connections to the server too.
            "NGINX_CONNECTIONS": clients + 1024 if clients else 8192,
        }  # fmt: skip

        def config(template):
            file = folder / template
            file.write_text(string.Template((HERE / "peers" / template).read_text()).substitute(words))
            return str(file)

        if name == "envoy":
            options = ["--concurrency", str(workers), "--disable-hot-restart", "-l", "warn"]
            return [path, "-c", config("envoy.yaml"), *options]
        if name == "nginx":
            return [path, "-p", str(folder), "-c", config("nginx.conf")]
        if name.startswith("haproxy"):
            return [path, "-db", "-f", config("haproxy.cfg")]
        if name in OWN:
            return [path, OWN[name], "--listen", f"127.0.0.1:{port}", "--upstream", upstream]
        file = folder / "sidecar.yaml"
        file.write_text("drain_delay: 0s\n")
        argv = [path, "run", "--config", str(file), "--upstream", upstream, "--listen", f"127.0.0.1:{port}"]
        argv += ["--admin-listen", f"127.0.0.1:{admin}", "--workers", str(workers)]
        return argv + [word for model in ("m", "img", "slow") for word in ("--model", model)]

    def clients(self, port, groups, *options, pids=()):
        """Runs groups of clients with rows of their own: (exit status, their figures)."""
        argv = [self.tool, "clients", "--target", f"127.0.0.1:{port}", *map(str, options)]
        for name, keys in groups.items():
            argv += ["--group", f"{name}:" + ",".join(f"{key}={value}" for key, value in keys.items())]
        for name, child in pids:
            argv += ["--pid", f"{name}={','.join(map(str, child.pids()))}"]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=700)
        try:
            return done.returncode, json.loads(done.stdout)
        except ValueError:
            return done.returncode or 2, {"groups": {}, "error": done.stderr.strip() or "no output"}

    def load(self, port, body, *options, expect="answer", cpus=None, groups=()):
        """Runs the load generator: (exit status, its figures)."""
        argv = [self.tool, "load", "--target", f"127.0.0.1:{port}", "--body", self.body(body)]
        argv += ["--expect", self.body(expect), *map(str, options)]
        for name, child in groups:
            argv += ["--pid", f"{name}={','.join(map(str, child.pids()))}"]
        pin = (lambda: os.sched_setaffinity(0, cpus)) if cpus else None
        done = subprocess.run(argv, capture_output=True, text=True, timeout=700, preexec_fn=pin)
        try:
            return done.returncode, json.loads(done.stdout)
        except ValueError:
            return done.returncode or 2, {"kinds": {done.stderr.strip() or "no output": 1}, "errors": 1}


# Proxies built into proxy-bench, each on one thread: a byte relay and a minimal hyper proxy.
OWN = {"relay": "relay", "bare-hyper": "bare"}
PEERS = [*OWN, "envoy", "nginx", "haproxy", "haproxy-64k", SIDECAR]


def find(name, tool):
    """(path, None) or (None, why it is skipped)."""
    if name in OWN:
        return tool, None
    program = "haproxy" if name.startswith("haproxy") else name
    given = os.environ.get({SIDECAR: "TFS_SIDECAR_BIN"}.get(name, program.upper()))
    if given:
        return (given, None) if os.access(given, os.X_OK) else (None, f"{Path(given).name} is not an executable file")
    places = {"envoy": HERE / ".peers/envoy/_bin/envoy", SIDECAR: target_dir(REPO) / "release" / SIDECAR}
    place = places.get(name)
    if place and os.access(place, os.X_OK):
        return str(place), None
    found = None if name == SIDECAR else shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin")
    return (found, None) if found else (None, f"{program} is not installed")


def version(name, path):
    flag = {"nginx": "-v", "haproxy": "-v", "haproxy-64k": "-v"}.get(name, "--version")
    done = subprocess.run([path, flag], capture_output=True, text=True, timeout=30)
    found = re.search(r"\b\d+\.\d+\.\d+", (done.stdout + done.stderr).replace(path, ""))
    return found[0] if found else "unknown"


@contextlib.contextmanager
def awake(seconds):
    """Keeps virtual CPUs from halting, at idle priority: waking one takes longer than a request."""
    spin = (
        "import os, time; os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))\n"
        f"end = time.monotonic() + {seconds}\n"
        "while time.monotonic() < end: pass"
    )
    spinners = [subprocess.Popen([sys.executable, "-c", spin]) for _ in os.sched_getaffinity(0)]
    try:
        yield
    finally:
        for spinner in spinners:
            spinner.kill()
            spinner.wait()
