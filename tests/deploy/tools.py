"""What the tests of deploy/ share: paths, programs that may be missing, and waiting."""

import os
import shutil
import subprocess
import threading
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
PATIENCE = 30


def program(name):
    """The path of a program. Skips the test if it is not installed."""
    beside = Path(__file__).resolve().parent / ".venv" / "bin" / name
    if path := shutil.which(name) or (beside.exists() and str(beside)):
        return path
    return pytest.skip(f"{name} is not installed")


def sidecar_binary():
    """The program under test: TFS_SIDECAR_BIN, else the debug build."""
    binary = Path(os.environ.get("TFS_SIDECAR_BIN") or ROOT / "target" / "debug" / "tfs-sidecar")
    assert binary.exists(), f"`{binary}` is missing (run `cargo build`)"
    return str(binary)


def run(*command, code=0, **options):
    """Runs a command to its end and returns its standard output. Fails with all that it printed."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=300, **options)
    assert done.returncode == code, f"{command} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
    return done.stdout


def until(probe, what, patience=PATIENCE):
    """Calls the probe until it returns something true, and returns that."""
    deadline, pause = time.monotonic() + patience, threading.Event()
    while not (answer := probe()):
        assert time.monotonic() < deadline, f"waited {patience} s for {what}"
        pause.wait(0.05)
    return answer
