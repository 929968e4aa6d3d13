#!/usr/bin/env python3
"""The three usual mistakes on real TensorFlow, told as one story: `make demo-tf`.

A model is trained on scaled rows and exported without its scaler. Clients send what does not fit its
signature, and values that nobody scaled; then two new versions are to be served. Requests share runs all the
while, and Prometheus counts. With ONCE=1 it ends with the story, else it keeps everything running. The exit
code is 1 if anything is not as it should be.
"""

import concurrent.futures
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tfserving"))

import grpc  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
from harness import Server, free_port, until  # noqa: E402
from sidecar import Sidecar, binary, metric  # noqa: E402
from tensorflow.core.protobuf import saved_model_pb2  # noqa: E402
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc  # noqa: E402
from test_profiles import FEATURES, RAW, SCALED, Trained, classes, drawn  # noqa: E402

REQUESTS, CLIENTS = 192, 48
WIDTH = 118
CONFIG = """\
poll_interval: 100ms
reload_interval: 100ms
models:
  fraud:
    profile: {profile}
    signatures:
      serving_default:
        batching: {{enabled: on, probation: 8}}{inputs}
"""
TRANSFORM = "{input_tensor: {transform: [{standardize: {from: profile}}], when: raw}}"


class Story:
    """Prints lines, and remembers whether everything was as it should be."""

    def __init__(self):
        self.wrong = []

    def title(self, text):
        print(f"\n{text}")

    def line(self, who, text):
        lines = textwrap.wrap(" ".join(text.split()), WIDTH - 24, break_on_hyphens=False)
        for at, part in enumerate(lines):
            print(f"  {who if at == 0 else '':<20}  {part}", flush=True)

    def check(self, holds, what):
        if not holds:
            self.wrong.append(what)


class Client:
    """A gRPC client with a name."""

    def __init__(self, address, name):
        options = (("grpc.primary_user_agent", name), ("grpc.use_local_subchannel_pool", 1))
        self.channel = grpc.insecure_channel(address, options=options)
        self.stub = prediction_service_pb2_grpc.PredictionServiceStub(self.channel)

    def send(self, values):
        """(the answer or None, the error's text or None, the metadata's keys and values)."""
        request = predict_pb2.PredictRequest()
        request.model_spec.name = "fraud"
        request.inputs["input_tensor"].CopyFrom(tf.make_tensor_proto(values))
        try:
            answer, call = self.stub.Predict.with_call(request, timeout=60)
        except grpc.RpcError as error:
            return None, f"{error.code().name}: {error.details()}", error.initial_metadata()
        return tf.make_ndarray(answer.outputs["fraud"]), None, call.initial_metadata()

    def close(self):
        self.channel.close()


def of(metadata, key):
    return [value for name, value in metadata if name == key]


def post(address, body):
    """(HTTP status, answer as text, repairs) of a REST call."""
    call = urllib.request.Request(f"http://{address}/v1/models/fraud:predict", json.dumps(body).encode())
    try:
        with urllib.request.urlopen(call, timeout=60) as answer:
            return answer.status, answer.read().decode(), answer.headers.get_all("tfs-sidecar-repair", [])
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode(), []


