"""`signature`, whose example call must work as printed, and `explain`, against a running model."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tensorflow_serving.apis import get_model_metadata_pb2, prediction_service_pb2_grpc

import requests_mlp as mlp
from harness import MODELS as FOLDER, Server, channel
from sidecar import Sidecar, binary


# Models with every kind of shape and most dtypes. `example` is missing, because made-up bytes are
# not a valid tf.Example.
MODELS = ["mlp", "cnn", "twoin", "fixed", "rank0", "unkrank", "multisig"] + [
    f"echo_{dtype}" for dtype in ("float16", "bfloat16", "float64", "int8", "uint32", "int64", "bool", "string", "complex64")
]


@pytest.fixture(scope="module")
def sidecar():
    options = [word for model in MODELS for word in ("--model", f"{model}={FOLDER / model}")]
    with Server(*options) as server, Sidecar(server.address, *(word for model in MODELS for word in ("--model", model))) as running:
        yield running.wait_ready()


def run(*arguments, expect=0):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TFS_SIDECAR_") and name != "MODEL_NAME"}
    done = subprocess.run([binary(), *arguments], capture_output=True, text=True, timeout=60, env=environment, check=False)
    assert done.returncode == expect, done.stderr + done.stdout
    return done.stdout if expect != 2 else done.stderr


@pytest.mark.parametrize("model", MODELS)
def test_the_example_call_works_as_printed(sidecar, model):
    text = run("signature", "--upstream", sidecar.address, "--model", model, "--example")
    command = text[text.index("grpcurl ") :]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    called = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, timeout=60, env={**os.environ, "PATH": path}, check=False
    )
    assert called.returncode == 0, command + called.stderr
    assert '"outputs"' in called.stdout


def test_the_signature_is_printed_as_a_table(sidecar):
    lines = [line.split() for line in run("signature", "--upstream", sidecar.address, "--model", "mlp").splitlines()]
    assert ["input", "input_tensor", "float", "[-1,128]", "serving_default_input_tensor:0"] in lines
    assert any(line[:4] == ["output", "probs", "float", "[-1,10]"] for line in lines)


def test_explain_shows_what_would_happen_without_a_request(sidecar, tmp_path):
    where = ("--upstream", sidecar.address, "--model", "mlp")
    said = run("explain", *where, "--input", "input_tensor:double[128]")
    assert "repair input_tensor: cast_round double->float lossy" in said
    assert "repair input_tensor: add_batch_dim [128]->[1,128]" in said
    refused = run("explain", *where, "--input", "input_tensor:float[127]", expect=1)
    assert "RANK_TOO_LOW" in refused and "[-1,128]" in refused
    strict = run("explain", *where, "--mode", "strict", "--input", "input_tensor:float[128]", expect=1)
    assert "refused: RANK_TOO_LOW" in strict

    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "mlp"
    with channel(sidecar.address) as opened:
        metadata = prediction_service_pb2_grpc.PredictionServiceStub(opened).GetModelMetadata(request, timeout=20)
    (tmp_path / "signature").write_bytes(metadata.SerializeToString())
    (tmp_path / "request").write_bytes(mlp.request(mlp.case()[0], [1, 128]).SerializeToString())
    files = ("--signature", str(tmp_path / "signature"), "--request", str(tmp_path / "request"))
    assert "conforms: forwarded byte for byte" in run("explain", *files)


def test_a_malformed_input_is_a_usage_error(sidecar):
    where = ("--upstream", sidecar.address, "--model", "mlp")
    assert "name:dtype[shape]" in run("explain", *where, "--input", "x", expect=2)
