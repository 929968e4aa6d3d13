"""TLS on both sides: from clients, with and without client certificates, and to the upstream."""

import grpc
import numpy as np
import pytest
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from harness import MLP, ROOT, Server, channel
from sidecar import Sidecar

TLS = ROOT / "tests" / "fixtures" / "tls"


def read(name):
    return (TLS / name).read_bytes()


def config(folder, text):
    path = folder / "sidecar.yaml"
    path.write_text(text)
    return str(path)


def predict(opened):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "mlp"
    tensor = request.inputs["input_tensor"]
    tensor.dtype = 1
    tensor.tensor_shape.dim.add().size = 128
    tensor.tensor_content = np.linspace(-1, 1, 128, dtype=np.float32).tobytes()
    stub = prediction_service_pb2_grpc.PredictionServiceStub(opened)
    return list(stub.Predict(request, timeout=20).outputs["probs"].float_val)


@pytest.fixture(scope="module")
def upstream():
    with Server("--model", MLP) as server:
        yield server


@pytest.fixture(scope="module")
def secured(upstream, tmp_path_factory):
    """A sidecar that requires client certificates."""
    tls = f"listen_tls: {{cert: {TLS / 'server.pem'}, key: {TLS / 'server.key'}, client_ca: {TLS / 'ca.pem'}}}\n"
    path = config(tmp_path_factory.mktemp("secured"), tls)
    with Sidecar(upstream.address, "--model", "mlp", "--config", path) as running:
        yield running.wait_ready()


def credentials(*client):
    return grpc.ssl_channel_credentials(read("ca.pem"), *map(read, client))


def test_a_client_with_a_certificate_is_served(secured):
    with grpc.secure_channel(secured.address, credentials("client.key", "client.pem")) as opened:
        assert len(predict(opened)) == 10


def test_a_client_without_a_certificate_is_refused(secured):
    for opened in (grpc.secure_channel(secured.address, credentials()), channel(secured.address)):
        with opened as usable, pytest.raises(grpc.RpcError) as refused:
            predict(usable)
        assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
    assert secured.alive


def test_the_upstream_can_use_tls_too(secured, upstream, tmp_path):
    tls = f"upstream_tls: {{ca: {TLS / 'ca.pem'}, cert: {TLS / 'client.pem'}, key: {TLS / 'client.key'}}}\n"
    path = config(tmp_path, tls)
    with Sidecar(f"https://{secured.address}", "--model", "mlp", "--config", path) as outer:
        outer.wait_ready()
        with channel(outer.address) as opened, channel(upstream.address) as direct:
            assert len(predict(opened)) == 10
            with pytest.raises(grpc.RpcError):
                predict(direct)


def test_an_upstream_certificate_from_another_authority_is_rejected(secured, tmp_path):
    path = config(tmp_path, f"upstream_tls: {{ca: {TLS / 'client.pem'}}}\n")
    with Sidecar(f"https://{secured.address}", "--config", path, "--log", "debug") as outer:
        with channel(outer.address) as opened, pytest.raises(grpc.RpcError) as refused:
            predict(opened)
        assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
        assert "certificate" in refused.value.details()
