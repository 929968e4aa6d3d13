"""`doctor`: exports of six TensorFlows and both Kerases, each broken in every way that matters, and
what TensorFlow's own loader then does; running servers and warm-up."""

import json
import os
import shutil
import subprocess

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from harness import FIXTURES, Server, until
from sidecar import Sidecar, binary, metric
from tfserver.capi import Tensor
from tfserver.errors import StatusError
from tfserver.saved_model import SavedModel

EXPORTS = sorted(path.parent for path in (FIXTURES / "saved_models").glob("*/*/saved_model.pb"))
# Each fault in each export takes minutes (`make test-doctor`); by default one of each kind is broken.
EVERY = os.environ.get("DOCTOR_ALL") == "1"
BROKEN = [path for path in EXPORTS if EVERY or f"{path.parent.name}/{path.name}" in ("tf2.4/module", "tf2.16/keras", "tf2.21/v1")]


def named(paths):
    return [f"{path.parent.name}-{path.name}" for path in paths]


MODULE = FIXTURES / "saved_models" / "tf2.21" / "module"
THIS = ".".join(tf.__version__.split(".")[:2])


def doctor(*arguments):
    """The exit code, and the findings as (level, what, who)."""
    command = [binary(), "doctor", "--json", *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=120)
    assert done.stdout, done.stderr
    answer = json.loads(done.stdout)
    assert (done.returncode == 1) == (answer["level"] == "fail"), done.stdout
    return done.returncode, answer["findings"]


def fails(findings):
    return [finding for finding in findings if finding["level"] == "fail"]


def outcome(path):
    """What TensorFlow does with an export: `load` or `run` and its text, or `ok`."""
    try:
        model = SavedModel(path)
    except StatusError as error:
        return "load", str(error)
    try:
        for signature in model.signatures.values():
            if not signature.outputs or signature.method_name == "":
                continue
            feeds = {}
            for info in signature.inputs.values():
                shape = [max(dim.size, 1) for dim in info.tensor_shape.dim]
                kind = tf.dtypes.as_dtype(info.dtype)
                zeros = np.full(shape, b"", object) if kind == tf.string else np.zeros(shape, kind.as_numpy_dtype)
                proto = tf.make_tensor_proto(zeros, kind, shape)
                feeds[info.name] = Tensor.from_proto(proto.SerializeToString())
            model.run(feeds, [info.name for info in signature.outputs.values()])
    except StatusError as error:
        return "run", str(error)
    return "ok", ""


@pytest.fixture
def export(tmp_path, request):
    """A copy of an export under a version number."""
    path = tmp_path / "model" / "1"
    shutil.copytree(getattr(request, "param", MODULE), path)
    return path


class Edited:
    """A saved_model.pb to change in place."""

    def __init__(self, path):
        self.path = path / "saved_model.pb"

    def __enter__(self):
        self.proto = saved_model_pb2.SavedModel.FromString(self.path.read_bytes())
        return self.proto.meta_graphs[0]

    def __exit__(self, *_):
        self.path.write_bytes(self.proto.SerializeToString())


def edit(change):
    """A fault made by changing the meta graph."""

    def apply(path):
        with Edited(path) as meta:
            change(meta)

    return apply


def nodes(meta):
    """Every node of the functions that signatures reach, and of the main graph."""
    for function in meta.graph_def.library.function:
        if "save" not in function.signature.name and "restore" not in function.signature.name:
            yield from function.node_def
    yield from meta.graph_def.node


def set_version(field, value):
    def change(meta):
        if field == "bad_consumers":
            meta.graph_def.versions.bad_consumers.append(value)
        else:
            setattr(meta.graph_def.versions, field, value)

    return edit(change)


def first(meta, op):
    return next(node for node in nodes(meta) if node.op == op)


def custom_op_in_main(meta):
    meta.graph_def.node.add(name="fancy", op="MyFancyOp")


def custom_op_in_function(meta):
    for node in nodes(meta):
        if node.op == "MatMul":
            node.op = "MyFancyOp"


def python_op(meta):
    for node in nodes(meta):
        for at, name in enumerate(node.input):
            node.input[at] = name.replace(":product:", ":output:")
        if node.op == "MatMul":
            node.op = "PyFunc"
            del node.input[1:]
            node.attr.clear()
            node.attr["Tin"].list.type.append(types_pb2.DT_FLOAT)
            node.attr["Tout"].list.type.append(types_pb2.DT_FLOAT)
            node.attr["token"].s = b"pyfunc_0"


