"""Starts programs for tests, waits until they report their address, and stops them by handle."""

import contextlib
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import grpc

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
FIXTURES = ROOT / "tests" / "fixtures"
MODELS = FIXTURES / "models"
MLP = f"mlp={MODELS / 'mlp'}:stable=1:canary=2"

# A program that prints nothing for this many seconds is killed, so that a test fails instead of
# hanging.
PATIENCE = 120
UNLIMITED = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))


def stop(process):
    """SIGTERM, then SIGKILL if it does not exit."""
    if process.poll() is None:
        process.terminate()
    try:
        return process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def first_match(process, stream, patterns, echo):
    """The first match of every pattern in the lines of `stream`; appends the lines to `echo`."""
    watchdog = threading.Timer(PATIENCE, process.kill)
    watchdog.start()
    found = {}
    try:
        while len(found) < len(patterns):
            line = stream.readline()
            if not line:
                return None
            echo.append(line)
            for pattern in patterns:
                match = re.search(pattern, line)
                if match:
                    found.setdefault(pattern, match)
    finally:
        watchdog.cancel()
    return [found[pattern] for pattern in patterns]


class Server:
    """A running test server."""

    def __init__(self, *options, port=0):
        self.errors = tempfile.TemporaryFile("w+")
        command = [sys.executable, str(HERE / "server.py"), "--port", str(port), *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.errors, text=True)
        lines = []
        matches = first_match(self.process, self.process.stdout, [r"^listening (127\.0\.0\.1:(\d+))$"], lines)
        if matches is None:
            code = stop(self.process)
            self.errors.seek(0)
            raise RuntimeError(f"the test server exited with {code}: {''.join(lines)}{self.errors.read()}")
        self.address, self.port = matches[0][1], int(matches[0][2])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        stop(self.process)
        self.process.stdout.close()
        self.errors.close()

    def kill(self):
        """Kills it without a shutdown, as a crash would."""
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def channel(address):
    with grpc.insecure_channel(address, options=UNLIMITED) as opened:
        yield opened


def raw_call(opened, path, data, timeout=60, metadata=None):
    """Sends exactly these bytes: (code number, text, answer bytes or None)."""
    try:
        answer = opened.unary_unary(path)(data, timeout=timeout, metadata=metadata)
    except grpc.RpcError as error:
        return error.code().value[0], error.details(), None
    return 0, "", answer


def until(probe, patience=30.0, what="the condition"):
    """Calls the probe every 20 ms until it returns something true; fails after `patience`
    seconds."""
    pause = threading.Event()
    deadline = time.monotonic() + patience
    while True:
        answer = probe()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"waited {patience} s for {what}"
        pause.wait(0.02)


def free_port():
    """A port that was free a moment ago, for programs that cannot pick one."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]
