"""The REST listener answers as a real TensorFlow Serving did, apart from `rest_differences.tsv`."""

import contextlib
import http.server
import threading

import pytest

import rest_golden
from harness import MLP, MODELS, Server
from sidecar import Sidecar


@pytest.fixture(scope="module")
def records():
    return [record for record in rest_golden.records() if rest_golden.setting(record) in ("plain", "cors")]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """TensorFlow behind gRPC alone, with the models of the records."""
    models = {path.name: path for path in MODELS.iterdir() if path.name != "mlp"}
    models.update(rest_golden.write_models(tmp_path_factory.mktemp("models")))
    options = [word for name, path in models.items() for word in ("--model", f"{name}={path}")]
    with Server("--model", MLP, *options) as running:
        yield running


@contextlib.contextmanager
def listener(server, mode, *options):
    with Sidecar(server.address, "--mode", mode, "--rest-listen", "127.0.0.1:0", *options) as running:
        yield running.wait_ready().rest


@pytest.fixture(scope="module", params=["observe", "repair"])
def differences(request, server, records, tmp_path_factory):
    """The mode, and {(id, what): details} of all answers that differ."""
    found = {}
    cors = tmp_path_factory.mktemp("cors") / "sidecar.yaml"
    cors.write_text('rest_cors: ["*"]\n')
    for setting, options in (("plain", ()), ("cors", ("--config", str(cors)))):
        with listener(server, request.param, *options) as address:
            for record in (record for record in records if rest_golden.setting(record) == setting):
                difference = rest_golden.difference(record, rest_golden.replay(address, record))
                if difference:
                    found[record["id"], difference[0]] = difference[1]
    return request.param, found


def test_the_number_of_records_is_known(records):
    replayed = [rest_golden.setting(record) for record in rest_golden.records() if record["kind"] != "model"]
    assert (len(records), replayed.count("monitoring"), replayed.count(None)) == (1837, 5, 23)
    assert sum(record["responses"] != [] and record["responses"][-1]["status"] == 200 for record in records) > 700


def test_only_listed_answers_differ(differences):
    mode, found = differences
    rows = rest_golden.table(mode)
    unknown = {key: details for key, details in found.items() if key not in rows}
    assert not unknown, "\n".join(f"{key}: {details}" for key, details in unknown.items())


def test_every_row_of_the_table_still_differs(differences):
    mode, found = differences
    stale = [key for key in rest_golden.table(mode) if key not in found]
    assert not stale, f"these rows no longer differ: {stale}"


def test_every_row_gives_a_reason():
    for mode in ("observe", "repair"):
        for key, (kind, why) in rest_golden.table(mode).items():
            assert kind in "abcde" and len(why) > 20, key


def test_every_record_that_is_not_replayed_has_a_reason():
    ids = [record["id"] for record in rest_golden.records()]
    for start, why in rest_golden.NOT_REPLAYED.items():
        assert len(why) > 7 and any(identifier.startswith(start) for identifier in ids), start


class Recorded(http.server.BaseHTTPRequestHandler):
    """TensorFlow Serving's own REST port, which answers what is recorded."""

    answer = {}

    def do_GET(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        body = self.answer["body"].encode()
        self.send_response(self.answer["status"])
        for name, value in self.answer["headers"]:
            if name.lower() in ("content-type",):
                self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_POST = do_HEAD = do_GET

    def log_message(self, *_):
        pass


def test_what_the_door_does_not_know_is_answered_by_the_port_behind_it(server, tmp_path):
    behind = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Recorded)
    thread = threading.Thread(target=behind.serve_forever)
    thread.start()
    try:
        settings = tmp_path / "sidecar.yaml"
        settings.write_text(f"rest_upstream: 127.0.0.1:{behind.server_address[1]}\n")
        with listener(server, "repair", "--config", str(settings)) as address:
            for record in rest_golden.records():
                if rest_golden.setting(record) == "monitoring":
                    # The counters are not in the record.
                    recorded = {"body": "# TYPE a counter\n", **record["responses"][0]}
                    Recorded.answer = recorded
                    answers = rest_golden.replay(address, record)
                    assert rest_golden.difference({**record, "responses": [recorded], "stable": "bytes"}, answers) is None
    finally:
        behind.shutdown()
        thread.join()
        behind.server_close()


def test_the_comparison_detects_a_changed_answer(records):
    by_id = {record["id"]: record for record in records}
    echo = by_id["url.post.000"]
    answer = (200, {"content-type": "application/json"}, echo["responses"][0]["body"].encode())
    assert rest_golden.difference(echo, [answer]) is None
    assert rest_golden.difference(echo, [])[0] == "number"
    assert rest_golden.difference(echo, [(400, *answer[1:])])[0] == "status"
    assert rest_golden.difference(echo, [(200, {}, answer[2])])[0] == "type"
    changed = answer[2].replace(b"-1.25", b"-1.2500001")
    assert rest_golden.difference({**echo, "kind": "coerce"}, [(200, answer[1], changed)])[0] == "body"
    refused = by_id["url.post.008"]
    text = refused["responses"][0]["body"].replace("Malformed", "malformed").encode()
    assert rest_golden.difference(refused, [(400, answer[1], text)])[0] == "error"