def lacking_attribute(meta):
    meta.graph_def.node.add(name="bare", op="Placeholder")


def unknown_input(meta):
    call = next(node for node in meta.graph_def.node if node.op in ("PartitionedCall", "StatefulPartitionedCall", "MatMul"))
    call.input[0] = "nosuchnode"


def unknown_function(meta):
    call = next(node for node in meta.graph_def.node if "PartitionedCall" in node.op)
    call.attr["f"].func.name = "no_such_function"


def wrong_tensor(meta):
    next(iter(meta.signature_def["serving_default"].outputs.values())).name = "nowhere:0"


def extra_tag(meta):
    meta.meta_info_def.tags.append("gpu")


def remove(pattern):
    def apply(path):
        found = list(path.glob(pattern))
        assert found
        for file in found:
            shutil.rmtree(file) if file.is_dir() else file.unlink()

    return apply


def shard(path):
    return next(path.glob("variables/variables.data-*"))


def cut(path):
    shard(path).write_bytes(shard(path).read_bytes()[:10])


def flip(path):
    data = bytearray(shard(path).read_bytes())
    data[0] ^= 0xFF
    shard(path).write_bytes(data)


def write(name, data):
    return lambda path: (path / name).write_bytes(data)


# fault: (how it is made, the stage at which TensorFlow fails, a word of the finding, who must act)
FAULTS = {
    "none": (lambda path: None, "ok", None, None),
    "min_consumer": (set_version("min_consumer", 99999), "load", "demands graph version 99999", "platform"),
    "producer": (set_version("producer", -1), "load", "too old", "exporter"),
    "bad_consumers": (set_version("bad_consumers", 2474), "load", "excludes TensorFlow", "platform"),
    "far_newer_producer": (set_version("producer", 99999), "ok", None, None),
    "tensorflow_version": (edit(lambda meta: setattr(meta.meta_info_def, "tensorflow_version", "9.9.9")), "ok", None, None),
    "op_list": (edit(lambda meta: meta.meta_info_def.ClearField("stripped_op_list")), "ok", None, None),
    "custom_op_in_main": (edit(custom_op_in_main), "load", "`MyFancyOp`", "platform"),
    "custom_op_in_function": (edit(custom_op_in_function), "run", "`MyFancyOp`", "platform"),
    "python_op": (edit(python_op), "run", "calls Python", "exporter"),
    "unknown_attribute": (edit(lambda meta: first(meta, "MatMul").attr["fancy"].CopyFrom(first(meta, "MatMul").attr["T"])), "ok", None, None),
    "lacking_attribute": (edit(lacking_attribute), "load", "lacks attribute `dtype`", "exporter"),
    "unknown_input": (edit(unknown_input), "load", "`nosuchnode`", "exporter"),
    "unknown_function": (edit(unknown_function), "load", "`no_such_function`", "exporter"),
    "extra_tag": (edit(extra_tag), "load", "tag `serve`", "exporter"),
    "wrong_tensor": (edit(wrong_tensor), "run", "`nowhere:0`", "exporter"),
    "empty": (write("saved_model.pb", b""), "load", "0 bytes", "platform"),
    "garbage": (write("saved_model.pb", b"\xff\xfe garbage" * 9), "load", "saved_model.pb", "platform"),
    "no_graph": (remove("saved_model.pb"), "load", "no `saved_model.pb`", "platform"),
    "no_variables": (remove("variables"), "run", "`variables/` is missing", "platform"),
    "no_index": (remove("variables/variables.index"), "run", "variables.index` is missing", "platform"),
    "no_shard": (remove("variables/variables.data-*"), "load", "variables.data-00000-of-00001` is missing", "platform"),
    "cut_shard": (cut, "load", "has 10 bytes", "platform"),
    "damaged_shard": (flip, "load", "are damaged", "platform"),
    "garbage_index": (write("variables/variables.index", b"index" * 30), "load", "is not the index", "platform"),
    "no_assets": (remove("assets"), "load", "assets/words.txt` is missing", "platform"),
}


@pytest.mark.parametrize("export", EXPORTS, ids=named(EXPORTS), indirect=True)
def test_a_good_export_has_no_fault_in_this_tensorflow(export):
    assert outcome(export) == ("ok", "")
    code, findings = doctor("--saved-model", export, "--tf-version", THIS, "--deep")
    assert (code, fails(findings)) == (0, [])
    assert "that the export wrote" not in str(findings)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("export", BROKEN, ids=named(BROKEN), indirect=True)
