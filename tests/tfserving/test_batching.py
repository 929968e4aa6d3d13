"""Batching under fire: many clients with values of their own, the sidecar, and the TensorFlow runtime
behind it, which is killed, restarted and given other versions meanwhile."""

import collections
import concurrent.futures
import random
import threading

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

import requests_mlp as mlp
from harness import MLP, Server, channel, until
from sidecar import Sidecar, metric

CLIENTS = 64
# Of the storm, in seconds.
LENGTH = 12
WIDTH, VOCABULARY = 6, 50
POISONED, CANCELLED, TIMED = 0.05, 0.05, 0.1


class Words(tf.Module):
    """Strings and int64 ids. An id outside the vocabulary fails the kernel, and with it the whole run."""

    def __init__(self, factor):
        self.table = tf.Variable(np.arange(VOCABULARY, dtype=np.float32) * factor)

    @tf.function(input_signature=[tf.TensorSpec([None, WIDTH], tf.int64, "ids"), tf.TensorSpec([None], tf.string, "names")])
    def serve(self, ids, names):
        return {"sums": tf.reduce_sum(tf.gather(self.table, ids), 1), "names": tf.strings.upper(names), "ids": ids}

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int64, "ids"), tf.TensorSpec([None], tf.string, "names")])
    def serve_any_width(self, ids, names):
        return {"sums": tf.reduce_sum(tf.gather(self.table, ids), 1), "names": tf.strings.upper(names), "ids": ids}


class OverRows(tf.Module):
    """Its rows depend on each other."""

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, "x")])
    def serve(self, x):
        return {"y": tf.nn.softmax(x, axis=0)}


def save_words(folder, version):
    """Versions take turns between two signatures; all answer the same."""
    module = Words(2.0)
    function = module.serve_any_width if version % 2 == 0 else module.serve
    made = folder.parent / f"words-{version}"
    tf.saved_model.save(module, str(made), signatures={"serving_default": function.get_concrete_function()})
    folder.mkdir(exist_ok=True)
    made.rename(folder / str(version))


def config_of(path, models, **settings):
    batching = ", ".join(f"{key}: {value}" for key, value in {"enabled": "on", **settings}.items())
    lines = [f"  {model}: {{signatures: {{serving_default: {{batching: {{{batching}}}}}}}}}\n" for model in models]
    path.write_text("workers: 2\nmodels:\n" + "".join(lines), encoding="utf-8")
    return str(path)


def float_request(rng):
    """(request, the same as it is declared, whether it is poisoned): rows for the model `mlp`."""
    rows = rng.randint(1, 5)
    values = np.array([[rng.gauss(0, 1) for _ in range(128)] for _ in range(rows)], dtype=np.float32)
    declared = mlp.request(values, [rows, 128])
    if rng.random() < POISONED:
        return mlp.request(values[:, :127], [rows, 127]), None
    kind = rng.randrange(4)
    if kind == 0:
        return mlp.request(values.astype(np.float64), [rows, 128], types_pb2.DT_DOUBLE), declared
    if kind == 1:
        listed = predict_pb2.PredictRequest()
        listed.CopyFrom(declared)
        tensor = listed.inputs[mlp.INPUT]
        tensor.tensor_content = b""
        tensor.float_val.extend(values.ravel())
        return listed, declared
    if kind == 2 and rows == 1:
        return mlp.request(values, [128]), declared
    return declared, declared


def word_request(rng):
    rows = rng.randint(1, 5)
    ids = [[rng.randrange(VOCABULARY) for _ in range(WIDTH)] for _ in range(rows)]
    poisoned = rng.random() < POISONED
    if poisoned:
        ids[rng.randrange(rows)][rng.randrange(WIDTH)] = 1_000_000 + rng.randrange(1000)
    names = [f"name-{rng.random()}".encode() for _ in range(rows)]
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "words"
    content = rng.random() < 0.5
    for alias, array, shape in (("ids", np.array(ids, dtype=np.int64), [rows, WIDTH]), ("names", names, [rows])):
        tensor = request.inputs[alias]
        for size in shape:
            tensor.tensor_shape.dim.add(size=size)
        if alias == "names":
            tensor.dtype = types_pb2.DT_STRING
            tensor.string_val.extend(array)
        elif content:
            tensor.dtype = types_pb2.DT_INT64
            tensor.tensor_content = array.tobytes()
        else:
            # As int32, which is repaired.
            tensor.dtype = types_pb2.DT_INT32
            tensor.int_val.extend(array.ravel())
    wanted = None if poisoned else (ids, [name.upper() for name in names])
    return request, wanted


def check_words(response, wanted):
    ids, names = wanted
    got = tf.make_ndarray(response.outputs["ids"])
    assert got.tolist() == ids, "the rows of another client"
    assert list(response.outputs["names"].string_val) == names, "the rows of another client"
    sums = tf.make_ndarray(response.outputs["sums"])
    np.testing.assert_allclose(sums, 2.0 * np.array(ids).sum(1), rtol=1e-6)


