"""The lines that `/api/fixes` and `tfs-sidecar fixes` tell a Python client, run as code: the request
that was repaired or refused then conforms."""

import json
import subprocess

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

import requests_mlp as mlp
from harness import MLP, Server, channel
from sidecar import Sidecar, binary, repairs

VALUES, EXPECTED = mlp.case()
CASES = {
    # What the client has, under which name it sends it, and the kinds of the mistakes.
    "no batch dimension": (VALUES, mlp.INPUT, ["add_batch_dim"]),
    "a column": (VALUES.reshape(128, 1), mlp.INPUT, ["column_vector"]),
    "float64": (VALUES.astype(np.float64).reshape(1, 128), mlp.INPUT, ["cast_round"]),
    "float64 without batch dimension": (VALUES.astype(np.float64), mlp.INPUT, ["cast_round", "add_batch_dim"]),
    "too many dimensions": (VALUES.reshape(1, 1, 128), mlp.INPUT, ["drop_unit_dims"]),
    "another name": (VALUES.reshape(1, 128), "x", ["rename_single"]),
}


def request(x, name):
    message = predict_pb2.PredictRequest()
    message.model_spec.name = "mlp"
    message.inputs[name].CopyFrom(tf.make_tensor_proto(x))
    return message


@pytest.fixture(scope="module")
def upstream():
    with Server("--model", MLP) as server:
        yield server


@pytest.mark.parametrize("case", CASES)
def test_the_line_to_change_makes_the_request_conform(upstream, case):
    x, name, kinds = CASES[case]
    with Sidecar(upstream.address, "--model", "mlp") as sidecar, channel(sidecar.wait_ready().address) as opened:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(opened)
        _, call = stub.Predict.with_call(request(x, name), timeout=30)
        assert {line.split(";")[1] for line in repairs(call.initial_metadata())[1]} == set(kinds)
        fixes = {fix["kind"]: fix for fix in json.loads(sidecar.get("/api/fixes")[1])}
        assert set(fixes) == set(kinds)
        namespace = {"np": np, "tf": tf, "x": x}
        for kind in kinds:
            fix = fixes[kind]
            assert (fix["language"], fix["count"], fix["outcome"]) == ("python", 1, "repaired")
            if kind == "rename_single":
                message = predict_pb2.PredictRequest()
                message.model_spec.name = "mlp"
                namespace |= {"request": message, "tensor": tf.make_tensor_proto(x)}
            exec(fix["fix"], namespace)  # noqa: S102
        message = namespace.get("request") or request(namespace["x"], name)
        response, call = stub.Predict.with_call(message, timeout=30)
        assert repairs(call.initial_metadata()) == (None, set())
        assert mlp.probabilities(response) == pytest.approx(EXPECTED, abs=1e-6)


def test_a_ticket_names_the_client_and_the_line(upstream):
    with Sidecar(upstream.address, "--model", "mlp") as sidecar, channel(sidecar.wait_ready().address) as opened:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(opened)
        stub.Predict(request(VALUES, mlp.INPUT), timeout=30)
        with pytest.raises(grpc.RpcError):
            stub.Predict(request(VALUES[:100].reshape(1, 100), mlp.INPUT), timeout=30)
        command = [binary(), "fixes", "--admin", sidecar.admin, "--format"]
        ticket = subprocess.run([*command, "markdown"], capture_output=True, text=True, check=True, timeout=30).stdout
        assert ticket.startswith("## Requests of `grpc-python")
        assert "x = np.expand_dims(x, 0)" in ticket and "Send shape [rows,128]." in ticket
        table = subprocess.run([*command, "table"], capture_output=True, text=True, check=True, timeout=30).stdout
        lines = table.splitlines()[1:]
        assert len(lines) == 2 and all("50 %" in line and mlp.INPUT in line for line in lines)
        assert any("DIM_MISMATCH" in line for line in lines) and any("add_batch_dim" in line for line in lines)