def test_each_fault_is_found_and_tensorflow_fails_as_doctor_says(export, fault):
    make, stage, word, who = FAULTS[fault]
    is_v1 = "keep_prob" in str(SavedModel(export).signatures)
    if fault == "no_assets" and not list(export.glob("assets/*")):
        shutil.rmtree(export / "assets", ignore_errors=True)
        stage, word, who = "ok", None, None
    elif fault == "unknown_function" and is_v1:
        stage, word, who = "ok", None, None
    else:
        make(export)
    expected = {stage}
    if fault in ("custom_op_in_function", "python_op"):
        # The loader succeeds, and the C API then imports the graph once more, which checks functions.
        # A server does not. A graph without functions is checked as a whole.
        expected = {"load", "run"}
    got, text = outcome(export)
    assert got in expected, text
    _, findings = doctor("--saved-model", export, "--tf-version", THIS, "--deep")
    found = fails(findings)
    if word is None:
        assert not found, found
        return
    matching = [finding for finding in found if word in finding["what"]]
    assert matching, (text, found)
    assert {finding["who"] for finding in matching} == {who} and all(finding["action"] for finding in matching)
    if fault in ("custom_op_in_main", "custom_op_in_function"):
        in_main = is_v1 or fault == "custom_op_in_main"
        assert ("does not load" if in_main else "the version loads, and each request of") in matching[0]["why"]


@pytest.mark.parametrize(
    ("name", "data", "word"),
    [
        ("model.keras", b"PK\x03\x04rest", "Keras 3"),
        ("model.h5", b"\x89HDF\r\n\x1a\n", "HDF5"),
        ("model.tflite", b"\x1c\x00\x00\x00TFL3", "Lite"),
        ("frozen.pb", b"\n\x0b\n\x01x", "frozen"),
        ("empty", b"", "empty"),
    ],
)
def test_a_file_in_place_of_a_savedmodel_is_named_for_what_it_is(tmp_path, name, data, word):
    (tmp_path / name).write_bytes(data)
    code, findings = doctor("--saved-model", tmp_path / name)
    assert code == 1 and word in findings[0]["what"] and findings[0]["action"]
    code, findings = doctor("--saved-model", tmp_path)
    assert code == 1 and "no `saved_model.pb`" in findings[0]["what"]


def test_half_copies_other_shards_and_private_files_are_found(export):
    (export / "variables" / "variables.data-00000-of-00002").write_bytes(b"")
    (export / "saved_model.pb.part").write_bytes(b"")
    shutil.copy(MODULE.parent / "keras" / "fingerprint.pb", export)
    for file in export.rglob("*"):
        if file.is_file():
            file.chmod(0o600)
    code, findings = doctor("--saved-model", export)
    text = str(findings)
    assert code == 0
    assert "1 shards" in text and "not finished" in text and "owner only" in text
    assert "is not the one that the export wrote" in text and outcome(export) == ("ok", "")
    export = export.rename(export.with_name("copy"))
    assert "not named by a version number" in str(doctor("--saved-model", export))


def test_the_highest_version_below_a_base_path_is_taken(export):
    shutil.copytree(export, export.with_name("12"))
    (export.with_name("12") / "saved_model.pb").write_bytes(b"")
    assert doctor("--saved-model", export.parent)[0] == 1
    assert doctor("--saved-model", export)[0] == 0


def request(values, name="", **spec):
    message = predict_pb2.PredictRequest()
    message.model_spec.name = name
    for key, value in spec.items():
        setattr(message.model_spec, key, value)
    for key, value in values.items():
        message.inputs[key].CopyFrom(tf.make_tensor_proto(value))
    return message.SerializeToString()


