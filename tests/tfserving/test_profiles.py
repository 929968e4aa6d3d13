"""A model that was trained on scaled data and exported without its scaler, behind the sidecar: clients that
send raw, scaled and twice-scaled values at once, and one that drifts."""

import concurrent.futures
import json
import subprocess

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from harness import Server
from sidecar import Sidecar, binary, metric

FEATURES, TRAINED, REQUESTS = 10, 20_000, 400
RAW, SCALED, TWICE, DRIFTING = "fraud-batch/2.3", "ranker/1.8", "mobile/7.1", "branch/3.0"
FINDINGS = "tfs_sidecar_preprocessing_findings_total"


class Fraud(tf.Module):
    """A logistic regression."""

    def __init__(self, weights, bias):
        self.weights, self.bias = tf.Variable(weights), tf.Variable(bias)

    @tf.function(input_signature=[tf.TensorSpec([None, FEATURES], tf.float32, "input_tensor")])
    def serve(self, input_tensor):
        logits = tf.linalg.matvec(input_tensor, self.weights) + self.bias
        return {"fraud": tf.sigmoid(logits)}


def drawn(random, count):
    """Raw rows: amounts, ages, counts. All are positive, some are skewed."""
    rows = random.normal(size=(count, FEATURES))
    rows[:, :3] = np.exp(rows[:, :3] * 0.8 + 4)
    rows[:, 3:6] = np.clip(rows[:, 3:6] * 14 + 45, 18, 95)
    rows[:, 6:] = rows[:, 6:] * 250 + 2000
    return rows


def classes(rows):
    """What is to be learned: a large balance for the age."""
    return (rows[:, 6] - 2000) / 250 - (rows[:, 3] - 45) / 14 > 0


def fit(rows, labels, steps=400):
    """Gradient descent. Returns the weights and the bias."""
    weights, bias = np.zeros(FEATURES), 0.0
    for _ in range(steps):
        errors = 1 / (1 + np.exp(-(rows @ weights + bias))) - labels
        weights -= 2.0 * rows.T @ errors / len(rows)
        bias -= 2.0 * errors.mean()
    return weights.astype(np.float32), np.float32(bias)


class Trained:
    """The training data, its StandardScaler, and the model in a folder."""

    def __init__(self, folder):
        random = np.random.default_rng(7)
        self.raw = drawn(random, TRAINED)
        self.mean, self.scale = self.raw.mean(axis=0), self.raw.std(axis=0)
        rows = self.scaled(self.raw)
        module = Fraud(*fit(rows, classes(self.raw)))
        self.model = folder / "fraud"
        tf.saved_model.save(module, str(self.model / "1"), signatures={"serving_default": module.serve.get_concrete_function()})
        np.savez(folder / "train.npz", input_tensor=rows.astype(np.float32))
        np.savez(folder / "raw.npz", input_tensor=self.raw)
        scaler = {"kind": "standard", "mean": list(self.mean), "scale": list(self.scale)}
        (folder / "scaler.json").write_text(json.dumps(scaler))
        self.profile = folder / "fraud.yaml"
        build = [binary(), "profile", "build", folder / "train.npz", "--raw", folder / "raw.npz"]
        build += ["--scaler", folder / "scaler.json", "--out", self.profile]
        subprocess.run([str(part) for part in build], check=True, timeout=120)

    def scaled(self, rows):
        return (rows - self.mean) / self.scale


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return Trained(tmp_path_factory.mktemp("fraud"))


@pytest.fixture
def sidecar(trained, tmp_path, request):
    config = tmp_path / "config.yaml"
    check = getattr(request, "param", "warn")
    config.write_text(f"models: {{fraud: {{profile: {trained.profile}, profile_check: {check}}}}}\n")
    with Server("--model", f"fraud={trained.model}") as server, Sidecar(server.address, "--config", str(config)) as running:
        yield running.wait_ready()


