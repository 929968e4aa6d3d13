"""Sidecars under mixed traffic, scraped by Prometheus with the rules of deploy/prometheus, and Alertmanager
with a webhook that the test reads."""

import http.server
import json
import os
import random
import re
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.parse
import urllib.request

import yaml
from tools import DEPLOY, ROOT, program, sidecar_binary, until

sys.path.insert(0, str(ROOT / "tests" / "browser"))

from backend import DOUBLE, FLOAT, Backend, Client, predict_pb2  # noqa: E402

PROMETHEUS = DEPLOY / "prometheus"
RULES = PROMETHEUS / "rules" / "tfs-sidecar.yml"
NAMESPACE = "ml"
# Windows and waits of the rules, shorter. What is not in here stays as it is.
SHORTER = {
    "[5m]": "[5s]",
    "[15m]": "[10s]",
    "[1h]": "[8s]",
    "offset 15m": "offset 10s",
    "offset 1h": "offset 8s",
    "for: 2m": "for: 1s",
    "for: 3m": "for: 1s",
    "for: 5m": "for: 1s",
    "for: 10m": "for: 1s",
    "for: 1h": "for: 1s",
}


def shortened(text):
    for long, short in SHORTER.items():
        text = text.replace(long, short)
    left = re.findall(r"\[\d+[mh]\]|offset \d+[mh]|\bfor: \d+[mh]", text)
    assert not left, f"SHORTER lacks {left}"
    return text


def free_address():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def get(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read().decode()


class Program:
    """A child process. On exit it is asked to end, and waited for."""

    def __init__(self, *command, log, **options):
        self.log = log
        with open(log, "w") as out:
            self.process = subprocess.Popen([str(part) for part in command], stdout=out, stderr=out, **options)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(timeout=40)

    def ready(self, url, what):
        """Waits until a GET is answered. The process does not outlive a failure."""
        try:
            until(lambda: self.answers(url), what)
        except BaseException:
            self.__exit__()
            raise

    def answers(self, url):
        """Whether a GET is answered with 200. Fails if the process has ended."""
        assert self.process.poll() is None, self.log.read_text()
        try:
            return get(url) is not None
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False


class Sidecar(Program):
    def __init__(self, folder, name, upstream, config):
        self.file = folder / f"{name}.yaml"
        self.file.write_text(config)
        self.address, self.admin = free_address(), free_address()
        super().__init__(
            sidecar_binary(),
            "run",
            "--config",
            self.file,
            "--upstream",
            upstream,
            "--listen",
            self.address,
            "--admin-listen",
            self.admin,
            log=folder / f"{name}.log",
            env={"PATH": os.environ["PATH"]},
        )
        self.ready(f"http://{self.admin}/livez", f"the sidecar {name}")

    def metrics(self):
        return get(f"http://{self.admin}/metrics")

    def change_mode(self, model, mode):
        url = f"http://{self.admin}/mode?model={model}&mode={mode}&for=10m"
        urllib.request.urlopen(urllib.request.Request(url, method="POST"), timeout=10).close()


class Prometheus(Program):
    """With the shipped configuration and rules, but short windows and other addresses."""

    def __init__(self, folder, sidecars, alertmanager):
        (folder / "rules").mkdir()
        (folder / "rules" / RULES.name).write_text(shortened(RULES.read_text()))
        config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
        config["global"] = {"scrape_interval": "500ms", "evaluation_interval": "500ms"}
        config["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"] = [alertmanager]
        config["scrape_configs"][0]["static_configs"] = [{"targets": sidecars, "labels": {"namespace": NAMESPACE}}]
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        self.address = free_address()
        super().__init__(
            program("prometheus"),
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'series'}",
            f"--web.listen-address={self.address}",
            log=folder / "prometheus.log",
        )
        self.ready(f"http://{self.address}/-/ready", "Prometheus")

    def api(self, path, **parameters):
        url = f"http://{self.address}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            answer = json.loads(get(url))
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters}: {error.read().decode()}") from error
        return answer["data"]

    def query(self, query):
        return self.api("query", query=query)["result"]