def test_a_warmup_file_is_written_from_good_requests_and_judged(export, tmp_path):
    good, bad = tmp_path / "good", tmp_path / "bad"
    good.write_bytes(request({"x": [[1.0, 2.0, 3.0]]}))
    bad.write_bytes(request({"x": [1.0, 2.0, 3.0]}))
    command = [binary(), "doctor", "--saved-model", str(export), "--write-warmup"]
    refused = subprocess.run([*command, "--request", str(bad)], stderr=subprocess.PIPE, text=True)
    assert refused.returncode == 1 and "does not conform" in refused.stderr
    assert not (export / "assets.extra").exists()
    subprocess.run([*command, "--request", str(good), "--request", str(good)], check=True)
    path = export / "assets.extra" / "tf_serving_warmup_requests"
    records = [prediction_log_pb2.PredictionLog.FromString(record.numpy()) for record in tf.data.TFRecordDataset(str(path))]
    assert [record.predict_log.request.SerializeToString() for record in records] == [good.read_bytes()] * 2
    code, findings = doctor("--saved-model", export)
    assert code == 0 and "no record warms up words" in str(findings)
    with tf.io.TFRecordWriter(str(path)) as writer:
        log = prediction_log_pb2.PredictionLog()
        log.predict_log.request.ParseFromString(good.read_bytes())
        writer.write(log.SerializeToString())
        log.predict_log.request.ParseFromString(bad.read_bytes())
        writer.write(log.SerializeToString())
    (wrong,) = fails(doctor("--saved-model", export)[1])
    assert wrong["what"].startswith("record 2: ") and wrong["who"] == "exporter"


def test_a_running_server_is_compared_with_the_folder_and_probed(export):
    shutil.rmtree(export / "variables")
    with Server("--model", f"model={export.parent}:stable=1") as server:
        live = ("--upstream", server.address, "--model", "model")
        code, findings = doctor(*live)
        assert code == 0 and "version 1 is AVAILABLE" in str(findings) and "label `stable` is version 1" in str(findings)
        # It loads, and only a request shows the fault.
        code, findings = doctor(*live, "--probe")
        (failed,) = fails(findings)
        assert code == 1 and "'serving_default' fails" in failed["what"] and "weights are missing" in failed["action"]
        assert failed["who"] == "platform" and "signature 'words' answers" in str(findings)
        with Edited(export) as meta:
            meta.signature_def["serving_default"].inputs["x"].dtype = types_pb2.DT_DOUBLE
        changed = fails(doctor("--saved-model", export, *live)[1])
        assert any("other signatures than the folder" in finding["what"] for finding in changed)
        newer = shutil.copytree(MODULE, export.with_name("2"))
        assert "has not seen it" in str(doctor("--saved-model", newer, *live))
        code, findings = doctor("--upstream", server.address, "--model", "nosuch")
        assert code == 1 and "does not serve model 'nosuch'" in findings[0]["what"]


def test_a_version_that_fails_its_probe_keeps_the_sidecar_unready(export, tmp_path):
    shutil.rmtree(export / "variables")
    config = tmp_path / "config.yaml"
    config.write_text("models: {model: {probe: on}}\n")
    with Server("--model", f"model={export.parent}", "--file-system-poll-wait-seconds", "0.1") as server:
        with Sidecar(server.address, "--config", str(config)) as sidecar:
            until(lambda: "does not answer a request of zeros" in sidecar.get("/readyz")[1], what="the probe to fail")
            code, text = sidecar.get("/readyz")
            assert code == 503 and "Could not find variable" in text and "weights are missing" in text
            metrics = sidecar.get("/metrics")[1]
            assert metric(metrics, "tfs_sidecar_model_problem", model="model", version="1", kind="probe_failed") == 1
            # A version that answers takes its place.
            good = shutil.copytree(MODULE, export.parent.with_name("good"))
            good.rename(export.with_name("2"))
            sidecar.wait_ready()
        with Sidecar(server.address, "--model", "model") as sidecar:
            sidecar.wait_ready()


def test_a_version_that_does_not_load_is_explained_by_doctor_and_sidecar(export):
    broken = shutil.copytree(MODULE, export.parent.with_name("broken"))
    with Edited(broken) as meta:
        custom_op_in_main(meta)
    with Server("--model", f"model={export.parent}", "--file-system-poll-wait-seconds", "0.1") as server:
        broken.rename(export.with_name("2"))
        found = until(lambda: fails(doctor("--upstream", server.address, "--model", "model")[1]), what="the load error")
        (failed,) = found
        assert "version 2 failed to load" in failed["what"] and "MyFancyOp" in failed["action"] and failed["who"] == "platform"
        with Sidecar(server.address, "--model", "model") as sidecar:
            until(lambda: "which must be built into the server" in sidecar.get("/readyz")[1], what="the load error")
            metrics = sidecar.get("/metrics")[1]
            assert metric(metrics, "tfs_sidecar_model_problem", model="model", version="2", kind="load_failed") == 1