class Client:
    """A client with a name of its own. `send` returns its answer and its warnings."""

    def __init__(self, address, name):
        self.channel = grpc.insecure_channel(address, options=(("grpc.primary_user_agent", name),))
        self.stub = prediction_service_pb2_grpc.PredictionServiceStub(self.channel)

    def send(self, rows):
        request = predict_pb2.PredictRequest()
        request.model_spec.name = "fraud"
        tensor = request.inputs["input_tensor"]
        tensor.dtype = types_pb2.DT_FLOAT
        for size in rows.shape:
            tensor.tensor_shape.dim.add(size=size)
        tensor.tensor_content = rows.astype("<f4").tobytes()
        answer, call = self.stub.Predict.with_call(request, timeout=30)
        warnings = [value for key, value in call.initial_metadata() if key == "tfs-sidecar-warning"]
        return np.array(answer.outputs["fraud"].float_val) > 0.5, warnings


def serve(address, name, rows):
    """Sends a row a request. Returns the share of right classes, and the request that was first named."""
    client, named, right = Client(address, name), None, 0
    for number, (row, label) in enumerate(rows, 1):
        answer, warnings = client.send(row[None, :])
        right += int(answer[0] == label)
        if named is None and any("(SHIFTED)" in text for text in warnings):
            named = number
    client.channel.close()
    return right / len(rows), named


def test_the_client_that_does_not_scale_is_named_and_honest_ones_are_not(trained, sidecar):
    random = np.random.default_rng(11)

    def rows(prepare):
        fresh = drawn(random, REQUESTS)
        return list(zip(prepare(fresh), classes(fresh), strict=True))

    traffic = {
        RAW: rows(lambda fresh: fresh),
        SCALED: rows(trained.scaled),
        TWICE: rows(lambda fresh: trained.scaled(trained.scaled(fresh))),
    }
    with concurrent.futures.ThreadPoolExecutor() as pool:
        sent = {name: pool.submit(serve, sidecar.address, name, rows) for name, rows in traffic.items()}
        done = {name: one.result() for name, one in sent.items()}
    print({name: {"right": right, "named": named} for name, (right, named) in done.items()})

    right, named = done[RAW]
    assert named is not None and named <= 64
    assert right < 0.6 and done[TWICE][0] < 0.6, "their answers are worth little"
    assert done[SCALED][0] > 0.95 and done[SCALED][1] is None
    assert done[TWICE][1] is not None

    found = json.loads(sidecar.get("/api/findings")[1])["signatures"][0]
    texts = {one["client"]: one["text"] for one in found["findings"] if one["kind"] == "SHIFTED"}
    assert set(texts) == {RAW, TWICE}
    assert texts[RAW] == (
        f"caller {RAW} sends `input_tensor` unscaled: 10 of 10 features match the training data before StandardScaler; "
        "apply the scaler in the client or declare `transform: standardize` (SHIFTED)"
    )
    assert "scaled twice" in texts[TWICE]
    page = sidecar.get("/metrics")[1]
    assert metric(page, FINDINGS, model="fraud", client=RAW, kind="SHIFTED") >= REQUESTS - 64
    assert metric(page, FINDINGS, client=SCALED) == 0
    log = "".join(sidecar.log)
    assert "not_scaled" in log and RAW in log and "scaled_twice" in log


@pytest.mark.parametrize("sidecar", ["refuse"], indirect=True)
def test_with_refuse_honest_clients_are_served_and_drift_is_drift(trained, sidecar):
    random = np.random.default_rng(13)
    honest, drifting, raw = (Client(sidecar.address, name) for name in (SCALED, DRIFTING, RAW))
    for step in range(150):
        fresh = drawn(random, 16)
        honest.send(trained.scaled(fresh))
        # Customers become older; nobody is outside of what the training data had.
        fresh = drawn(random, 16)
        fresh[:, 3:6] = np.clip(fresh[:, 3:6] + 20 * step / 150, 18, 95)
        drifting.send(trained.scaled(fresh))
    with pytest.raises(grpc.RpcError) as refused:
        for _ in range(64):
            raw.send(drawn(random, 1))
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    found = json.loads(sidecar.get("/api/findings")[1])["signatures"][0]
    clients = {client["client"]: client for client in found["clients"]}
    assert clients[DRIFTING]["shifted"] == [] and clients[DRIFTING]["drift"] > 0.25
    assert clients[SCALED]["shifted"] == [] and clients[SCALED]["drift"] < 0.1
    assert not any(one["kind"] == "SHIFTED" and one["client"] != RAW for one in found["findings"])
    for client in (honest, drifting, raw):
        client.channel.close()