class Client:
    """Sends requests until the end, and keeps what it got."""

    def __init__(self, number, address):
        self.rng = random.Random(number)
        # A connection for each client, as if they were processes.
        self.channel = grpc.insecure_channel(address, options=(("grpc.use_local_subchannel_pool", 1),))
        self.stub = prediction_service_pb2_grpc.PredictionServiceStub(self.channel)
        self.codes = collections.Counter()
        self.cancelled = 0
        self.shared = 0
        self.unsure = 0
        self.floats = []

    def run(self, over):
        with self.channel:
            while not over.is_set():
                self.one()
        return self

    def one(self):
        rng = self.rng
        words = rng.random() < 0.5
        request, wanted = word_request(rng) if words else float_request(rng)
        timed = rng.random() < TIMED
        timeout = rng.randint(1, 50) / 1000 if timed else 60
        call = self.stub.Predict.future(request, timeout=timeout)
        if rng.random() < CANCELLED:
            threading.Event().wait(rng.random() / 100)
            # A request that has its answer cannot be cancelled.
            self.cancelled += 1
            call.cancel()
            return
        model = request.model_spec.name
        try:
            response = call.result()
        except grpc.RpcError as error:
            code, text = error.code(), error.details()
            if code == grpc.StatusCode.DEADLINE_EXCEEDED and text == "Deadline Exceeded":
                # The client's own clock: the sidecar may have seen another end.
                self.unsure += 1
            else:
                self.codes[model, code.name] += 1
            self.check_error(code, text, words, wanted is None, timed)
            return
        self.codes[model, "OK"] += 1
        self.shared += any(key == "tfs-sidecar-batch" for key, _ in call.initial_metadata())
        assert wanted is not None, f"a poisoned request was answered: {request}"
        if words:
            check_words(response, wanted)
        else:
            self.floats.append((wanted, response))

    def check_error(self, code, text, words, poisoned, timed):
        if code == grpc.StatusCode.UNAVAILABLE:
            return
        if code == grpc.StatusCode.DEADLINE_EXCEEDED:
            assert timed, text
        elif code == grpc.StatusCode.RESOURCE_EXHAUSTED:
            assert timed and text.endswith("(QUEUE_FULL)"), text
        else:
            assert code == grpc.StatusCode.INVALID_ARGUMENT and poisoned, f"{code}: {text}"
            wanted = "is not in [0, 50)" if words else "DIM_MISMATCH"
            assert wanted in text, text


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("batching")
    save_words(folder / "words", 1)
    module = OverRows()
    tf.saved_model.save(module, str(folder / "over_rows" / "1"), signatures={"serving_default": module.serve.get_concrete_function()})
    return folder


def options(folder):
    models = {"mlp": mlp_folder(), "words": folder / "words", "over_rows": folder / "over_rows"}
    return [word for name, path in models.items() for word in ("--model", f"{name}={path}")]


def mlp_folder():
    return MLP.split("=", 1)[1].split(":")[0]


def test_no_answer_is_wrong_or_missing_whatever_happens(folder):
    config = config_of(folder / "storm.yaml", ["mlp", "words"], probation=8, verify_sample=0.02)
    server = Server(*options(folder), "--file-system-poll-wait-seconds", "0.3")
    try:
        with Sidecar(server.address, "--config", config) as sidecar:
            sidecar.wait_ready()
            over = threading.Event()
            clients = [Client(number, sidecar.address) for number in range(CLIENTS)]
            with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
                running = [pool.submit(client.run, over) for client in clients]
                try:
                    server = fire(server, folder, running)
                finally:
                    over.set()
                for client in running:
                    client.result()
            settle(sidecar)
            text = sidecar.get("/metrics")[1]
        with channel(server.address) as direct:
            check_floats(clients, direct)
    finally:
        server.__exit__()
    codes = sum((client.codes for client in clients), collections.Counter())
    cancelled = sum(client.cancelled for client in clients)
    unsure = sum(client.unsure for client in clients)
    shared = sum(client.shared for client in clients)
    print(dict(codes), f"{cancelled} cancelled, {unsure} given up by the client, {shared} answers of shared runs")
    assert min(codes["mlp", "OK"], codes["words", "OK"]) > 200
    assert codes["mlp", "INVALID_ARGUMENT"] > 0 and codes["words", "INVALID_ARGUMENT"] > 0
    assert shared > CLIENTS
    requests, runs = (metric(text, f"tfs_sidecar_batch_requests_{of}") for of in ("sum", "count"))
    assert requests > runs > 0, "requests share runs"
    assert metric(text, "tfs_sidecar_batch_divergence_total") == 0
    assert metric(text, "tfs_sidecar_panics_total") == 0
    # What clients have got was counted under the same code. Of those that a client gave up, the
    # sidecar may know another end.
    counted = 0
    for (model, code), count in codes.items():
        here = metric(text, "tfs_sidecar_requests_total", model=model, code=code)
        assert count <= here <= count + cancelled + unsure, f"{model} {code}: {count} answers, {here} counted"
        counted += here
    sent = sum(codes.values())
    total = sum(metric(text, "tfs_sidecar_requests_total", model=model) for model in ("mlp", "words"))
    assert sent <= total <= sent + cancelled + unsure, f"{total} counted, {sent} answers, {cancelled} cancelled, {unsure} given up"


