"""End to end: Python clients with the public stubs, the sidecar, and the TensorFlow runtime behind
it."""

import re

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    prediction_service_pb2_grpc,
)

import requests_mlp as mlp
from golden import same_message
from harness import MLP, Server, channel, raw_call, until
from sidecar import Sidecar, details, metric, repairs

MISTAKES = [
    # Shape and dtype of the request; the repairs reported to the client, in the order of the
    # stages.
    (
        [128],
        types_pb2.DT_DOUBLE,
        [r"input_tensor;cast_round;\w+->\w+( lossy)?", r"input_tensor;add_batch_dim;\[128\]->\[1,128\]"],
    ),
    ([128], types_pb2.DT_FLOAT, [r"input_tensor;add_batch_dim;\[128\]->\[1,128\]"]),
    ([128, 1], types_pb2.DT_FLOAT, [r"input_tensor;column_vector;\[128,1\]->\[1,128\]"]),
]


@pytest.fixture(scope="module")
def upstream():
    with Server("--model", MLP, "--record") as server:
        yield server


@pytest.fixture(scope="module")
def sidecar(upstream):
    with Sidecar(upstream.address, "--model", "mlp") as running:
        yield running.wait_ready()


@pytest.fixture(scope="module")
def direct(upstream):
    with channel(upstream.address) as opened:
        yield opened


@pytest.fixture(scope="module")
def client(sidecar):
    with channel(sidecar.address) as opened:
        yield opened


def predict(opened, request):
    """(response, initial metadata)."""
    response, call = prediction_service_pb2_grpc.PredictionServiceStub(opened).Predict.with_call(request, timeout=30)
    return response, call.initial_metadata()


def refusal(opened, request):
    with pytest.raises(grpc.RpcError) as caught:
        predict(opened, request)
    return caught.value


def test_a_conforming_request_gets_the_servers_answer_without_repairs(client, direct):
    values, expected = mlp.case()
    request = mlp.request(values, [1, 128])
    response, metadata = predict(client, request)
    assert repairs(metadata) == (None, set())
    assert response == predict(direct, request)[0]
    assert mlp.probabilities(response) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("shape", "dtype", "reported"), MISTAKES)
def test_a_repaired_request_gets_the_same_answer(client, direct, shape, dtype, reported):
    values, _ = mlp.case()
    response, metadata = predict(client, mlp.request(values, shape, dtype))
    assert response == predict(direct, mlp.request(values, [1, 128]))[0]
    count, texts = repairs(metadata)
    assert count == str(len(reported)) and len(texts) == len(reported)
    for pattern in reported:
        assert any(re.fullmatch(pattern, text) for text in texts), f"expected {pattern}, got {texts}"


@pytest.mark.parametrize("tail", [b"", b"\xa2\x06\x03abc"], ids=["plain", "unknown field"])
def test_a_conforming_request_arrives_byte_for_byte(client, direct, tail):
    values, _ = mlp.case()
    data = mlp.request(values, [1, 128]).SerializeToString() + tail
    assert raw_call(client, mlp.PREDICT, data)[0] == 0
    assert mlp.recorded(direct) == data


def test_a_repaired_request_arrives_as_the_signature_requires(client, direct):
    values, _ = mlp.case()
    predict(client, mlp.request(values, [128], types_pb2.DT_DOUBLE))
    wanted = mlp.request(values, [1, 128])
    arrived = type(wanted).FromString(mlp.recorded(direct))
    tensor = arrived.inputs[mlp.INPUT]
    assert tensor.dtype == types_pb2.DT_FLOAT
    assert tensor.tensor_shape == wanted.inputs[mlp.INPUT].tensor_shape
    assert tensor.tensor_content == wanted.inputs[mlp.INPUT].tensor_content or list(tensor.float_val) == list(values)


@pytest.mark.parametrize(("shape", "reason"), [([127], "RANK_TOO_LOW"), ([1, 127], "DIM_MISMATCH")])
def test_an_unrepairable_request_is_refused_with_an_explanation(client, direct, shape, reason):
    before = mlp.recorded_count(direct)
    error = refusal(client, mlp.request([0.5] * 127, shape))
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    sent = str(shape).replace(" ", "")
    for word in ("mlp", mlp.INPUT, "[-1,128]", sent, reason):
        assert word in error.details()
    status, bad_request, info = details(error)
    assert (status.code, status.message) == (3, error.details())
    assert [mlp.INPUT in violation.field for violation in bad_request.field_violations] == [True]
    assert (info.domain, info.reason) == ("tfs-sidecar", reason)
    assert mlp.recorded_count(direct) == before, "the request reached the server"


