"""With `--mode off` the sidecar is transparent: golden requests get TensorFlow Serving's
answers."""

import base64

import pytest

import golden
from harness import MLP, MODELS, Server, channel, raw_call
from sidecar import Sidecar

# Requests that the sidecar answers itself in every mode: id -> acceptable codes, or None for any
# code other than UNAVAILABLE.
OWN_ANSWERS = {
    "raw.truncated": [3, 13],
    "raw.garbage": [3, 13],
    "raw.badutf8name": [3, 13],
    "raw.groupend": [3, 13],
    "meta.raw.garbage": [3, 13],
    "reload.empty": [7],
    "raw.health": [0],
    "raw.reflection": None,
}


@pytest.fixture(scope="module")
def answers():
    """{id: (record, the answer through the sidecar)}."""
    names = sorted(path.name for path in MODELS.iterdir() if path.name != "mlp")
    options = [word for name in names for word in ("--model", f"{name}={MODELS / name}")]
    found = {}
    with (
        Server("--model", MLP, *options) as server,
        Sidecar(server.address, "--mode", "off", "--model", "mlp") as sidecar,
    ):
        sidecar.wait_ready()
        with channel(sidecar.address) as opened:
            for record in golden.records():
                request = base64.b64decode(record["request_b64"])
                found[record["id"]] = record, raw_call(opened, record["method"], request)
        assert sidecar.alive
    return found


def test_answers_are_forwarded_unchanged(answers):
    rows = golden.table()
    different = []
    for identifier, (record, answer) in answers.items():
        if identifier in OWN_ANSWERS:
            continue
        difference = golden.difference(record, *answer)
        if difference and golden.row_of(rows, identifier, difference[0]) is None:
            different.append(f"{identifier}: {difference[0]}: {difference[1]}")
    assert not different, "\n".join(different)


@pytest.mark.parametrize("identifier", OWN_ANSWERS)
def test_its_own_answers_have_the_right_code(answers, identifier):
    codes = OWN_ANSWERS[identifier]
    code = answers[identifier][1][0]
    assert code in codes if codes else code != 14
