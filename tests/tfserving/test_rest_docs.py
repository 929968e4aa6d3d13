"""The curl lines of docs/rest.md, run against a sidecar: the output in the document is the real one.

With UPDATE=1 the outputs in the document are replaced by the real ones.
"""

import json
import os
import re
import subprocess
import urllib.request

import pytest

from harness import MODELS, ROOT, Server
from sidecar import Sidecar

PAGE = ROOT / "docs" / "rest.md"
EXAMPLE = re.compile(r"```sh\n(?P<command>curl .*?)```\n\n```text\n(?P<output>.*?)```\n", re.DOTALL)
# Headers that differ with each answer.
VARYING = re.compile(r"(?im)^(date|content-length|x-request-id): .*\n")
SETTINGS = 'rest_cors: ["https://app.example.com"]\n'


@pytest.fixture(scope="module")
def rest(tmp_path_factory):
    settings = tmp_path_factory.mktemp("rest") / "sidecar.yaml"
    settings.write_text(SETTINGS)
    served = ["twoin", "echo_int32"]
    options = [option for name in served for option in ("--model", f"{name}={MODELS / name}")]
    with Server(*options) as server:
        names = [option for name in served for option in ("--model", name)]
        with Sidecar(server.address, "--config", str(settings), "--rest-listen", "127.0.0.1:0", *names) as sidecar:
            yield sidecar.wait_ready().rest


def run(command, address):
    assert "localhost:8601" in command, command
    command = command.replace("localhost:8601", address)
    answer = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert answer.returncode == 0, f"{command}: {answer.stderr}"
    output = VARYING.sub("", answer.stdout.replace("\r\n", "\n")).rstrip("\n")
    return output + "\n"


def test_every_curl_line_of_the_page_prints_what_the_page_shows(rest):
    text = PAGE.read_text()
    examples = list(EXAMPLE.finditer(text))
    # No command is without its output.
    assert len(examples) == len(re.findall(r"^```sh$", text, re.MULTILINE)) >= 7
    if os.environ.get("UPDATE") == "1":
        text = EXAMPLE.sub(
            lambda example: f"```sh\n{example['command']}```\n\n```text\n{run(example['command'], rest)}```\n", text
        )
        PAGE.write_text(text)
        return
    for example in examples:
        assert run(example["command"], rest) == example["output"], example["command"]


def test_every_example_of_the_description_works_as_printed(rest):
    def fetch(path, body=None):
        request = urllib.request.Request(f"http://{rest}{path}", None if body is None else json.dumps(body).encode())
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read()), answer.headers

    document, _ = fetch("/v1/openapi.json")
    sent = 0
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if method == "get":
                fetch(path)
                continue
            for name, example in operation["requestBody"]["content"]["application/json"]["examples"].items():
                _, headers = fetch(path, example["value"])
                assert headers["tfs-sidecar-repairs"] is None and headers["tfs-sidecar-warning"] is None, (path, name)
                sent += 1
    # Both formats for each of the two models.
    assert sent >= 4


def test_the_settings_of_the_page_are_the_ones_that_are_tested():
    assert SETTINGS in PAGE.read_text()
