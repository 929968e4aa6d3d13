"""`profile build` with scalers that the lines in the documentation have written, and with data of NumPy."""

import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from sklearn import preprocessing

from sidecar import binary

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/preprocessing.md").read_text(encoding="utf-8")


def lines(title):
    """The Python lines under a title."""
    return re.search(rf"{re.escape(title)}:\n\n```python\n(.*?)```", PAGE, re.DOTALL).group(1)


def raw_data():
    random = np.random.default_rng(3)
    return np.stack([random.normal(40, 12, 500), random.lognormal(10, 1, 500)], axis=1)


def build(folder, *arguments):
    command = [binary(), "profile", "build", *arguments]
    # The program warns of variables that it does not know.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TFS_SIDECAR_")}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def means_and_deviations(profile, key):
    """The numbers of `features` or `raw` in the YAML."""
    block = re.search(rf"^    {key}:\n((?:      .*\n)+)", profile, re.MULTILINE).group(1)
    return [
        [float(re.search(rf"\b{name}: ([^,}}]+)", line).group(1)) for name in ("mean", "std")]
        for line in block.splitlines()
    ]


def check(folder, values, scaled):
    np.savez(folder / "raw.npz", x=values)
    np.savez(folder / "scaled.npz", x=scaled)
    expected = [list(pair) for pair in zip(scaled.mean(0), scaled.std(0), strict=True)]
    forward, _ = build(folder, "--raw", "raw.npz", "--scaler", "scaler.json")
    np.testing.assert_allclose(means_and_deviations(forward, "features"), expected, rtol=1e-6, atol=1e-6)
    back, _ = build(folder, "scaled.npz", "--scaler", "scaler.json")
    expected = [list(pair) for pair in zip(values.mean(0), values.std(0), strict=True)]
    np.testing.assert_allclose(means_and_deviations(back, "raw"), expected, rtol=1e-6, atol=1e-6)
    # With both, the scaler is compared with the data.
    _, messages = build(folder, "scaled.npz", "--raw", "raw.npz", "--scaler", "scaler.json")
    assert "warning" not in messages
    _, messages = build(folder, "raw.npz", "--raw", "raw.npz", "--scaler", "scaler.json")
    assert "the scaler does not make the data" in messages


@pytest.mark.parametrize(
    "title, name, arguments",
    [
        ("scikit-learn's StandardScaler", "StandardScaler", {}),
        ("scikit-learn's StandardScaler", "StandardScaler", {"with_mean": False}),
        ("scikit-learn's StandardScaler", "StandardScaler", {"with_std": False}),
        ("scikit-learn's MinMaxScaler", "MinMaxScaler", {"feature_range": (-1, 1)}),
        ("scikit-learn's RobustScaler", "RobustScaler", {}),
    ],
)
def test_the_lines_for_scikit_learn_write_a_scaler_that_is_read(tmp_path, monkeypatch, title, name, arguments):
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    values = raw_data()
    scaler = getattr(preprocessing, name)(**arguments).fit(values)
    monkeypatch.chdir(tmp_path)
    exec(lines(title), {"scaler": scaler})  # noqa: S102
    check(tmp_path, values, scaler.transform(values))


def test_the_lines_for_keras_write_a_scaler_that_is_read(tmp_path, monkeypatch):
    import keras

    values = raw_data()
    layer = keras.layers.Normalization()
    layer.adapt(values)
    monkeypatch.chdir(tmp_path)
    exec(lines("Keras' Normalization"), {"layer": layer})  # noqa: S102
    check(tmp_path, values, np.asarray(layer(values), np.float64))
