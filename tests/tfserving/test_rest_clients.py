"""The REST listener serves the clients that people have: curl, Python's requests and http.client, and fetch of Node.js."""

import gzip
import http.client
import json
import shutil
import subprocess

import pytest
import requests

from harness import MODELS, Server
from sidecar import Sidecar, metric

ROWS = 40_000
BODY = {"instances": [[1.5, 2.5, 3.5]]}
PATH = "/v1/models/echo_float32:predict"
FETCH = """
const url = process.argv[1];
const post = async (body, options = {}) => {
  const answer = await fetch(url, { method: "POST", body, ...options });
  return [answer.status, answer.headers.get("content-encoding"), await answer.json()];
};
async function* pieces(text) {
  for (let at = 0; at < text.length; at += 1000) yield new TextEncoder().encode(text.slice(at, at + 1000));
}
const row = [1.5, 2.5, 3.5];
const large = JSON.stringify({ instances: Array(40000).fill(row) });
const out = { right: [], large: [], wrong: [] };
for (let at = 0; at < 20; at++) out.right.push(await post(JSON.stringify({ instances: [row] })));
for (const [body, options] of [[large, {}], [pieces(large), { duplex: "half" }]]) {
  const [status, coding, json] = await post(body, options);
  out.large.push([status, coding, json.predictions.length, json.predictions[39999]]);
}
out.wrong = await post('{"instances": [[1, null, 3]]}');
out.connections = (await (await fetch(process.argv[2])).text());
console.log(JSON.stringify(out));
"""


@pytest.fixture(scope="module")
def sidecar():
    with Server("--model", f"echo_float32={MODELS / 'echo_float32'}") as server:
        options = ("--model", "echo_float32", "--rest-listen", "127.0.0.1:0")
        with Sidecar(server.address, *options) as running:
            yield running.wait_ready()


@pytest.fixture(scope="module")
def url(sidecar):
    return f"http://{sidecar.rest}{PATH}"


def large():
    return json.dumps({"instances": [BODY["instances"][0]] * ROWS})


def is_explained(answer):
    """An error is JSON: TensorFlow Serving's text, then the place."""
    place = answer["details"][0]
    return "JSON Value: null" in answer["error"] and (place["pointer"], place["offset"]) == ("/instances/0/1", 19)


def test_requests(url):
    with requests.Session() as session:
        session.trust_env = False  # no proxies
        for _ in range(20):
            answer = session.post(url, json=BODY)
            assert answer.json() == {"predictions": BODY["instances"]}
            assert answer.headers["tfs-sidecar-model-version"] == "1"
        text = large()
        pieces = (text[at : at + 1000].encode() for at in range(0, len(text), 1000))
        packed = {"content-encoding": "gzip"}
        for body, headers in ((text, {}), (pieces, {}), (gzip.compress(text.encode()), packed)):
            answer = session.post(url, data=body, headers=headers)
            assert len(answer.json().get("predictions", ())) == ROWS, answer.text[:500]
            # Asked for by default.
            assert answer.headers["content-encoding"] == "gzip"
        answer = session.post(url, data='{"instances": [[1, null, 3]]}')
        assert answer.status_code == 400 and is_explained(answer.json())
        assert session.head(url.removesuffix(":predict")).ok
        # Urllib3 counts the connections that it has opened.
        pools = session.get_adapter(url).poolmanager.pools
        assert [pools[key].num_connections for key in pools.keys()] == [1]


def test_http_client_of_python(sidecar):
    """The oldest of all: it skips interim answers only if their status is 100."""
    connection = http.client.HTTPConnection(sidecar.rest, timeout=60)
    for body, status in ((json.dumps(BODY), 200), ("{", 400), (large(), 200)):
        connection.request("POST", PATH, body)
        answer = connection.getresponse()
        assert answer.status == status
        assert set(json.loads(answer.read())) & {"predictions", "error"}
    connection.close()


def curl(*arguments, body=None):
    command = ["curl", "-sS", "--noproxy", "*", "--max-time", "60", *arguments]
    answer = subprocess.run(command, input=body, capture_output=True, text=True, timeout=120)
    assert answer.returncode == 0, f"{command}: {answer.stderr}"
    return answer.stdout, answer.stderr


@pytest.mark.parametrize("protocol", ["--http1.1", "--http2-prior-knowledge"])
def test_curl(url, protocol):
    right = ("-d", json.dumps(BODY))
    out, _ = curl(protocol, *right, url)
    assert out.count("[1.5, 2.5, 3.5]") == 1
    if protocol == "--http1.1":
        out, log = curl("-v", protocol, *right, url, "--next", protocol, *right, url)
        assert out.count("[1.5, 2.5, 3.5]") == 2 and "Re-using existing" in log, log
    # Curl sends `expect: 100-continue` with large bodies, and chunks when it does not know the length.
    for upload in (("-d", "@-"), ("-T", "-", "-X", "POST"), ("-d", "@-", "-H", "expect: 100-continue")):
        out, _ = curl(protocol, "--compressed", *upload, url, body=large())
        assert len(json.loads(out)["predictions"]) == ROWS
    out, _ = curl(protocol, "-w", "%{http_code} %{content_type}", "-d", '{"instances": [[1, null, 3]]}', url)
    text, _, status = out.rpartition("}")
    assert status == "400 application/json" and is_explained(json.loads(text + "}"))
    out, _ = curl(protocol, "-I", url.removesuffix(":predict"))
    assert " 200" in out.splitlines()[0] and "content-length: " in out and "{" not in out


def test_fetch_of_node(sidecar, url):
    if not shutil.which("node"):
        pytest.skip("Node.js is not installed")
    before = metric(sidecar.get("/metrics")[1], "tfs_sidecar_connections")
    command = ["node", "--input-type=module", "-e", FETCH, url, f"http://{sidecar.admin}/metrics"]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert answer.returncode == 0, answer.stderr
    out = json.loads(answer.stdout)
    assert out["right"] == [[200, None, {"predictions": BODY["instances"]}]] * 20
    assert out["large"] == [[200, "gzip", ROWS, BODY["instances"][0]]] * 2
    assert out["wrong"][0] == 400 and is_explained(out["wrong"][2])
    # It opens a second one for the body that it streams.
    assert metric(out["connections"], "tfs_sidecar_connections") <= before + 2
