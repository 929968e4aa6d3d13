"""Real measurements, which scikit-learn ships: profiles of a part of the rows, and the rest sent by clients that
scale, do not, or do it twice, and by clients that send a slice."""

import json
import subprocess

import grpc
import numpy as np
import pytest
import tensorflow as tf
from sklearn import datasets
from sklearn.preprocessing import StandardScaler
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from harness import Server
from sidecar import Sidecar, binary, repairs

LOADERS = {
    "cancer": datasets.load_breast_cancer,
    "diabetes": lambda return_X_y: datasets.load_diabetes(return_X_y=return_X_y, scaled=False),
    "digits": datasets.load_digits,
}
RAW, SCALED, TWICE = "fraud-batch/2.3", "ranker/1.8", "mobile/7.1"


class Linear(tf.Module):
    """The least-squares fit of the targets."""

    def __init__(self, rows, targets):
        weights, *_ = np.linalg.lstsq(np.hstack([rows, np.ones((len(rows), 1))]), targets, rcond=None)
        self.weights, self.bias = tf.Variable(weights[:-1].astype(np.float32)), tf.Variable(np.float32(weights[-1]))
        self.serve = tf.function(self.predict, input_signature=[tf.TensorSpec([None, rows.shape[1]], tf.float32, "x")])

    def predict(self, x):
        return {"y": tf.linalg.matvec(x, self.weights) + self.bias}


