"""The test server itself: recorder, thread limit, reload, hot swap of versions, shutdown and
restart."""

import shutil
import signal

import grpc
import pytest
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

import requests_mlp as mlp
from harness import MLP, MODELS, Server, channel, raw_call, until

ECHO = f"echo_string={MODELS / 'echo_string'}"
State = get_model_status_pb2.ModelVersionStatus
RELOAD = "/tensorflow.serving.ModelService/HandleReloadConfigRequest"


def status(opened, name):
    """{version: state}; empty for an unknown model."""
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = name
    try:
        response = model_service_pb2_grpc.ModelServiceStub(opened).GetModelStatus(request, timeout=10)
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.NOT_FOUND
        return {}
    return {version.version: version.state for version in response.model_version_status}


def reload_request(**models):
    request = model_management_pb2.ReloadConfigRequest()
    request.config.model_config_list.SetInParent()
    for name, path in models.items():
        request.config.model_config_list.config.add(name=name, base_path=str(path), model_platform="tensorflow")
    return request


@pytest.fixture(scope="module")
def opened():
    """A channel to a server shared by the tests that do not change it."""
    with Server("--model", MLP, "--model", ECHO, "--record") as server, channel(server.address) as shared:
        yield shared


def test_a_request_is_answered_and_recorded_byte_for_byte(opened):
    values, expected = mlp.case()
    before = mlp.recorded_count(opened)
    unknown_field = b"\xa2\x06\x03abc"
    data = mlp.request(values, [1, 128]).SerializeToString() + unknown_field
    code, text, answer = raw_call(opened, mlp.PREDICT, data)
    assert (code, text) == (0, "")
    assert mlp.recorded(opened) == data
    response = prediction_service_pb2_grpc.PredictionServiceStub(opened).Predict(mlp.request(values, [1, 128]))
    assert response == type(response).FromString(answer)
    assert mlp.probabilities(response) == pytest.approx(expected, abs=1e-6)
    assert mlp.recorded_count(opened) == before + 2
    older = opened.unary_unary(mlp.RECORDER + "Last")(b"1", timeout=10)
    assert older == data and mlp.recorded(opened) != data


def test_large_messages_are_accepted(opened):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "echo_string"
    tensor = request.inputs["x"]
    tensor.dtype = types_pb2.DT_STRING
    for size in (1, 1):
        tensor.tensor_shape.dim.add(size=size)
    tensor.string_val.append(b"x" * (8 << 20))
    response = prediction_service_pb2_grpc.PredictionServiceStub(opened).Predict(request, timeout=60)
    assert [output.string_val == tensor.string_val for output in response.outputs.values()][0]


def test_without_the_flag_there_is_no_recorder():
    with Server("--model", MLP) as server, channel(server.address) as other:
        assert raw_call(other, mlp.RECORDER + "Last", b"")[:2] == (12, "")


def test_calls_over_the_thread_limit_are_refused(tmp_path):
    with Server("--model", MLP, "--grpc-max-threads", "1") as server, channel(server.address) as opened:
        assert status(opened, "mlp") == {1: State.AVAILABLE, 2: State.AVAILABLE}
        # Waits for a model that never appears, and holds the only thread.
        request = reload_request(mlp=MODELS / "mlp", ghost=tmp_path / "ghost").SerializeToString()
        waiting = opened.unary_unary(RELOAD).future(request)

        def refused():
            code, text, _ = raw_call(opened, mlp.PREDICT, b"")
            return code == 8 and text == "Server Threadpool Exhausted"

        until(refused, what="a refusal")
        waiting.cancel()
        until(lambda: not refused(), what="a free thread")


def test_reload_replaces_the_models():
    with Server("--model", MLP) as server, channel(server.address) as opened:
        stub = model_service_pb2_grpc.ModelServiceStub(opened)
        answer = stub.HandleReloadConfigRequest(reload_request(twoin=MODELS / "twoin"), timeout=60)
        assert answer.status.error_code == 0
        assert status(opened, "twoin") == {1: State.AVAILABLE}
        until(lambda: status(opened, "mlp") == {1: State.END, 2: State.END}, what="mlp to be unloaded")
        code, text, _ = raw_call(opened, mlp.PREDICT, mlp.request([0] * 128, [1, 128]).SerializeToString())
        assert (code, text) == (5, "Servable not found for request: Latest(mlp)")


def test_reload_refuses_what_tensorflow_serving_refuses(opened):
    label = reload_request(mlp=MODELS / "mlp")
    label.config.model_config_list.config[0].version_labels["next"] = 7
    twice = reload_request(mlp=MODELS / "mlp")
    twice.config.model_config_list.config.append(twice.config.model_config_list.config[0])
    cases = [
        (label, 9, "Request to assign label to version 7 of model mlp, which is not currently available for inference"),
        (twice, 3, "Illegal to list model mlp multiple times in config list"),
        (
            reload_request(mlp="models/mlp"),
            3,
            "Expected model mlp to have an absolute path or URI; got base_path()=models/mlp",
        ),
    ]
    for request, code, text in cases:
        assert raw_call(opened, RELOAD, request.SerializeToString())[:2] == (code, text)
    assert status(opened, "mlp") == {1: State.AVAILABLE, 2: State.AVAILABLE}


def test_a_new_version_takes_over_and_a_broken_one_does_not(tmp_path):
    base = tmp_path / "mlp"
    shutil.copytree(MODELS / "mlp" / "1", base / "1")
    options = ("--model", f"mlp={base}", "--file-system-poll-wait-seconds", "0.05")
    with Server(*options) as server, channel(server.address) as opened:
        assert status(opened, "mlp") == {1: State.AVAILABLE}
        staged = tmp_path / "staged"
        shutil.copytree(MODELS / "mlp" / "2", staged)
        staged.rename(base / "2")
        until(lambda: status(opened, "mlp") == {2: State.AVAILABLE, 1: State.END}, what="version 2 to take over")
        values, expected = mlp.case()
        stub = prediction_service_pb2_grpc.PredictionServiceStub(opened)
        response = stub.Predict(mlp.request(values, [1, 128]))
        assert response.model_spec.version.value == 2
        assert mlp.probabilities(response) == pytest.approx(expected, abs=1e-6)
        (tmp_path / "broken").mkdir()
        (tmp_path / "broken" / "saved_model.pb").write_bytes(b"\xff not a model")
        (tmp_path / "broken").rename(base / "3")
        until(lambda: status(opened, "mlp").get(3) == State.END, what="version 3 to fail")
        assert stub.Predict(mlp.request(values, [1, 128])).model_spec.version.value == 2


def test_a_broken_model_makes_startup_fail(tmp_path):
    (tmp_path / "1").mkdir()
    with pytest.raises(RuntimeError, match="Failed to start server. Error: UNKNOWN: 1 model"):
        Server("--model", f"broken={tmp_path}")


def test_sigterm_stops_it_and_a_restart_can_reuse_the_port():
    with Server("--model", MLP) as first:
        with channel(first.address) as opened:
            assert status(opened, "mlp")
        first.kill()
        with Server("--model", MLP, port=first.port) as second, channel(second.address) as opened:
            assert second.port == first.port
            assert status(opened, "mlp")
            second.process.send_signal(signal.SIGTERM)
            assert second.process.wait(timeout=10) == 0
