"""The sidecar in front of a stand-in with traffic of five clients, and a browser."""

import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

sys.path.insert(0, str(Path(__file__).resolve().parent))

from backend import DOUBLE, FLOAT, ROOT, Backend, Client  # noqa: E402

PATIENCE = 30
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--force-color-profile=srgb", "--font-render-hinting=none",
    "--disable-lcd-text",
]


def chromium():
    for name in ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"):
        if path := shutil.which(os.environ.get("CHROMIUM") or name):
            return path
    raise FileNotFoundError("no Chromium found (install it, or set CHROMIUM to its path)")


def until(probe, what):
    """Calls the probe until it returns something true."""
    deadline, pause = time.monotonic() + PATIENCE, threading.Event()
    while not (answer := probe()):
        assert time.monotonic() < deadline, f"waited {PATIENCE} s for {what}"
        pause.wait(0.05)
    return answer


class Sidecar:
    """A running sidecar: `address` for gRPC, `admin` for HTTP."""

    def __init__(self, upstream, config, pod="scoring-7d9c4b-x2x8q"):
        binary = os.environ.get("TFS_SIDECAR_BIN") or ROOT / "target" / "debug" / "tfs-sidecar"
        command = [binary, "run", "--upstream", upstream, "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]
        environment = {"POD_NAME": pod, "PATH": os.environ["PATH"]}
        self.process = subprocess.Popen(
            [*map(str, command), "--config", str(config)], stderr=subprocess.PIPE, text=True, env=environment
        )
        found = {}
        self.log = []
        for line in self.process.stderr:
            self.log.append(line)
            match = re.search(r'server="?(grpc|admin)', line)
            address = re.search(r"127\.0\.0\.1:\d+", line)
            if "listening" in line and match and address:
                found[match[1]] = address[0]
            if len(found) == 2:
                break
        assert len(found) == 2, f"the sidecar does not start:\n{''.join(self.log)}"
        self.address, self.admin = found["grpc"], found["admin"]
        self.reader = threading.Thread(target=lambda: self.log.extend(self.process.stderr))
        self.reader.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(timeout=20)
        self.reader.join()
        self.process.stderr.close()

    @property
    def url(self):
        return f"http://{self.admin}/"

    def api(self, path):
        with urllib.request.urlopen(f"{self.url}api/{path}", timeout=5) as answer:
            return json.load(answer)

    def is_ready(self):
        return self.api("status")["readiness"]["ready"]


class Prefix:
    """A reverse proxy that serves a sidecar's page below /ops/sidecar/."""

    def __init__(self, admin):
        prefix = "/ops/sidecar"

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                if not self.path.startswith(f"{prefix}/"):
                    return self.send_error(404)
                with urllib.request.urlopen(f"http://{admin}{self.path[len(prefix):]}", timeout=10) as answer:
                    body = answer.read()
                self.send_response(200)
                for name in ("content-type", "content-security-policy"):
                    self.send_header(name, answer.headers[name])
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                return self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}{prefix}/"
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


class Page:
    """A page in the browser. On exit, nothing may have gone wrong in it."""

    def __init__(self, browser, url, width=1280, scheme="light"):
        self.context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        self.context.grant_permissions(["clipboard-read", "clipboard-write"])
        self.page = self.context.new_page()
        self.wrong = []
        self.page.on("pageerror", lambda error: self.wrong.append(f"error: {error}"))
        self.page.on("console", lambda line: line.type in ("error", "warning") and self.wrong.append(line.text))
        origin = "/".join(url.split("/")[:3]) + "/"
        self.page.on("request", lambda request: request.url.startswith(origin) or self.wrong.append(request.url))
        self.page.on("response", lambda answer: answer.status == 200 or self.wrong.append(f"{answer.status} {answer.url}"))
        self.page.goto(url)
        self.page.locator("#ready", has_text="ready").wait_for()

    def __enter__(self):
        return self.page

    def __exit__(self, kind, *_):
        self.context.close()
        if kind is None:
            assert self.wrong == []


@pytest.fixture(scope="session")
def browser():
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium(), args=ARGUMENTS)
        yield opened
        opened.close()


CONFIG = """
poll_interval: 100ms
models:
  churn:
    signatures:
      serving_default:
        inputs: {featurs: {rank1_is: single_row}}
  embed: {mode: observe}
"""
CHURN = {"features": (FLOAT, [-1, 4]), "age": (FLOAT, [-1, 1])}


@pytest.fixture(scope="session")
def sidecar(tmp_path_factory):
    """A sidecar that five clients have sent right and wrong requests."""
    config = tmp_path_factory.mktemp("page") / "sidecar.yaml"
    config.write_text(CONFIG)
    models = {"churn": (6, dict(CHURN)), "embed": (1, {"ids": (FLOAT, [-1, 8])})}
    with Backend(models) as backend, Sidecar(backend.address, config) as running:
        until(running.is_ready, "readiness")
        traffic(running.address)
        models["churn"] = (7, {"features": (FLOAT, [-1, 4]), "age": (FLOAT, [-1, 1]), "tenure": (FLOAT, [-1, 1])})
        until(lambda: running.api("changes")[0]["to"] == 7 and running.api("changes")[0]["forecast"], "the new version and its forecast")
        yield running


def traffic(address):
    right = {"features": (FLOAT, [1, 4]), "age": (FLOAT, [1, 1])}
    clients = {
        "fraud-scorer/2.3": lambda send: (send("churn", 60, **right), send("churn", 40, **{**right, "features": (FLOAT, [4])})),
        "ranker/1.8 grpc-go/1.60.0": lambda send: send("churn", 25, **{**right, "features": (DOUBLE, [1, 4])}),
        "checkout/4.1 grpc-java-netty/1.58.0": lambda send: send("churn", 12, **{**right, "features": (FLOAT, [1, 5])}),
        "web-frontend/7.0 grpc-node-js/1.9.5": lambda send: (send("embed", 30, ids=(FLOAT, [1, 8])), send("embed", 6, ids=(FLOAT, [8]))),
        "reporting/3.0 grpc-dotnet/2.59.0": lambda send: (send("churn", 50, **right), send("chrun", 3, **right)),
    }
    for agent, sends in clients.items():
        client = Client(address, agent)
        sends(client.send)
        client.close()
