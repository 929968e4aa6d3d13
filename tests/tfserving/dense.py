"""Writes the weights of the demo model `mlp` (version 2) and one answer, for the stand-in
server."""

import json
from pathlib import Path

import numpy as np
import tensorflow as tf

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"
MODEL = FIXTURES / "models" / "mlp" / "2"
WEIGHTS = FIXTURES / "dense_mlp.f32"
CASE = FIXTURES / "dense_mlp_case.json"

# Both layers of the model, in the order of the file: kernel [inputs, outputs], then bias [outputs].
SHAPES = ((128, 64), (64,), (64, 10), (10,))
SEED = 20260731


def load():
    """The model's `serving_default` function and its four arrays in the order of SHAPES."""
    model = tf.saved_model.load(str(MODEL))
    arrays = [variable.numpy() for variable in model.variables]
    shapes = tuple(array.shape for array in arrays)
    if shapes != SHAPES or any(array.dtype != np.float32 for array in arrays):
        raise ValueError(f"{MODEL}: expected float32 arrays {SHAPES}, got {shapes}")
    # The model holds the variables and must live as long as the function.
    return model, model.signatures["serving_default"], arrays


def weights_bytes(arrays):
    return b"".join(array.astype("<f4").tobytes() for array in arrays)


def read_weights(data):
    """The arrays of a weights file."""
    flat = np.frombuffer(data, dtype="<f4")
    arrays, start = [], 0
    for shape in SHAPES:
        size = int(np.prod(shape))
        arrays.append(flat[start : start + size].reshape(shape))
        start += size
    if start != flat.size:
        raise ValueError(f"expected {start} values, got {flat.size}")
    return arrays


def forward(arrays, x):
    """The model in plain NumPy: dense, relu, dense, softmax."""
    w1, b1, w2, b2 = arrays
    hidden = np.maximum(x @ w1 + b1, 0)
    logits = hidden @ w2 + b2
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def example_input():
    return np.random.default_rng(SEED).standard_normal(128).astype(np.float32)


def main():
    _model, function, arrays = load()
    x = example_input()
    probs = function(input_tensor=tf.constant(x[None, :]))["probs"].numpy()[0]
    WEIGHTS.write_bytes(weights_bytes(arrays))
    case = {"input_tensor": [float(value) for value in x], "probs": [float(value) for value in probs]}
    CASE.write_text(json.dumps(case, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
