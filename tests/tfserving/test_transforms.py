"""Declared transforms in front of TensorFlow: a model that was trained on standardized data and
exported without the scaler, asked by clients that scale and clients that do not."""

import base64
import collections
import concurrent.futures
import json
import urllib.request

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from harness import Server
from sidecar import Sidecar, metric, repairs

FEATURES, CLASSES = 10, 3
LEVELS = [0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99]
REQUESTS = 300
# Mean and deviation of each feature before the scaler: ages, amounts, counts, rates.
MEAN = np.array([41.0, 1200.0, 3.5, 0.02, 650.0, 88.0, 12000.0, 7.0, 0.4, 150.0])
STD = np.array([12.0, 800.0, 1.5, 0.01, 90.0, 30.0, 9000.0, 2.0, 0.1, 60.0])


class Scaled(tf.Module):
    """Takes standardized features; its scaler was not exported."""

    def __init__(self, rng):
        self.weights = tf.Variable(rng.normal(size=(FEATURES, CLASSES)).astype(np.float32))

    @tf.function(input_signature=[tf.TensorSpec([None, FEATURES], tf.float32, "x")])
    def serve(self, x):
        return {"class": tf.argmax(tf.matmul(x, self.weights), 1)}


class Picture(tf.Module):
    """Answers with what it was sent."""

    @tf.function(input_signature=[tf.TensorSpec([None, 2, 3, 3], tf.float32, "x"), tf.TensorSpec([None], tf.string, "text")])
    def serve(self, x, text):
        return {"x": x, "text": text}


def feature(values):
    numbers = [values.min(), values.max(), values.mean(), values.std()]
    named = ", ".join(f"{name}: {number!r}" for name, number in zip(("min", "max", "mean", "std"), map(float, numbers), strict=True))
    quantiles = [float(number) for number in np.quantile(values, LEVELS)]
    return f"      - {{count: {len(values)}, {named}, quantiles: {quantiles}}}\n"


def profile(raw, scaled, mean, std):
    """The file that `tfs-sidecar profile build` makes of the training data and its scaler."""
    sides = [("features", scaled), ("raw", raw)]
    text = f"profile: 1\nrows: {len(raw)}\ninputs:\n  x:\n    dtype: float\n    by: feature\n"
    for side, data in sides:
        text += f"    {side}:\n" + "".join(feature(column) for column in data.T)
    return text + f"    scaler: {{kind: standard, mean: {mean.tolist()}, scale: {std.tolist()}}}\n"


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """(the server, the module, the folder)"""
    folder = tmp_path_factory.mktemp("scaled")
    module = Scaled(np.random.default_rng(5))
    tf.saved_model.save(module, str(folder / "scaled" / "1"), signatures={"serving_default": module.serve})
    picture = Picture()
    tf.saved_model.save(picture, str(folder / "picture" / "1"), signatures={"serving_default": picture.serve})
    with Server("--model", f"scaled={folder / 'scaled'}", "--model", f"picture={folder / 'picture'}") as server:
        yield server, module, folder


def request(values, dtype):
    message = predict_pb2.PredictRequest()
    message.model_spec.name = "scaled"
    message.inputs["x"].CopyFrom(tf.make_tensor_proto(values.astype(dtype)))
    return message


def over_grpc(sidecar):
    stub = prediction_service_pb2_grpc.PredictionServiceStub(grpc.insecure_channel(sidecar.address))

    def ask(values, dtype):
        answer, call = stub.Predict.with_call(request(values, dtype), timeout=30)
        made = {text.split(";")[1] for text in repairs(call.initial_metadata())[1]}
        warned = any(key == "tfs-sidecar-warning" for key, _ in call.initial_metadata())
        return tf.make_ndarray(answer.outputs["class"]), made, warned

    return ask


def over_rest(sidecar):
    def ask(values, dtype):
        body = json.dumps({"inputs": values.astype(dtype).astype(float).tolist()}).encode()
        with urllib.request.urlopen(f"http://{sidecar.rest}/v1/models/scaled:predict", data=body, timeout=30) as answer:
            made = {text.split(";")[1] for text in answer.headers.get_all("tfs-sidecar-repair") or []}
            warned = answer.headers["tfs-sidecar-warning"] is not None
            return np.array(json.load(answer)["outputs"]), made, warned

    return ask


