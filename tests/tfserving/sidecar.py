"""Runs the sidecar in front of a test server, for the end-to-end tests."""

import os
import re
import subprocess
import tempfile
import threading
import urllib.error
import urllib.request
from pathlib import Path

from google.rpc import error_details_pb2, status_pb2

from harness import ROOT, first_match, stop, until

VARIABLE = "TFS_SIDECAR_BIN"
DEFAULT = ROOT / "target" / "debug" / "tfs-sidecar"


def binary():
    """The program under test. A missing program is a failure, not a reason to skip."""
    path = Path(os.environ.get(VARIABLE) or DEFAULT)
    if not (path.is_file() and os.access(path, os.X_OK)):
        raise FileNotFoundError(f"`{path}` is not an executable file (run `cargo build`, or set {VARIABLE})")
    return str(path.resolve())


def listening(server):
    """Matches the line with the address of `server`, in any order of its fields."""
    return rf'^(?=.*\blistening\b)(?=.*\bserver="?{server}\b)(?=.*\baddr="?(127\.0\.0\.1:\d+)).*$'


class Sidecar:
    """A running sidecar: `address` for gRPC, `admin` for HTTP, and `rest` if it listens for REST."""

    def __init__(self, upstream, *options):
        options = list(options)
        text = "drain_delay: 0s\n"  # nobody watches its readiness when it stops
        if "--config" in options:
            place = options.index("--config")
            text += Path(options[place + 1]).read_text()
            del options[place : place + 2]
        self.config = tempfile.NamedTemporaryFile("w", suffix=".yaml")  # noqa: SIM115
        self.config.write(text)
        self.config.flush()
        command = [
            binary(),
            "run",
            "--upstream",
            upstream,
            "--listen",
            "127.0.0.1:0",
            "--admin-listen",
            "127.0.0.1:0",
            "--config",
            self.config.name,
            *options,
        ]
        # Only the command line configures it.
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("TFS_SIDECAR_") and name not in ("MODEL_NAME", "RUST_LOG")
        }
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
        self.log = []
        servers = ["grpc", "admin", *(["rest"] if "--rest-listen" in options else [])]
        patterns = [listening(server) for server in servers]
        matches = first_match(self.process, self.process.stderr, patterns, self.log)
        if matches is None:
            code = stop(self.process)
            raise RuntimeError(f"the sidecar exited with {code} before it was listening:\n{''.join(self.log)}")
        self.address, self.admin, self.rest = [match[1] for match in matches] + [None] * (3 - len(matches))
        # Keep reading its log, or it would block on a full pipe.
        self.reader = threading.Thread(target=lambda: self.log.extend(self.process.stderr))
        self.reader.start()

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        stop(self.process)
        self.config.close()
        self.reader.join()
        self.process.stderr.close()
        if kind is not None:
            print("the sidecar's log:\n" + "".join(self.log))

    @property
    def alive(self):
        return self.process.poll() is None

    def get(self, path):
        """(HTTP status, body) of the admin server."""
        try:
            with urllib.request.urlopen(f"http://{self.admin}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def wait_ready(self):
        until(lambda: self.alive and self.get("/readyz")[0] == 200, what="/readyz to answer 200")
        return self


def repairs(metadata):
    """(the count as text, or None; the set of repairs) from a call's initial metadata."""
    count = [value for key, value in metadata if key == "tfs-sidecar-repairs"]
    assert len(count) <= 1
    return (count[0] if count else None), {value for key, value in metadata if key == "tfs-sidecar-repair"}


def details(error):
    """(google.rpc.Status, BadRequest, ErrorInfo) of a refusal."""
    data = [value for key, value in error.trailing_metadata() if key == "grpc-status-details-bin"]
    assert len(data) == 1, "expected exactly one grpc-status-details-bin"
    status = status_pb2.Status.FromString(data[0])
    found = []
    for kind in (error_details_pb2.BadRequest, error_details_pb2.ErrorInfo):
        messages = [any_message for any_message in status.details if any_message.Is(kind.DESCRIPTOR)]
        assert len(messages) == 1, f"expected one {kind.__name__}, got {[message.type_url for message in status.details]}"
        message = kind()
        assert messages[0].Unpack(message)
        found.append(message)
    return status, *found


def metric(text, name, **labels):
    """The sum of a metric's samples with these labels."""
    total = 0.0
    for line in text.splitlines():
        match = re.match(rf"{re.escape(name)}(?:\{{(.*)\}})? (\S+)", line)
        if match and all(f'{key}="{value}"' in (match[1] or "") for key, value in labels.items()):
            total += float(match[2])
    return total
