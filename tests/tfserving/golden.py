"""Compares answers with the golden records: codes, TensorFlow Serving's own texts, parsed
messages."""

import base64
import json
import math
from fnmatch import fnmatchcase

from google.protobuf import any_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    predict_pb2,
    regression_pb2,
)

from harness import FIXTURES, HERE

RECORDS = FIXTURES / "golden" / "tfs_golden.jsonl"
TABLE = HERE / "differences.tsv"

RESPONSES = {
    "Predict": predict_pb2.PredictResponse,
    "Classify": classification_pb2.ClassificationResponse,
    "Regress": regression_pb2.RegressionResponse,
    "MultiInference": inference_pb2.MultiInferenceResponse,
    "GetModelMetadata": get_model_metadata_pb2.GetModelMetadataResponse,
    "GetModelStatus": get_model_status_pb2.GetModelStatusResponse,
}

# What follows these is not TensorFlow Serving's own text: graph nodes, and text protos with a
# prefix that is deliberately random.
FOREIGN_TAILS = ("SignatureDef: ", "Signature was: ")
KERNEL = "\n\t [["


def records():
    with RECORDS.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def own_text(message):
    """The part of a message written by TensorFlow Serving itself; None if it is from a kernel."""
    if KERNEL in message or message.endswith("...TRUNCATED"):
        return None
    for tail in FOREIGN_TAILS:
        head, found, _ = message.partition(tail)
        if found:
            return head + tail
    return message


def same_value(field, ours, theirs):
    if field.message_type is not None:
        return same_message(ours, theirs)
    if isinstance(ours, float):
        if math.isnan(ours) or math.isnan(theirs):
            return math.isnan(ours) and math.isnan(theirs)
        # The order of float32 sums differs between processors.
        return math.isclose(ours, theirs, rel_tol=1e-5, abs_tol=1e-6)
    return ours == theirs


def same_message(ours, theirs):
    """Whether two messages of one type are equivalent."""
    if isinstance(ours, any_pb2.Any):
        both = [get_model_metadata_pb2.SignatureDefMap() for _ in range(2)]
        return (
            ours.type_url == theirs.type_url and ours.Unpack(both[0]) and theirs.Unpack(both[1]) and both[0] == both[1]
        )
    fields = {field.name: field for field, _ in ours.ListFields()}
    if set(fields) != {field.name for field, _ in theirs.ListFields()}:
        return False
    for name, field in fields.items():
        left, right = getattr(ours, name), getattr(theirs, name)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            value = field.message_type.fields_by_name["value"]
            if set(left) != set(right) or not all(same_value(value, left[key], right[key]) for key in left):
                return False
        elif field.is_repeated:
            if len(left) != len(right) or not all(same_value(field, a, b) for a, b in zip(left, right, strict=True)):
                return False
        elif not same_value(field, left, right):
            return False
    return True


def difference(record, code, message, answer):
    """None, or (what differs: code, message or response; details)."""
    seen = record.get("statuses_seen") or [[record["code"], record["message"]]]
    if code not in [status[0] for status in seen]:
        return "code", f"{code} {message!r}, recorded {seen}"
    if code:
        texts = [own_text(status[1]) for status in seen if status[0] == code]
        if own_text(message) in texts or None in texts:
            return None
        return "message", f"{message!r}, recorded {texts}"
    kind = RESPONSES[record["method"].rsplit("/", 1)[1]]
    ours, theirs = kind.FromString(answer), kind.FromString(base64.b64decode(record["response_b64"]))
    if record["id"].startswith("echo."):
        # These models return their input: every bit counts, also in zeros and NaN.
        same = ours.SerializeToString(deterministic=True) == theirs.SerializeToString(deterministic=True)
    else:
        same = same_message(ours, theirs)
    return None if same else ("response", f"{ours}recorded {theirs}")


def table():
    """[(pattern of ids, what, why)] of the known differences."""
    rows = []
    for line in TABLE.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            pattern, what, why = line.split("\t")
            rows.append((pattern, what, why))
    return rows


def row_of(rows, identifier, what):
    return next((row for row in rows if fnmatchcase(identifier, row[0]) and row[1] == what), None)