class Alertmanager(Program):
    """With the shipped configuration, but short waits and another webhook."""

    def __init__(self, folder, webhook):
        text = (PROMETHEUS / "alertmanager.yml").read_text()
        text = text.replace("http://alert-receiver:8080", webhook)
        text = text.replace("group_wait: 30s", "group_wait: 0s").replace("group_interval: 5m", "group_interval: 1s")
        (folder / "alertmanager.yml").write_text(text)
        self.address = free_address()
        super().__init__(
            program("prometheus-alertmanager"),
            f"--config.file={folder / 'alertmanager.yml'}",
            f"--storage.path={folder / 'alerts'}",
            f"--web.listen-address={self.address}",
            "--cluster.listen-address=",
            log=folder / "alertmanager.log",
        )
        self.ready(f"http://{self.address}/-/ready", "Alertmanager")


class Webhook:
    """Keeps the alerts that are posted to it: (path, alert)."""

    def __init__(self):
        self.received = received = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                received.extend((self.path, alert) for alert in body["alerts"])
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def last(self, name, **labels):
        """The path and the state of the last notification about such an alert."""
        labels["alertname"] = name
        found = [(path, alert) for path, alert in list(self.received) if labels.items() <= alert["labels"].items()]
        return found[-1] if found else (None, {"status": None})


class Models(Backend):
    """Answers with as many rows as the request has. Model `batched` takes a moment."""

    def predict(self, request, context):
        version, _ = self.find(request.model_spec, context)
        if request.model_spec.name == "batched":
            threading.Event().wait(0.05)
        rows = next(iter(request.inputs.values())).tensor_shape.dim[0].size
        answer = predict_pb2.PredictResponse()
        answer.model_spec.name, answer.model_spec.version.value = request.model_spec.name, version
        answer.outputs["score"].dtype = FLOAT
        answer.outputs["score"].float_val.extend([0.5] * rows)
        answer.outputs["score"].tensor_shape.dim.add().size = rows
        return answer


class Traffic:
    """Clients that go on sending until the end; each in a thread of its own. With `fixed`, web-frontend sends
    only right requests."""

    def __init__(self, address):
        self.address, self.over, self.fixed, self.threads = address, threading.Event(), threading.Event(), []

    def __enter__(self):
        right = {"features": (FLOAT, [1, 4]), "age": (FLOAT, [1, 1])}

        def scorer(send):
            send("churn", 3, **right)
            send("churn", **{**right, "features": (FLOAT, [4])})

        def ranker(send):
            send("churn", **right)
            send("churn", **{**right, "features": (DOUBLE, [1, 4])})

        def checkout(send):
            # Too many columns; and rows that differ, which is forwarded with a warning.
            send("churn", **{**right, "features": (FLOAT, [1, 6])})
            send("churn", features=(FLOAT, [3, 4]), age=(FLOAT, [2, 1]))

        def frontend(send):
            send("embed", 3, ids=(FLOAT, [1, 8]))
            if not self.fixed.is_set():
                send("embed", ids=(FLOAT, [1, 9]))
                send("embed", ids=(FLOAT, [8]))

        def reporting(send):
            send("churn", 3, **right)
            send("chrun", **right)

        self.client("fraud-scorer/2.3", scorer)
        self.client("ranker/1.8 grpc-go/1.60.0", ranker)
        self.client("checkout/4.1 grpc-java-netty/1.58.0", checkout)
        self.client("web-frontend/7.0 grpc-node-js/1.9.5", frontend)
        self.client("reporting/3.0 grpc-dotnet/2.59.0", reporting)
        # Not scaled; the profile of the model knows the scaler.
        numbers = random.Random(5)

        def unscaled(send):
            send("embed", ids=(FLOAT, [16, 8], [500 + 2 * numbers.gauss(0, 1) for _ in range(128)]))

        self.client("fraud-batch/2.3 grpc-go/1.60.0", unscaled)
        # A request without rows is sent alone.
        self.client("batch/1.0", lambda send: send("batched", x=(FLOAT, [0, 4])), pause=0.02)
        # More at once than the queue of the model takes.
        for _ in range(6):
            self.client("batch/1.0", lambda send: send("batched", x=(FLOAT, [1, 4])), pause=0.02)
        return self

    def client(self, agent, requests, pause=0.05):
        def work():
            client = Client(self.address, agent)
            while not self.over.wait(pause):
                requests(client.send)
            client.close()

        thread = threading.Thread(target=work)
        thread.start()
        self.threads.append(thread)

    def __exit__(self, *_):
        self.over.set()
        for thread in self.threads:
            thread.join()
