"""Requests to the model `mlp` (input `input_tensor` float32 [-1,128]), and access to the
recorder."""

import json

import numpy as np
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import predict_pb2

from harness import FIXTURES

INPUT = "input_tensor"
PREDICT = "/tensorflow.serving.PredictionService/Predict"
RECORDER = "/tfsidecar.test.Recorder/"


def case():
    """(128 float32 numbers, the ten probabilities that TensorFlow returns for them)."""
    values = json.loads((FIXTURES / "dense_mlp_case.json").read_text(encoding="utf-8"))
    return np.array(values["input_tensor"], dtype=np.float32), values["probs"]


def request(values, shape, dtype=types_pb2.DT_FLOAT, model="mlp"):
    """A PredictRequest with the values as tensor_content of this dtype."""
    message = predict_pb2.PredictRequest()
    message.model_spec.name = model
    tensor = message.inputs[INPUT]
    tensor.dtype = dtype
    for size in shape:
        tensor.tensor_shape.dim.add(size=size)
    kind = {types_pb2.DT_FLOAT: "<f4", types_pb2.DT_DOUBLE: "<f8"}[dtype]
    tensor.tensor_content = np.asarray(values).astype(kind).tobytes()
    return message


def probabilities(response):
    """The first row of `probs`."""
    tensor = response.outputs["probs"]
    assert [dim.size for dim in tensor.tensor_shape.dim] == [1, 10]
    return list(tensor.float_val)


def recorded(opened):
    """The newest Predict request that reached the server, byte for byte."""
    return opened.unary_unary(RECORDER + "Last")(b"", timeout=10)


def recorded_count(opened):
    return int(opened.unary_unary(RECORDER + "Count")(b"", timeout=10))