def fire(server, folder, running):
    """Two crashes and three versions; returns the server that runs in the end."""
    pause = threading.Event()
    version = 1
    for turn in range(6):
        pause.wait(LENGTH / 6)
        for client in running:
            assert not client.done(), client.result()
        if turn in (1, 3):
            server.kill()
            server.__exit__()
            server = Server(*options(folder), "--file-system-poll-wait-seconds", "0.3", port=server.port)
        else:
            version += 1
            save_words(folder / "words", version)
    return server


def settle(sidecar):
    """Waits until nothing is in flight."""

    def quiet():
        text = sidecar.get("/metrics")[1]
        return all(metric(text, f"tfs_sidecar_{name}") == 0 for name in ("inflight_requests", "inflight_bytes", "queue_rows"))

    until(quiet, what="nothing in flight")


def check_floats(clients, direct):
    """Compares each answer with that of the server itself, which gets some rows alone and the rest
    in larger batches, to save time."""
    stub = prediction_service_pb2_grpc.PredictionServiceStub(direct)
    got = [(rows(request), response) for client in clients for request, response in client.floats]
    largest = 0.0
    for at in range(0, len(got), 64):
        some = got[at : at + 64]
        for group in [some] if at else [[one] for one in some]:
            values = np.concatenate([values for values, _ in group])
            wanted = stub.Predict(mlp.request(values, list(values.shape)), timeout=30).outputs
            for output in wanted:
                ours = [tf.make_ndarray(response.outputs[output]) for _, response in group]
                assert [len(part) for part in ours] == [len(values) for values, _ in group]
                ours, theirs = np.concatenate(ours), tf.make_ndarray(wanted[output])
                largest = max(largest, float(np.max(np.abs(ours - theirs))))
                np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-5)
    print(f"the largest difference from the server's own answer: {largest:.2e}")


def rows(request):
    return tf.make_ndarray(request.inputs[mlp.INPUT])


def together(address, requests):
    """Sends all at once on connections of their own; the answers."""
    with channel(address) as opened:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(opened)
        calls = [stub.Predict.future(request, timeout=30) for request in requests]
        return [call.result() for call in calls]


def state(sidecar, model):
    return metric(sidecar.get("/metrics")[1], "tfs_sidecar_batching", model=model)


def test_a_real_model_passes_its_probation(folder):
    config = config_of(folder / "probation.yaml", ["mlp"], verify_sample=0)
    rng = random.Random(5)
    with Server(*options(folder)) as server, Sidecar(server.address, "--config", config) as sidecar:
        sidecar.wait_ready()
        values = [[rng.gauss(0, 1) for _ in range(128)] for _ in range(16)]
        requests = [mlp.request(np.array(row, dtype=np.float32), [1, 128]) for row in values]
        with channel(server.address) as direct:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(direct)
            alone = [stub.Predict(request, timeout=30) for request in requests]

        def passed():
            for response, wanted in zip(together(sidecar.address, requests), alone):
                np.testing.assert_allclose(mlp.probabilities(response), mlp.probabilities(wanted), rtol=1e-3, atol=1e-5)
            with channel(sidecar.address) as opened:
                stub = prediction_service_pb2_grpc.PredictionServiceStub(opened)
                calls = [stub.Predict.future(request, timeout=30) for request in requests]
                return any(key == "tfs-sidecar-batch" for call in calls for key, _ in call.initial_metadata())

        until(passed, patience=60, what="answers of shared runs")
        text = sidecar.get("/metrics")[1]
    assert metric(text, "tfs_sidecar_batch_divergence_total") == 0
    assert metric(text, "tfs_sidecar_batch_requests_count", model="mlp") > 64


def test_a_softmax_over_the_batch_is_found_and_never_answered_wrong(folder):
    config = config_of(folder / "over_rows.yaml", ["over_rows"])
    requests = []
    for number in range(16):
        request = predict_pb2.PredictRequest()
        request.model_spec.name = "over_rows"
        request.inputs["x"].CopyFrom(tf.make_tensor_proto(np.array([[number, -number], [1, 2]], dtype=np.float32)))
        requests.append(request)
    wanted = [tf.nn.softmax(tf.make_ndarray(request.inputs["x"]), axis=0).numpy() for request in requests]
    with Server(*options(folder)) as server, Sidecar(server.address, "--config", config) as sidecar:
        sidecar.wait_ready()
        assert state(sidecar, "over_rows") == 1

        def found():
            for response, right in zip(together(sidecar.address, requests), wanted):
                np.testing.assert_allclose(tf.make_ndarray(response.outputs["y"]), right, rtol=1e-5, atol=1e-7)
            return state(sidecar, "over_rows") == 0

        until(found, what="batching to be switched off")
        for _ in range(5):
            found()
        text = sidecar.get("/metrics")[1]
    assert metric(text, "tfs_sidecar_batch_divergence_total", model="over_rows") >= 1