def command(*arguments):
    """The exit code of a command of the sidecar, and the lines of its output."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TFS_SIDECAR_")}
    words = [binary(), *map(str, arguments)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False, env=environment)
    return done.returncode, (done.stdout or done.stderr).splitlines()


def signature_mismatch(story, world):
    story.title("1. A REQUEST THAT DOES NOT FIT THE SIGNATURE")
    row = world.trained.scaled(world.trained.raw[:1])
    direct, through = Client(world.server.address, "tour"), Client(world.sidecar.address, SCALED)
    wanted = direct.send(row.astype(np.float32))[0]

    story.line("gRPC", f"float64 [{FEATURES}], one row without its batch dimension, as NumPy makes it")
    _, error, _ = direct.send(row[0])
    story.check(error, "TensorFlow answered a request without its batch dimension")
    story.line("TensorFlow alone", error or "")
    answer, error, metadata = through.send(row[0])
    repairs = of(metadata, "tfs-sidecar-repair")
    story.check(answer is not None and np.allclose(answer, wanted, atol=1e-6), f"the repaired request: {error}")
    story.check(len(repairs) == 2, f"repairs of gRPC: {repairs}")
    story.line("with the sidecar", f"fraud {np.ravel(answer)[0]:.3f}, what [1,{FEATURES}] float32 gets; repaired: {', '.join(repairs)}")
    status, text, repairs = post(world.sidecar.rest, {"instances": row[0].tolist()})
    predictions = json.loads(text).get("predictions", [])
    story.check(status == 200 and np.allclose(predictions, wanted, atol=1e-6) and repairs, f"the repaired JSON: {status} {text}")
    story.line("the same in JSON", f'{{"instances": [{row[0][0]:.2f}, ...]}}: {status}, fraud {np.ravel(predictions)[0]:.3f}; repaired: {", ".join(repairs)}')

    story.line("gRPC", f"float32 [1,{FEATURES - 1}], a feature is missing")
    _, error, _ = direct.send(row[:, 1:].astype(np.float32))
    story.line("TensorFlow alone", error or "")
    _, error, _ = through.send(row[:, 1:].astype(np.float32))
    story.check(error and "input_tensor" in error, f"the refusal: {error}")
    story.line("with the sidecar", error or "")
    status, text, _ = post(world.sidecar.rest, {"instances": row[:, 1:].tolist()})
    story.check(status == 400 and "input_tensor" in text, f"the refused JSON: {status} {text}")
    story.line("the same in JSON", f"{status}: {json.loads(text)['error']}")
    direct.close()
    through.close()


def traffic(world, name, prepare, seed):
    """Sends rows at once as one client. (share of right answers, first request with a finding, its text, repairs)."""
    rows = drawn(np.random.default_rng(seed), REQUESTS)
    labels, sent = classes(rows), prepare(rows).astype(np.float32)
    client = Client(world.sidecar.address, name)
    try:
        with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
            answers = list(pool.map(lambda row: client.send(row[None]), sent))
    finally:
        client.close()
    right = [answer is not None and (answer[0] > 0.5) == label for (answer, _, _), label in zip(answers, labels, strict=True)]
    named = next((at for at, (_, _, metadata) in enumerate(answers, 1) if any("SHIFTED" in text for text in of(metadata, "tfs-sidecar-warning"))), None)
    repairs = [text for _, _, metadata in answers for text in of(metadata, "tfs-sidecar-repair")]
    return sum(right) / len(right), named, repairs


def preprocessing_mismatch(story, world):
    story.title("2. VALUES THAT ARE NOT PREPROCESSED AS IN TRAINING")
    right, named, _ = traffic(world, RAW, lambda rows: rows, 11)
    story.check(right < 0.7 and named, f"raw rows: {right} right, named at {named}")
    story.line(RAW, f"{REQUESTS} rows that nobody scaled: {right:.0%} of the answers are right, and TensorFlow reports nothing")
    right, other, _ = traffic(world, SCALED, world.trained.scaled, 12)
    story.check(right > 0.95 and other is None, f"scaled rows: {right} right, named at {other}")
    story.line(SCALED, f"{REQUESTS} scaled rows: {right:.0%} right, and no finding")
    found = json.loads(world.sidecar.get("/api/findings")[1])["signatures"]
    texts = [one["text"] for signature in found for one in signature["findings"] if one["client"] == RAW and one["kind"] == "SHIFTED"]
    story.check(len(texts) == 1, f"findings: {texts}")
    story.line("the sidecar, after", f"{named} requests: {' '.join(texts)}")

    story.line("you declare", f"inputs: {TRANSFORM} (in the configuration, which is read again)")
    world.configure(f"\n        inputs: {TRANSFORM}")
    right, _, repairs = traffic(world, RAW, lambda rows: rows, 13)
    story.check(right > 0.95, f"transformed rows: {right} right")
    story.line(RAW, f"{right:.0%} right; {len(repairs)} of {REQUESTS} requests say: {' '.join(sorted(set(repairs)))}")
    right, _, repairs = traffic(world, SCALED, world.trained.scaled, 14)
    story.check(right > 0.95 and not repairs, f"scaled rows: {right} right, repairs {set(repairs)}")
    story.line(SCALED, f"{right:.0%} right, and nothing changed in its requests")


def version_mismatch(story, world):
    story.title("3. THE NEXT VERSION")
    broken, wider = world.folder / "candidate" / "2", world.folder / "wider" / "3"
    shutil.copytree(world.trained.model / "1", broken)
    path = broken / "saved_model.pb"
    saved = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    saved.meta_graphs[0].graph_def.node.add(name="fancy", op="MyFancyOp")
    path.write_bytes(saved.SerializeToString())
    code, lines = command("doctor", "--saved-model", broken, "--tf-version", world.tensorflow)
    failed = [at for at, line in enumerate(lines) if line.startswith("fail") and "MyFancyOp" in line]
    story.check(code == 1 and failed, f"doctor: {lines}")
    for at in failed[:1]:
        story.line("doctor, before", lines[at])
        for line in lines[at + 1 : at + 3]:
            story.line("", line)
    broken.rename(world.trained.model / "2")
    until(lambda: "MyFancyOp" in world.sidecar.get("/api/status")[1], 60, "the load failure")
    problems = json.loads(world.sidecar.get("/api/status")[1])["model_problems"]
    story.check(len(problems) == 1 and problems[0]["version"] == 2, f"problems: {problems}")
    # TensorFlow goes on about tf.contrib.
    theirs, _, ours = problems[0]["problem"].partition("[tfs-sidecar: ")
    story.check("or one built with the operation" in ours, f"explanation: {problems}")
    story.line("rolled out anyway", f"{theirs.partition('. ')[0]} ... [tfs-sidecar: {ours}")
    client = Client(world.sidecar.address, SCALED)
    answer, error, _ = client.send(world.trained.scaled(world.trained.raw[:1]).astype(np.float32))
    client.close()
    story.check(answer is not None, f"version 1: {error}")
    story.line("", "version 1 answers as before")

    module = tf.Module()
    module.serve = tf.function(
        lambda input_tensor: {"fraud": tf.sigmoid(tf.reduce_sum(input_tensor, 1))},
        input_signature=[tf.TensorSpec([None, FEATURES + 2], tf.float32, "input_tensor")],
    )
    tf.saved_model.save(module, str(wider), signatures={"serving_default": module.serve.get_concrete_function()})
    census = world.folder / "traffic.json"
    command("traffic", "--admin", world.sidecar.admin, "--out", census)
    code, lines = command("traffic", "forecast", "--traffic", census, "--saved-model", wider, "--model", "fraud")
    story.check(code == 1 and any(RAW in line and "refused" in line for line in lines), f"forecast: {lines}")
    story.line("version 3, forecast", lines[0])
    for line in [line for line in lines[1:] if RAW in line or SCALED in line][:2]:
        story.line("", line)


def sharing(story, world):
    story.title("4. SHARED RUNS AND WHAT WAS COUNTED")
    text = world.sidecar.get("/metrics")[1]
    members = metric(text, "tfs_sidecar_batch_requests_sum", model="fraud")
    runs = metric(text, "tfs_sidecar_batch_requests_count", model="fraud")
    differ = metric(text, "tfs_sidecar_batch_divergence_total")
    story.check(runs and members > runs and not differ, f"{members} members of {runs} runs, {differ} differ")
    story.line("batching", f"{members:.0f} requests were answered by {runs:.0f} runs of the model; rows that differ from a lone run: {differ:.0f}")
    if world.prometheus is None:
        story.line("Prometheus", "is not installed, so nothing watched (apt-get install prometheus)")
        return
    for query in (
        "sum by (client, rule) (tfs_sidecar_repairs_total)",
        "sum by (client, reason) (tfs_sidecar_rejections_total)",
        "sum by (client, kind) (tfs_sidecar_preprocessing_findings_total)",
    ):
        series = until(lambda query=query: world.ask(query), 30, query)
        shown = [f"{' '.join(one['metric'].values())} {one['value'][1]}" for one in series]
        story.check(any(RAW in one or SCALED in one for one in shown), f"{query}: {shown}")
        story.line("Prometheus", f"{query}: {', '.join(sorted(shown))}")


class World:
    """The model, TensorFlow, the sidecar in front of it, and Prometheus if it is installed."""

    def __init__(self, stack, folder):
        self.folder = folder
        self.trained = Trained(folder)
        self.tensorflow = ".".join(tf.__version__.split(".")[:2])
        self.server = stack.enter_context(Server("--model", f"fraud={self.trained.model}", "--file-system-poll-wait-seconds", "0.1"))
        start = folder / "start.yaml"
        start.write_text(self.text(""))
        self.sidecar = stack.enter_context(Sidecar(self.server.address, "--config", str(start), "--rest-listen", "127.0.0.1:0"))
        self.sidecar.wait_ready()
        self.prometheus = self.watch(stack) if shutil.which("prometheus") else None

    def text(self, inputs):
        return CONFIG.format(profile=self.trained.profile, inputs=inputs)

    def configure(self, inputs):
        """Replaces the running sidecar's configuration, and waits until it is in use."""
        with open(self.sidecar.config.name, "w") as file:
            file.write("drain_delay: 0s\n" + self.text(inputs))
        until(lambda: "standardize" in self.sidecar.get("/api/config")[1], 30, "the new configuration")

    def watch(self, stack):
        address = f"127.0.0.1:{free_port()}"
        config = self.folder / "prometheus.yml"
        config.write_text(
            "global: {scrape_interval: 1s}\n"
            f"scrape_configs: [{{job_name: tfs-sidecar, static_configs: [{{targets: ['{self.sidecar.admin}']}}]}}]\n"
        )
        options = [f"--config.file={config}", f"--web.listen-address={address}", f"--storage.tsdb.path={self.folder / 'tsdb'}"]
        process = subprocess.Popen(["prometheus", *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        stack.callback(process.wait)
        stack.callback(process.terminate)
        return address

    def ask(self, query):
        """The series of a query, or none while Prometheus has not started or has no sample yet."""
        try:
            with urllib.request.urlopen(f"http://{self.prometheus}/api/v1/query?{urllib.parse.urlencode({'query': query})}", timeout=5) as answer:
                return json.load(answer)["data"]["result"]
        except (urllib.error.URLError, ConnectionError):
            return None


def main():
    story = Story()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tfs-sidecar-tour-")))
        world = World(stack, folder)
        print(f"model `fraud` on TensorFlow {tf.__version__}: input_tensor float [-1,{FEATURES}] -> fraud float [-1]; trained on scaled rows, exported without its scaler")
        print(f"client -> sidecar {world.sidecar.address} (JSON: {world.sidecar.rest}) -> TensorFlow {world.server.address}; page http://{world.sidecar.admin}/")
        for part in (signature_mismatch, preprocessing_mismatch, version_mismatch, sharing):
            part(story, world)
        for what in story.wrong:
            print(f"\nunexpected: {what}")
        if os.environ.get("ONCE") != "1":
            print(f"\nrunning until Ctrl-C; try: tfs-sidecar profile show {world.trained.profile}", flush=True)
            with contextlib.suppress(KeyboardInterrupt):
                signal.pause()
    return 1 if story.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
