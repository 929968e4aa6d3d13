#!/usr/bin/env python3
"""Writes the SavedModels of the batching benchmark, plain and with TensorFlow's own batching, and
prints where their tensors are. Needs TensorFlow (`tests/tfserving/setup.sh`)."""

import json
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import tensorflow as tf  # noqa: E402
from tensorflow.core.protobuf import saved_model_pb2  # noqa: E402

OUTPUTS = 10
# Name of a variant: (most rows of a batch, time-out in microseconds). Each has two batch threads.
GRID = {"b64_0ms": (64, 0), "b64_1ms": (64, 1000), "b64_5ms": (64, 5000), "b32_1ms": (32, 1000)}
THREADS = 2


def random(*shape):
    return tf.Variable(tf.random.normal(shape, stddev=(2.0 / shape[-2]) ** 0.5 if len(shape) > 1 else 0.1))


class Dense(tf.Module):
    """Fully connected layers."""

    def __init__(self, *widths):
        super().__init__()
        self.dims = [widths[0]]
        self.layers = [(random(a, b), random(b)) for a, b in zip(widths, widths[1:], strict=False)]

    def rows(self, x):
        for kernel, bias in self.layers[:-1]:
            x = tf.nn.relu(x @ kernel + bias)
        kernel, bias = self.layers[-1]
        return x @ kernel + bias


class Convolution(tf.Module):
    """A small convolution."""

    def __init__(self, size, *channels):
        super().__init__()
        self.dims = [size, size, 3]
        widths = (3, *channels)
        self.kernels = [
            tf.Variable(tf.random.normal((3, 3, a, b), stddev=(2.0 / (9 * a)) ** 0.5))
            for a, b in zip(widths, channels, strict=False)
        ]
        self.top = random(channels[-1], OUTPUTS)

    def rows(self, x):
        for number, kernel in enumerate(self.kernels):
            x = tf.nn.relu(tf.nn.conv2d(x, kernel, strides=1 + (number + 1) % 2, padding="SAME"))
        return tf.reduce_mean(x, axis=(1, 2)) @ self.top


MODELS = {
    "dense": lambda: Dense(128, 64, OUTPUTS),
    "mlp": lambda: Dense(1024, 1024, 1024, 1024, 1024, OUTPUTS),
    "cnn": lambda: Convolution(64, 32, 64, 64, 128),
}


def variants(model):
    yield "", model.rows
    for name, (rows, timeout) in GRID.items():
        sizes = [2**n for n in range(rows.bit_length())]
        yield "_" + name, tf.nondifferentiable_batch_function(THREADS, rows, timeout, sizes, 1000)(model.rows)


def served(model, rows):
    spec = tf.TensorSpec([None, *model.dims], tf.float32, name="input_tensor")

    @tf.function(input_signature=[spec])
    def serve(x):
        return {"output_0": tf.ensure_shape(rows(x), [None, OUTPUTS])}

    return serve


def tensors(folder):
    """The names of the input and of the output in the graph."""
    saved = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    signature = saved.meta_graphs[0].signature_def["serving_default"]
    return signature.inputs["input_tensor"].name, signature.outputs["output_0"].name


def main():
    tf.random.set_seed(7)
    root, found = Path(sys.argv[1]), {}
    for name, make in MODELS.items():
        model = make()
        for suffix, rows in variants(model):
            folder = root / (name + suffix)
            serve = served(model, rows)
            model.serve = serve
            tf.saved_model.save(model, str(folder), signatures={"serving_default": serve})
            found[name + suffix] = [str(folder), *tensors(folder), "x".join(map(str, model.dims))]
    print(json.dumps(found))


if __name__ == "__main__":
    main()
