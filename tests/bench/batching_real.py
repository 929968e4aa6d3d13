"""Real models on the TensorFlow runtime: plain, with TensorFlow's own batching, and plain behind the
sidecar with batching. One server process serves all of them."""

import json
import subprocess

from harness import HERE, REPO

PYTHON = REPO / ".venv" / "bin" / "python"
MODELS = ("dense", "mlp", "cnn")
CLIENTS = 64
CONNECTIONS = 4


def prepare(bench, run):
    """Makes the models and starts the server and the sidecar. `None` if TensorFlow is missing."""
    found = list((REPO / ".venv").glob("lib/python*/site-packages/tensorflow/libtensorflow_cc.so.2"))
    if not found:
        why = "TensorFlow is not installed (run tests/tfserving/setup.sh)"
        print(f"real models are skipped: {why}", flush=True)
        run.write("skipped", target="real", why=why)
        return None
    made = subprocess.run(
        [PYTHON, HERE / "models.py", bench.folder / "models"], check=True, capture_output=True, text=True
    )
    models = json.loads(made.stdout.splitlines()[-1])
    options = ["--tensorflow", str(found[0])]
    for name, (folder, source, result, dims) in models.items():
        options += ["--saved-model", ",".join([name, folder, source, result, dims])]
    return Real(bench, run, models, bench.stub(*options))


class Real:
    def __init__(self, bench, run, models, stub):
        self.bench, self.run, self.models, self.stub = bench, run, models, stub

    def round(self, number):
        batching = "{signatures: {serving_default: {batching: {enabled: on, probation: 0}}}}"
        lines = "".join(f"  {name}: {batching}\n" for name in MODELS)
        sidecar = self.bench.sidecar(2, self.stub.port, "models:\n" + lines)
        for name in MODELS:
            variants = [v for v in self.models if v == name or v.startswith(name + "_")]
            targets = [("plain", name)] + [(v.removeprefix(name + "_"), v) for v in variants[1:]] + [("on", name)]
            turn = number % len(targets)
            for target, model in targets[turn:] + targets[:turn]:
                self.sample(number, name, target, model, sidecar if target == "on" else None)
        sidecar.stop()

    def sample(self, number, name, target, model, sidecar):
        dims = self.models[name][3]
        streams = CLIENTS // CONNECTIONS
        groups = {"all": {"model": model, "dims": dims, "conns": CONNECTIONS, "streams": streams}}
        # The convolution answers a request after a tenth of a second.
        times = ["--warmup", 0.5, "--seconds", 2 if name == "cnn" else 1.2]
        options = [*times, "--reference", f"127.0.0.1:{self.stub.port}"]
        pids = [("stub", self.stub)] + ([("proxy", sidecar)] if sidecar else [])
        port = sidecar.port if sidecar else self.stub.port
        self.run.sample(number, "real", name, target, port, groups, *options, pids=pids, stub=self.stub)
