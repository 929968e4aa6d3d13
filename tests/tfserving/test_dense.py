"""The stand-in has the model's weights, and its arithmetic gives TensorFlow's answers."""

import json

import numpy as np
import pytest
import tensorflow as tf

import dense


@pytest.fixture(scope="module")
def model():
    return dense.load()


def test_the_weights_file_holds_the_models_weights(model):
    assert dense.WEIGHTS.read_bytes() == dense.weights_bytes(model[2])


def test_the_case_holds_tensorflows_answer(model):
    case = json.loads(dense.CASE.read_text(encoding="utf-8"))
    x = np.array(case["input_tensor"], dtype=np.float32)
    assert [float(value) for value in x] == case["input_tensor"], "a number is not exactly a float32"
    probs = model[1](input_tensor=tf.constant(x[None, :]))["probs"].numpy()[0]
    np.testing.assert_allclose(case["probs"], probs, rtol=0, atol=1e-6)


def test_numpy_agrees_with_tensorflow_on_many_rows(model):
    arrays = dense.read_weights(dense.WEIGHTS.read_bytes())
    x = np.random.default_rng(7).standard_normal((50, 128)).astype(np.float32)
    expected = model[1](input_tensor=tf.constant(x))["probs"].numpy()
    np.testing.assert_allclose(dense.forward(arrays, x), expected, rtol=0, atol=1e-6)
    assert np.ptp(expected.argmax(axis=1)) > 0, "the rows must have different answers, or the comparison proves little"
