"""Replays the recorded REST requests, and compares the answers with those of TensorFlow Serving."""

import base64
import gzip
import json
import math
import socket
from pathlib import Path

from golden import own_text
from harness import FIXTURES, HERE

RECORDS = FIXTURES / "golden" / "tfs_rest_golden.jsonl"
TABLE = HERE / "rest_differences.tsv"
PATIENCE = 20
# The records that are not replayed, by the beginning of their ids, and why.
NOT_REPLAYED = {
    "flags.batching.over": "refused by TensorFlow Serving's batching, which the test server does not have; its texts are passed on",
    "flags.batching.scalar": "refused by TensorFlow Serving's batching, which the test server does not have (and scalarout)",
    "flags.batching.empty": "TensorFlow Serving's batching never answers or refuses (empty_rows); without it the model answers",
    "flags.batching.flat": "refused by TensorFlow Serving's batching; the door makes one row of it",
    "flags.batching.unequal": "refused by TensorFlow Serving's batching, which the test server does not have",
    "flags.batching.vector1": "refused by TensorFlow Serving's batching, which the test server does not have",
    "flags.timeout.queued": "a time-out in TensorFlow Serving's batching queue, which the test server does not have",
    "flags.methodcheck": "a check of TensorFlow Serving's own that the test server does not have; its texts are passed on",
    "crash.tensor_content": "TensorFlow Serving prints memory behind an empty list; the door reads tensor_content, as unit tests show",
    "http.big.10mb": "a debug build takes long for it; the size of a body changes nothing in its reading",
    "http.big.12mb": "a debug build takes long for it; the size of a body changes nothing in its reading",
    "http.big.40mb": "a debug build takes long for it; the size of a body changes nothing in its reading",
}


def records():
    with RECORDS.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def write_models(folder):
    """Writes the models that are in the file; returns {name: path}."""
    models = {}
    for record in records():
        if record["kind"] == "model":
            for path, data in record["files"].items():
                file = Path(folder) / path
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(base64.b64decode(data))
                models[path.split("/")[0]] = Path(folder) / path.split("/")[0]
    return models


def setting(record):
    """Before what the record is replayed: "plain", "cors", "monitoring" (a REST port behind the door), or None."""
    if record["kind"] == "model" or any(record["id"].startswith(name) for name in NOT_REPLAYED):
        return None
    for name, start in (("cors", "flags.cors."), ("monitoring", "flags.prometheus.")):
        if record["id"].startswith(start):
            return name
    return "plain"


def body_of(record):
    if "body" in record:
        return record["body"].encode()
    if "body_b64" in record:
        return base64.b64decode(record["body_b64"])
    if "body_gen" in record:
        body = b"".join(text.encode() * count for text, count in record["body_gen"])
        return gzip.compress(body) if record.get("body_gzip") else body
    return None


def pieces(record):
    """The bytes to send, in pieces."""
    if "raw" in record or "raw_b64" in record:
        raw = record.get("raw")
        if raw is None:
            raw = record["raw_b64"]
            raw = [raw] if isinstance(raw, str) else raw
            return [base64.b64decode(piece) for piece in raw]
        return [piece.encode() for piece in ([raw] if isinstance(raw, str) else raw)]
    body = body_of(record)
    head = f"{record['method']} {record['path']} HTTP/1.1\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in record["headers"])
    named = {name.lower() for name, _ in record["headers"]}
    if body is not None and "content-length" not in named and "transfer-encoding" not in named:
        head += f"Content-Length: {len(body)}\r\n"
    return [head.encode() + b"\r\n" + (body or b"")]


class Answers:
    """Reads answers from a connection."""

    def __init__(self, opened):
        self.opened, self.data, self.ended = opened, b"", False

    def more(self):
        try:
            data = self.opened.recv(1 << 16)
        except (TimeoutError, ConnectionError):
            data = b""
        self.ended = not data
        self.data += data
        return not self.ended

    def until(self, mark):
        while mark not in self.data:
            if not self.more():
                return None
        head, self.data = self.data.split(mark, 1)
        return head

    def next(self, method):
        """(status, {header: value}, body), or None at the end."""
        head = self.until(b"\r\n\r\n")
        if head is None:
            return None
        lines = head.decode("latin-1").split("\r\n")
        status = int(lines[0].split(" ")[1])
        headers = dict(line.lower().split(": ", 1) for line in lines[1:] if ": " in line)
        if status == 100 or method == "HEAD":
            return status, headers, b""
        if headers.get("transfer-encoding") == "chunked":
            body = b""
            while (size := self.until(b"\r\n")) is not None and (length := int(size, 16)):
                while len(self.data) < length + 2 and self.more():
                    pass
                body, self.data = body + self.data[:length], self.data[length + 2 :]
            self.until(b"\r\n")
            return status, headers, body
        length = int(headers.get("content-length", 0))
        while len(self.data) < length and self.more():
            pass
        body, self.data = self.data[:length], self.data[length:]
        return status, headers, body


