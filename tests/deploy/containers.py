"""Containers of a test: podman and buildah with their storage, networks and settings in a folder of the test."""

import os
import shutil
import socket
import subprocess
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tools import DEPLOY, program, run, sidecar_binary, until

IMAGE = "localhost/tfs-sidecar:1.0.0"

# Without limits of its own, podman asks for more open files than a container of CI may have.
SETTINGS = """
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
[engine]
runtime = "{runtime}"
cgroup_manager = "cgroupfs"
events_logger = "file"
static_dir = "{folder}/libpod"
tmp_dir = "{folder}/tmp"
volume_path = "{folder}/volumes"
[network]
network_config_dir = "{folder}/networks"
"""
STORAGE = """
[storage]
driver = "{driver}"
graphroot = "{folder}/storage"
runroot = "{folder}/run"
"""


def static_image_folder():
    """What the image is made of, with a static binary: `make test-deploy` names it, or it is the program under test."""
    binary = Path(os.environ.get("TFS_SIDECAR_STATIC") or sidecar_binary())
    if not (binary.parent / "ca-certificates.crt").exists():
        pytest.skip(f"{binary} is not a static binary (`make test-deploy` builds one and sets TFS_SIDECAR_STATIC)")
    return binary.parent


class Containers:
    """Runs podman and other programs that use its images. `with` ends and removes all that they started."""

    def __init__(self):
        self.podman = program("podman")
        self.folder = Path(tempfile.mkdtemp(prefix="tfs-sidecar-containers-"))
        runtime = "runc" if shutil.which("runc") else "crun"
        driver = "overlay" if os.geteuid() == 0 else "vfs"
        self.environment = dict(os.environ)
        for name, variable, text in [
            ("containers.conf", "CONTAINERS_CONF", SETTINGS.format(runtime=runtime, folder=self.folder)),
            ("storage.conf", "CONTAINERS_STORAGE_CONF", STORAGE.format(driver=driver, folder=self.folder)),
        ]:
            (self.folder / name).write_text(text)
            self.environment[variable] = str(self.folder / name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.try_run("pod", "rm", "--all", "--force", "--time", "0")
        self.try_run("rm", "--all", "--force", "--time", "0")
        self.try_run("network", "prune", "--force")
        self.try_run("rmi", "--all", "--force")
        # Layers are mounted for a moment after their container has ended.
        self.try_run("unmount", "--all", "--force")
        shutil.rmtree(self.folder)

    def try_run(self, *arguments):
        return subprocess.run(
            [self.podman, *map(str, arguments)], capture_output=True, text=True, timeout=120, env=self.environment
        )

    def run(self, *arguments, code=0):
        return run(self.podman, *arguments, code=code, env=self.environment)

    def build(self, folder, *options, file=None):
        """Builds an image from a folder."""
        file = file or DEPLOY / "docker" / "Dockerfile.prebuilt"
        # The format of OCI has no health check.
        return self.run("build", "--isolation", "chroot", "--format", "docker", *options, "--file", file, folder)

    def finish(self, *arguments):
        """Runs a container to its end. Returns its exit code and what it printed."""
        name = self.run("run", "--detach", *arguments).strip()
        # `podman wait` waits 20 s longer where there is no systemd.
        state = ("inspect", "--format", "{{.State.Status}} {{.State.ExitCode}}", name)
        until(lambda: self.run(*state).startswith(("stopped", "exited")), "the end of a container")
        code, printed = int(self.run(*state).split()[1]), self.logs(name)
        self.run("rm", name)
        return code, printed

    def port(self, name, port):
        """The address on this machine of a published port."""
        return self.run("port", name, f"{port}/tcp").split()[0]

    def logs(self, name):
        done = self.try_run("logs", name)
        return done.stdout + done.stderr


def get(address, path):
    """Status and text of a page; none while nobody answers."""
    try:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return None


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]
