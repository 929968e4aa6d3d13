"""The test server answers as a real TensorFlow Serving did, apart from `differences.tsv`."""

import base64
import json

import pytest

import golden
from harness import MLP, MODELS, Server, channel, raw_call


@pytest.fixture(scope="module")
def records():
    return golden.records()


@pytest.fixture(scope="module")
def differences(records):
    """[(id, what, details)] of every different answer."""
    names = sorted(path.name for path in MODELS.iterdir() if path.name != "mlp")
    options = [word for name in names for word in ("--model", f"{name}={MODELS / name}")]
    found = []
    with Server("--model", MLP, *options) as server, channel(server.address) as opened:
        for record in records:
            request = base64.b64decode(record["request_b64"])
            difference = golden.difference(record, *raw_call(opened, record["method"], request))
            if difference:
                found.append((record["id"], *difference))
        assert server.process.poll() is None, "the server exited during the requests"
    return found


def test_the_number_of_records_is_known(records):
    assert len(records) == 645
    assert sum(record["code"] == 0 for record in records) == 223


def test_only_listed_answers_differ(differences):
    rows = golden.table()
    unknown = [entry for entry in differences if golden.row_of(rows, entry[0], entry[1]) is None]
    assert not unknown, "\n".join(f"{identifier}: {what}: {details}" for identifier, what, details in unknown)


def test_every_row_of_the_table_still_differs(differences):
    rows = golden.table()
    used = {golden.row_of(rows, identifier, what) for identifier, what, _ in differences}
    stale = [row for row in rows if row not in used]
    assert not stale, f"these rows no longer differ: {stale}"


def test_every_row_gives_a_reason():
    for pattern, what, why in golden.table():
        assert what in ("code", "message", "response") and len(why) > 20, pattern


def test_the_comparison_detects_a_changed_answer(records):
    """Two versions of a model answer differently; texts and codes are compared too."""
    by_id = {record["id"]: record for record in records}
    first, second = by_id["mlp.ok.v1"], by_id["mlp.ok.v2"]
    assert golden.difference(first, 0, "", base64.b64decode(first["response_b64"])) is None
    assert golden.difference(first, 0, "", base64.b64decode(second["response_b64"]))[0] == "response"
    refused = by_id["mlp.dtype.double"]
    assert golden.difference(refused, refused["code"], refused["message"], None) is None
    assert golden.difference(refused, refused["code"], "Expects arg[0] to be int32", None)[0] == "message"
    assert golden.difference(refused, 13, refused["message"], None)[0] == "code"
    assert json.dumps(golden.own_text("text\n\t [[{{node x}}]]")) == "null"