def replay(address, record):
    """[(status, headers, body)] of the answers."""
    host, port = address.split(":")
    lines = b"".join(pieces(record)).split(b"\r\n")
    methods = [line.split(b" ")[0].decode("latin-1") for line in lines if b" HTTP/1." in line]
    answers = []
    with socket.create_connection((host, int(port)), timeout=PATIENCE) as opened:
        reader = Answers(opened)
        try:
            waits = record["responses"] and record["responses"][0]["status"] == 100
            for number, piece in enumerate(pieces(record)):
                if number and waits and not answers:
                    answers.append(reader.next("POST"))
                opened.sendall(piece)
            if record.get("half_close"):
                opened.shutdown(socket.SHUT_WR)
        except (BrokenPipeError, ConnectionResetError):
            pass
        expected = max(len(record["responses"]), 1)
        while len(answers) < expected:
            if not record["responses"]:
                opened.settimeout(2)
            at = sum(answer[0] != 100 for answer in answers if answer)
            answer = reader.next(methods[at] if at < len(methods) else "GET")
            if answer is None:
                break
            if answer[0] == 100 and not waits:
                # Whether the client is still there, which clients do not see.
                continue
            answers.append(answer)
    return [answer for answer in answers if answer]


def parsed(body):
    """JSON, with numbers as they are written; None if it is none."""

    def number(text):
        return ("number", float(text))

    try:
        return json.loads(body, parse_float=number, parse_int=number, parse_constant=number)
    except ValueError:
        return None


def same_json(ours, theirs, close):
    if isinstance(ours, tuple) and isinstance(theirs, tuple):
        left, right = ours[1], theirs[1]
        if math.isnan(left) or math.isnan(right):
            return math.isnan(left) and math.isnan(right)
        if close:
            return math.isclose(left, right, rel_tol=1e-5, abs_tol=1e-6)
        return left == right and math.copysign(1, left) == math.copysign(1, right)
    if isinstance(ours, list) and isinstance(theirs, list):
        return len(ours) == len(theirs) and all(same_json(a, b, close) for a, b in zip(ours, theirs, strict=True))
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return ours.keys() == theirs.keys() and all(same_json(ours[key], theirs[key], close) for key in ours)
    return type(ours) is type(theirs) and ours == theirs


def difference(record, answers):
    """None, or (what differs: number, status, type, body or error; details)."""
    expected = record["responses"]
    if len(answers) != len(expected):
        return "number", f"{len(answers)} answers {answers!r:.300}, recorded {len(expected)}"
    for (status, headers, body), theirs in zip(answers, expected, strict=True):
        if status != theirs["status"]:
            return "status", f"{status} {body!r:.400}, recorded {theirs['status']} {theirs.get('body', '')!r:.200}"
        if status == 100 or record.get("method") == "HEAD":
            continue
        kind = dict((name.lower(), value) for name, value in theirs["headers"]).get("content-type")
        if kind != headers.get("content-type"):
            return "type", f"{headers.get('content-type')}, recorded {kind}"
        text = theirs["body"].encode() if "body" in theirs else base64.b64decode(theirs.get("body_b64", ""))
        if "body_sha256" in theirs or record["stable"] == "status":
            continue
        left, right = parsed(body), parsed(text)
        if isinstance(right, dict) and "error" in right:
            ours = left.get("error") if isinstance(left, dict) else None
            recorded = own_text(right["error"])
            if ours is None or (recorded is not None and own_text(ours) != recorded):
                return "error", f"{ours!r}, recorded {right['error']!r}"
        elif body != text and (left is None or not same_json(left, right, record["kind"] in ("predict", "shape", "url", "classify", "regress", "flags"))):
            return "body", f"{body!r:.300}, recorded {text!r:.300}"
    return None


def table(mode):
    """{(id, what differs): (kind, why)} of the known differences in a mode."""
    rows = {}
    for line in TABLE.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            identifier, what, where, kind, why = line.split("\t")
            if where in ("both", mode):
                rows[identifier, what] = kind, why
    return rows