class Data:
    """A data set in two parts: the model and its profile are made of one, clients send the other."""

    def __init__(self, name, folder):
        rows, targets = LOADERS[name](return_X_y=True)
        order = np.random.default_rng(17).permutation(len(rows))
        rows, targets, half = rows[order], targets[order].astype(np.float64), len(rows) * 6 // 10
        self.name, self.rows, self.targets = name, rows[half:], targets[half:]
        self.scaler = StandardScaler().fit(rows[:half])
        self.module = Linear(self.scaled(rows[:half]), targets[:half])
        self.model = folder / name
        signatures = {"serving_default": self.module.serve.get_concrete_function()}
        tf.saved_model.save(self.module, str(self.model / "1"), signatures=signatures)
        np.savez(folder / f"{name}.npz", x=self.scaled(rows[:half]))
        np.savez(folder / f"{name}-raw.npz", x=rows[:half])
        fitted = {"kind": "standard", "mean": self.scaler.mean_.tolist(), "scale": self.scaler.scale_.tolist()}
        (folder / f"{name}.json").write_text(json.dumps(fitted))
        self.profile = folder / f"{name}.yaml"
        build = [binary(), "profile", "build", folder / f"{name}.npz", "--raw", folder / f"{name}-raw.npz"]
        build += ["--scaler", folder / f"{name}.json", "--out", self.profile]
        subprocess.run([str(part) for part in build], check=True, timeout=120)

    def scaled(self, rows):
        return self.scaler.transform(rows).astype(np.float32)

    def answers(self, rows):
        return self.module.serve(tf.constant(self.scaled(rows)))["y"].numpy()

    def slices(self):
        """What honest clients may send: the rows of one kind of target, and those that are large in a feature."""
        low, high = np.quantile(self.targets, [0.3, 0.7])
        yield "low targets", self.rows[self.targets <= low]
        yield "high targets", self.rows[self.targets >= high]
        for at in range(0, self.rows.shape[1], max(self.rows.shape[1] // 4, 1)):
            yield f"large in {at}", self.rows[self.rows[:, at] >= np.quantile(self.rows[:, at], 0.75)]


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """(the server, {name: Data})"""
    folder = tmp_path_factory.mktemp("real")
    data = {name: Data(name, folder) for name in LOADERS}
    models = [part for name, of in data.items() for part in ("--model", f"{name}={of.model}")]
    with Server(*models) as server:
        yield server, data


def sidecar(server, folder, data, policy):
    config = folder / "config.yaml"
    models = ", ".join(f"{name}: {{profile: {of.profile}, {policy}}}" for name, of in data.items())
    config.write_text(f"models: {{{models}}}\n")
    return Sidecar(server.address, "--config", str(config))


class Client:
    """A client with a name of its own. `send` returns its answer, its warnings and what was repaired."""

    def __init__(self, address, name):
        self.channel = grpc.insecure_channel(address, options=(("grpc.primary_user_agent", name),))
        self.stub = prediction_service_pb2_grpc.PredictionServiceStub(self.channel)

    def send(self, model, rows):
        request = predict_pb2.PredictRequest()
        request.model_spec.name = model
        tensor = request.inputs["x"]
        tensor.dtype = types_pb2.DT_FLOAT
        for size in rows.shape:
            tensor.tensor_shape.dim.add(size=size)
        tensor.tensor_content = rows.astype("<f4").tobytes()
        answer, call = self.stub.Predict.with_call(request, timeout=30)
        metadata = call.initial_metadata()
        warnings = [value for key, value in metadata if key == "tfs-sidecar-warning"]
        return np.array(answer.outputs["y"].float_val), warnings, repairs(metadata)[1]


def named(address, model, name, rows):
    """Sends a row a request. The request that was first named, and how many rows had a row finding."""
    client, first, flagged = Client(address, name), None, 0
    for number, row in enumerate(rows, 1):
        _, warnings, _ = client.send(model, row[None, :])
        if first is None and any("(SHIFTED)" in text for text in warnings):
            first = number
        flagged += any("(SHIFTED)" not in text for text in warnings)
    client.channel.close()
    return first, flagged


@pytest.mark.parametrize("name", LOADERS)
def test_raw_values_are_named_and_honest_clients_are_not(served, tmp_path, name):
    server, data = served
    of = data[name]
    with sidecar(server, tmp_path, data, "profile_check: warn") as running:
        running.wait_ready()
        first, flagged = named(running.address, name, SCALED, of.scaled(of.rows))
        print(f"{name}: {flagged} of {len(of.rows)} honest rows have a row finding")
        assert first is None and flagged <= len(of.rows) / 50
        for number, (what, rows) in enumerate(of.slices()):
            first, _ = named(running.address, name, f"slice-{number}/1.0", of.scaled(rows))
            assert first is None, what
        first, _ = named(running.address, name, RAW, of.rows[:64])
        twice, _ = named(running.address, name, TWICE, of.scaled(of.scaled(of.rows)))
        print(f"{name}: named after {first} raw requests, {twice} that are scaled twice, of {len(of.rows)}")
        found = json.loads(running.get("/api/findings")[1])["signatures"]
        found = next(signature for signature in found if signature["model"] == name)
        shifted = {client["client"]: client["shifted"] for client in found["clients"]}
        assert shifted[RAW] == ["not_scaled"] and first is not None
        assert shifted[TWICE] in ([], ["scaled_twice"])


@pytest.mark.parametrize("name", LOADERS)
def test_raw_values_are_standardized_and_others_never(served, tmp_path, name):
    server, data = served
    of = data[name]
    declared = "signatures: {serving_default: {inputs: {x: {transform: [{standardize: {from: profile}}], when: raw}}}}"
    with sidecar(server, tmp_path, data, declared) as running:
        running.wait_ready()
        client, untouched = Client(running.address, RAW), 0
        for row in of.rows:
            expected = of.answers(row[None, :])
            answer, warnings, made = client.send(name, row[None, :])
            if made:
                np.testing.assert_allclose(answer, expected, rtol=1e-3, atol=1e-3)
            else:
                untouched += 1
                assert any("(NOT_TRANSFORMED)" in text for text in warnings)
            answer, _, made = client.send(name, of.scaled(row[None, :]))
            assert not made
            np.testing.assert_allclose(answer, expected, rtol=1e-3, atol=1e-3)
            assert not client.send(name, of.scaled(of.scaled(row[None, :])))[2]
        client.channel.close()
        print(f"{name}: {untouched} of {len(of.rows)} raw requests of one row are left as they are")