def ask_all(served, mean, std, batching):
    """Asks as raw, scaled and twice-scaled clients at once. Counts what became of their requests, by
    client and number of rows."""
    server, module, folder = served
    rng = np.random.default_rng(9)
    training = rng.normal(size=(20_000, FEATURES)) * std + mean
    mean, std = training.mean(0), training.std(0)
    (folder / "profile.yaml").write_text(profile(training, (training - mean) / std, mean, std))
    config = folder / "config.yaml"
    config.write_text(
        "workers: 2\nmodels:\n  scaled:\n    signatures:\n      serving_default:\n"
        f"        profile: {folder / 'profile.yaml'}\n"
        "        inputs: {x: {transform: [{standardize: {from: profile}}], when: raw}}\n"
        f"        batching: {{{batching}}}\n"
    )
    counts = collections.Counter()
    with Sidecar(server.address, "--config", str(config), "--rest-listen", "127.0.0.1:0") as sidecar:
        sidecar.wait_ready()
        doors = [over_grpc(sidecar), over_rest(sidecar)]

        def one(number):
            own = np.random.default_rng(number)
            rows = [1, 1, 2, 8, 64][number % 5]
            raw = own.normal(size=(rows, FEATURES)) * std + mean
            scaled = (raw - mean) / std
            expected = module.serve(tf.constant(scaled.astype(np.float32)))["class"].numpy()
            found = []
            for client, values in [("raw", raw), ("scaled", scaled), ("twice", (scaled - mean) / std)]:
                answer, made, warned = doors[number % 2](values, [np.float32, np.float64][number // 2 % 2])
                became = "transformed" if "standardize" in made else "warned" if warned else "passed"
                right = client != "twice" and (answer == expected).all()
                found.append((client, min(rows, 2), became, bool(right)))
            return found

        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            for found in pool.map(one, range(REQUESTS)):
                counts.update(found)
        _, metrics = sidecar.get("/metrics")
        transformed = sum(count for (_, _, became, _), count in counts.items() if became == "transformed")
        assert metric(metrics, "tfs_sidecar_repairs_total", rule="standardize") == transformed
    return counts, sidecar.log


def total(counts, **wanted):
    names = ("client", "rows", "became", "right")
    return sum(count for key, count in counts.items() if all(dict(zip(names, key, strict=True))[name] == value for name, value in wanted.items()))


@pytest.mark.parametrize("batching", ["enabled: off", "enabled: on, probation: 20, verify_sample: 0.05"])
def test_raw_and_scaled_clients_both_get_the_right_class(served, batching):
    counts, log = ask_all(served, MEAN, STD, batching)
    assert not any("times as likely raw" in line for line in log)
    print(f"untouched raw requests: {total(counts, client='raw') - total(counts, client='raw', became='transformed')} of {REQUESTS}")
    assert total(counts, client="raw", became="transformed", right=True) == REQUESTS, counts
    assert total(counts, client="scaled", right=True) == REQUESTS, counts
    # Nobody is scaled twice, and who does it is not made worse.
    assert total(counts, client="scaled", became="transformed") == 0, counts
    assert total(counts, client="twice", became="transformed") == 0, counts


def test_where_the_sides_overlap_nothing_is_transformed_by_mistake(served):
    """The scaler changes little, so that few rows say nothing."""
    counts, log = ask_all(served, np.full(FEATURES, 0.7), np.full(FEATURES, 1.6), "enabled: off")
    left = total(counts, client="raw") - total(counts, client="raw", became="transformed")
    one_row = total(counts, client="raw", rows=1) - total(counts, client="raw", rows=1, became="transformed")
    print(f"untouched raw requests: {left} of {REQUESTS}; of one row: {one_row} of {total(counts, client='raw', rows=1)}")
    assert one_row > total(counts, client="raw", rows=1) / 2, counts
    assert any("times as likely raw" in line for line in log), "the operator is not told that one row is too little"
    for client in ("scaled", "twice"):
        assert total(counts, client=client, became="transformed") == 0, counts
    assert total(counts, client="scaled", right=True) == REQUESTS, counts
    transformed = total(counts, client="raw", became="transformed")
    assert total(counts, client="raw", became="transformed", right=True) == transformed, counts
    assert total(counts, client="raw", became="passed") == 0, f"an untouched raw request without a warning: {counts}"


def test_content_is_decoded_and_moved(served):
    server, _, folder = served
    config = folder / "picture.yaml"
    config.write_text(
        "rename_model: {photo: picture}\nmodels: {picture: {signatures: {serving_default: {inputs: {\n"
        "  x: {transform: [{transpose: [0, 2, 3, 1]}, {scale: {factor: 0.00392156862745098}}]},\n"
        "  text: {transform: [{decode_base64: on}, {lowercase: on}]}}}}}}\n"
    )
    pixels = np.arange(36, dtype=np.uint8).reshape(2, 3, 2, 3)
    message = predict_pb2.PredictRequest()
    message.model_spec.name = "photo"
    message.inputs["x"].CopyFrom(tf.make_tensor_proto(pixels))
    texts = ["GRÜẞE", "Hello"]
    message.inputs["text"].CopyFrom(tf.make_tensor_proto([base64.b64encode(text.encode()) for text in texts]))
    with Sidecar(server.address, "--config", str(config)) as sidecar:
        sidecar.wait_ready()
        stub = prediction_service_pb2_grpc.PredictionServiceStub(grpc.insecure_channel(sidecar.address))
        answer, call = stub.Predict.with_call(message, timeout=30)
    expected = (pixels.transpose(0, 2, 3, 1) * 0.00392156862745098).astype(np.float32)
    np.testing.assert_array_equal(tf.make_ndarray(answer.outputs["x"]), expected)
    assert list(answer.outputs["text"].string_val) == [text.lower().encode() for text in texts]
    made = {text.split(";")[1] for text in repairs(call.initial_metadata())[1]}
    assert made == {"rename_model", "cast_widen", "transpose", "scale", "decode_base64", "lowercase"}