def test_other_methods_return_the_servers_answer(client, direct):
    metadata = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    metadata.model_spec.name = "mlp"
    status = get_model_status_pb2.GetModelStatusRequest()
    status.model_spec.name = "mlp"
    for number in (None, 1, 2):
        if number:
            metadata.model_spec.version.value = status.model_spec.version.value = number
        answers = [
            (
                prediction_service_pb2_grpc.PredictionServiceStub(opened).GetModelMetadata(metadata, timeout=30),
                model_service_pb2_grpc.ModelServiceStub(opened).GetModelStatus(status, timeout=30),
            )
            for opened in (client, direct)
        ]
        assert same_message(answers[0][0], answers[1][0])
        assert answers[0][1] == answers[1][1]


def test_versions_and_labels_work_as_on_the_server(client, direct):
    values, _ = mlp.case()
    seen = set()
    for label in ("stable", "canary"):
        request, good = mlp.request(values, [128]), mlp.request(values, [1, 128])
        request.model_spec.version_label = good.model_spec.version_label = label
        response = predict(client, request)[0]
        assert response == predict(direct, good)[0]
        seen.add(response.model_spec.version.value)
    assert seen == {1, 2}


def test_an_unknown_model_is_not_found(client):
    error = refusal(client, mlp.request([0.5] * 128, [1, 128], model="nope"))
    assert error.code() == grpc.StatusCode.NOT_FOUND
    assert "nope" in error.details()


def test_a_reload_request_is_refused(client):
    with pytest.raises(grpc.RpcError) as caught:
        stub = model_service_pb2_grpc.ModelServiceStub(client)
        stub.HandleReloadConfigRequest(model_management_pb2.ReloadConfigRequest(), timeout=30)
    assert caught.value.code() == grpc.StatusCode.PERMISSION_DENIED


def test_it_is_healthy_and_counts_repairs(client, sidecar):
    answer = health_pb2_grpc.HealthStub(client).Check(health_pb2.HealthCheckRequest(service=""), timeout=30)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    name = "tfs_sidecar_repairs_total"
    before = metric(sidecar.get("/metrics")[1], name, model="mlp", rule="add_batch_dim")
    predict(client, mlp.request([0.5] * 128, [128]))
    assert metric(sidecar.get("/metrics")[1], name, model="mlp", rule="add_batch_dim") == before + 1


INVALID, TOO_LARGE = 3, 8
SHAPES = {
    # Name: shape, acceptable codes. If the element count fits into a number, it may be called
    # invalid or too large.
    "overflow": ([1 << 62, 1 << 62], [INVALID]),
    "overflow to zero": ([1 << 32, 1 << 32], [INVALID]),
    "negative": ([-5, 128], [INVALID]),
    "rank 300": ([1] * 300, [INVALID]),
    "huge": ([1 << 40, 128], [INVALID, TOO_LARGE]),
    "largest": ([(1 << 63) - 1], [INVALID, TOO_LARGE]),
}


def hostile():
    """{name: (bytes that no client library would send, acceptable codes)}."""
    good = mlp.request([0.5] * 128, [1, 128]).SerializeToString()
    requests = {
        "garbage": (b"\xff" * 64, [INVALID]),
        "truncated": (good[:-1], [INVALID]),
        "group end": (b"\x0c", [INVALID]),
        "bad text": (b"\x0a\x04\x0a\x02\xff\xfe", [INVALID]),
        "empty": (b"", [INVALID]),
    }
    for name, (shape, codes) in SHAPES.items():
        for values in ([], [0.5] * 128):
            requests[f"{name}, {len(values)} values"] = mlp.request(values, shape).SerializeToString(), codes
    return requests


@pytest.mark.parametrize("name", hostile())
def test_hostile_bytes_are_refused_and_do_no_harm(client, sidecar, name):
    data, codes = hostile()[name]
    code, text, _ = raw_call(client, mlp.PREDICT, data)
    assert code in codes and text, f"{code} {text!r}"
    assert sidecar.alive
    values, _ = mlp.case()
    assert predict(client, mlp.request(values, [128]))[0].outputs["probs"].float_val


def test_the_sidecar_survives_a_restart_of_the_server():
    values, _ = mlp.case()
    request = mlp.request(values, [128])

    def answers(opened):
        try:
            return predict(opened, request)[0]
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.UNAVAILABLE, f"{error.code()}: {error.details()}"
            return None

    with Server("--model", MLP) as first, Sidecar(first.address, "--model", "mlp") as running:
        running.wait_ready()
        with channel(running.address) as opened:
            before = predict(opened, request)[0]
            first.kill()
            until(lambda: answers(opened) is None, what="UNAVAILABLE")
            with Server("--model", MLP, port=first.port):
                assert until(lambda: answers(opened), what="the sidecar to reconnect") == before
                assert running.alive
