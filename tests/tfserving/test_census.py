"""The traffic census: what `traffic forecast` says of a new version, compared with what then happens to every caller. TensorFlow runs
both versions of each model."""

import json
import re
import shutil
import subprocess
import urllib.error
import urllib.request

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from harness import Server, channel, until
from sidecar import Sidecar, binary, details

v1 = tf.compat.v1
NUMPY = {"float": np.float32, "double": np.float64, "half": np.float16, "string": object}


def dtype(name):
    return np.dtype(NUMPY.get(name, name))


def tensors(text):
    """{name: (dtype, shape or None, default or None)} of `x:float[-1,4] k:float[]=1`."""
    found = {}
    for word in text.split():
        name, kind, shape, default = re.fullmatch(r"(\w+):(\w+)(\[.*?\])?(?:=(.+))?", word).groups()
        dims = None if shape is None else [int(size) for size in shape.strip("[]").split(",") if size]
        found[name] = (kind, dims, default)
    return found


def save(directory, version):
    """Writes a SavedModel whose signatures are `{name: (inputs, outputs)}`. Each output depends on all inputs, and TensorFlow checks the
    declared shapes."""
    with tf.Graph().as_default() as graph, v1.Session(graph=graph) as session:
        signatures = {}
        for name, (inputs, outputs) in version.items():
            feeds, sizes, rows, defaults = {}, [], tf.constant(1), {}
            for alias, (kind, dims, default) in tensors(inputs).items():
                shape = None if dims is None else [None if size < 0 else size for size in dims]
                fed = v1.placeholder(tf.as_dtype(kind), shape, f"{name}_{alias}")
                checked = tf.ensure_shape(fed, shape)
                if dims and dims[0] == -1:
                    rows = tf.shape(checked)[0]
                sizes.append(tf.cast(tf.size(checked), tf.float32))
                feeds[alias] = fed
                if default is not None:
                    defaults[alias] = tf.make_tensor_proto(dtype(kind).type(default))
            total = tf.add_n(sizes)
            results = {alias: tf.fill([rows], total + at) for at, alias in enumerate(outputs.split())}
            signature = v1.saved_model.signature_def_utils.predict_signature_def(feeds, results)
            for alias, value in defaults.items():
                signature.defaults[alias].CopyFrom(value)
            signatures[name] = signature
        builder = v1.saved_model.Builder(str(directory))
        builder.add_meta_graph_and_variables(session, ["serve"], signatures)
        builder.save()


def one(inputs, outputs="y"):
    return {"serving_default": (inputs, outputs)}


X = one("x:float[-1,4]")
# What was served, and what is served then.
PAIRS = {
    "same": (X, X),
    "float_to_double": (X, one("x:double[-1,4]")),
    "float_to_int64": (X, one("x:int64[-1,4]")),
    "float_to_half": (X, one("x:half[-1,4]")),
    "double_to_float": (one("x:double[-1,4]"), X),
    "int64_to_int32": (one("x:int64[-1,4]"), one("x:int32[-1,4]")),
    "int32_to_int64": (one("x:int32[-1,4]"), one("x:int64[-1,4]")),
    "int32_to_float": (one("x:int32[-1,4]"), X),
    "uint8_to_float": (one("x:uint8[-1,4]"), X),
    "string_to_float": (one("x:string[-1]"), one("x:float[-1]")),
    "float_to_string": (one("x:float[-1]"), one("x:string[-1]")),
    "int64_to_uint8": (one("x:int64[-1,4]"), one("x:uint8[-1,4]")),
    "renamed": (X, one("inputs:float[-1,4]")),
    "renamed_one_of_two": (one("a:float[-1,4] b:float[-1,2]"), one("a:float[-1,4] c:float[-1,2]")),
    "drifted_name": (one("input_1:float[-1,4]"), one("input_3:float[-1,4]")),
    "wider": (X, one("x:float[-1,6]")),
    "narrower": (X, one("x:float[-1,2]")),
    "inner_fixed": (one("x:float[-1,-1]"), one("x:float[-1,3]")),
    "inner_opened": (X, one("x:float[-1,-1]")),
    "batch_fixed": (X, one("x:float[2,4]")),
    "batch_fixed_to_one": (X, one("x:float[1,4]")),
    "batch_opened": (one("x:float[2,4]"), X),
    "batch_dropped": (X, one("x:float[4]")),
    "batch_added": (one("x:float[4]"), X),
    "rank_up": (X, one("x:float[-1,4,1]")),
    "rank_up_ambiguous": (X, one("x:float[-1,-1,-1]")),
    "rank_down": (one("x:float[-1,2,2]"), X),
    "unknown_rank": (X, one("x:float")),
    "rank_known": (one("x:float"), X),
    "input_added": (X, one("x:float[-1,4] k:float[]")),
    "input_added_with_default": (X, one("x:float[-1,4] k:float[]=0.5")),
    "input_removed": (one("x:float[-1,4] k:float[]"), X),
    "default_removed": (one("x:float[-1,4] k:float[]=0.5"), one("x:float[-1,4] k:float[]")),
    "signature_renamed": ({"predict": ("x:float[-1,4]", "y"), "other": ("x:float[-1,4]", "y")}, {"score": ("x:float[-1,4]", "y"), "other": ("x:float[-1,4]", "y")}),
    "signature_removed": (X | {"embed": ("x:float[-1,4]", "y")}, X),
    "only_signature_renamed": ({"predict": ("x:float[-1,4]", "y")}, {"score": ("x:float[-1,4]", "y")}),
    "output_removed": (one("x:float[-1,4]", "y z"), one("x:float[-1,4]", "y")),
    "output_added": (X, one("x:float[-1,4]", "y z")),
    "two_inputs": (one("a:float[-1,4] b:int64[-1]"), one("a:float[-1,4] b:int64[-1,1]")),
    "scalar_to_rows": (one("x:float[]"), one("x:float[-1]")),
}  # fmt: skip


class Call:
    """One request of a caller: `inputs` are arrays, or TensorProtos."""

    def __init__(self, inputs, signature="", outputs=(), rest=None):
        self.inputs, self.signature, self.outputs, self.rest = inputs, signature, outputs, rest


def array(kind, shape, value=1):
    if kind == "string":
        return np.full(shape, b"a", object)
    return np.full(shape, value, dtype(kind))


def listed(values):
    """With the values in the list of their dtype instead of `tensor_content`."""
    proto = tf.make_tensor_proto(values)
    if proto.tensor_content:
        field = {1: "float_val", 2: "double_val", 3: "int_val", 4: "int_val", 9: "int64_val"}[proto.dtype]
        getattr(proto, field).extend(values.ravel().tolist())
        proto.tensor_content = b""
    return proto


def content(values):
    proto = tf.make_tensor_proto(values)
    if values.dtype != object and not proto.tensor_content:
        proto = tf.compat.v1.make_tensor_proto(values)
        for field in ("float_val", "double_val", "int_val", "int64_val", "half_val"):
            proto.ClearField(field)
        proto.tensor_content = values.tobytes()
    return proto


def sized(dims, rows, open_size=3):
    if dims is None:
        return [rows, 4]
    return [(rows if axis == 0 else open_size) if size < 0 else size for axis, size in enumerate(dims)]


def callers(old):
    """{caller: its requests, which are of one form}."""
    name = "serving_default" if "serving_default" in old else next(iter(old))
    declared = tensors(old[name][0])
    asked = "" if name == "serving_default" else name

    def call(rows=1, wrap=content, change=lambda alias, kind, shape: (alias, kind, shape), value=1, **more):
        made = {}
        for alias, (kind, dims, default) in declared.items():
            if default is None:
                alias, kind, shape = change(alias, kind, sized(dims, rows))
                made[alias] = wrap(array(kind, shape, value))
        return Call(made, signature=more.pop("signature", asked), **more)

    kinds = {kind for kind, _, _ in declared.values()}
    batched = any(dims is None or -1 in dims[:1] for _, dims, _ in declared.values())
    found = {"single": [call()], "listed": [call(wrap=listed)]}
    if batched:
        found["rows"] = [call(rows=2), call(rows=3)]
        found["five"] = [call(rows=5)]
        found["no_rows"] = [call(rows=0)]
    # Values that any numeric dtype has, values that only some have, and both.
    if kinds & {"float", "double"}:
        found["fractions"] = [call(value=0.5)]
        found["large"] = [call(value=70000)]
        found["mixed"] = [call(value=1), call(value=0.1), call(value=3e9)]
    if kinds & {"int64", "int32"}:
        found["negative"] = [call(value=-1)]
        found["mixed"] = [call(value=1), call(value=-5), call(value=2**30 + 1)]
    if kinds & {"int64"}:
        found["mixed"].append(call(value=2**40 + 1))
    found["as_double"] = [call(change=lambda alias, kind, shape: (alias, "double" if kind == "float" else kind, shape))]
    found["as_int32"] = [call(change=lambda alias, kind, shape: (alias, "int32" if kind in ("float", "int64") else kind, shape))]
    found["without_batch"] = [call(change=lambda alias, kind, shape: (alias, kind, shape[1:]))]
    found["nested"] = [call(rows=2, change=lambda alias, kind, shape: (alias, kind, [1, *shape]))]
    found["with_suffix"] = [call(change=lambda alias, kind, shape: (f"{alias}:0", kind, shape))]
    found["capital"] = [call(change=lambda alias, kind, shape: (alias.upper(), kind, shape))]
    outputs = old[name][1].split()
    found["filtered"] = [call(outputs=outputs[-1:])]
    found["unknown_signature"] = [call(signature="nowhere")]
    for other in old:
        found[f"signature_{other}"] = [call(signature=other)]
    body = {alias: array(kind, sized(dims, 2)).tolist() for alias, (kind, dims, default) in declared.items() if default is None}
    if "string" not in kinds:
        found["rest_columns"] = [Call({}, rest={"inputs": body, "signature_name": name})]
    if batched and "string" not in kinds and all(dims is None or -1 in dims[:1] for _, dims, _ in declared.values()):
        rows = [{alias: values[row] for alias, values in body.items()} for row in range(2)]
        found["rest_rows"] = [Call({}, rest={"instances": rows, "signature_name": name})]
    return found


def request(model, call):
    made = predict_pb2.PredictRequest()
    made.model_spec.name, made.model_spec.signature_name = model, call.signature
    for alias, value in call.inputs.items():
        made.inputs[alias].CopyFrom(value if not isinstance(value, np.ndarray) else tf.make_tensor_proto(value))
    made.output_filter.extend(call.outputs)
    return made


def rules(pairs):
    return {tuple(value.split(";")[1::-1]) for key, value in pairs if key == "tfs-sidecar-repair"}


def over_rest(sidecar, model, caller, body):
    url = f"http://{sidecar.rest}/v1/models/{model}:predict"
    sent = urllib.request.Request(url, json.dumps(body).encode(), {"x-client-id": caller, "content-type": "application/json"})
    try:
        with urllib.request.urlopen(sent, timeout=30) as answer:
            answer.read()
            found = rules([(key.lower(), value) for key, value in answer.headers.items()])
            return ("repaired" if found else "conforming", frozenset(found))
    except urllib.error.HTTPError as error:
        with error:
            assert error.code == 400, f"{error.code} {error.read()}"
            return ("refused", None)


def outcome(sidecar, stub, model, caller, call):
    """(what happened, the rules that were applied or the first reason of the refusal)."""
    if call.rest is not None:
        return over_rest(sidecar, model, caller, call.rest)
    try:
        _, answered = stub.Predict.with_call(request(model, call), timeout=30, metadata=[("x-client-id", caller)])
    except grpc.RpcError as error:
        assert error.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION), error
        try:
            return ("refused", details(error)[2].reason)
        except AssertionError:
            return ("refused", "TF Serving")
    found = rules(answered.initial_metadata())
    return ("repaired" if found else "conforming", frozenset(found))


class World:
    """All models, first in their old version and then in their new one."""

    def __init__(self, folder):
        self.folder = folder
        self.census = folder / "census.json"
        options = []
        for model, (old, new) in PAIRS.items():
            save(folder / model / "1", old)
            save(folder / "new" / model / "2", new)
            options += ["--model", f"{model}={folder / model}"]
        config = folder / "config.yaml"
        config.write_text("client_identity: [{metadata: x-client-id}]\npoll_interval: 100ms\n")
        self.server = Server(*options, "--file-system-poll-wait-seconds", "0.2")
        self.sidecar = Sidecar(self.server.address, "--config", str(config), "--rest-listen", "127.0.0.1:0")
        self.calls = {model: callers(old) for model, (old, _) in PAIRS.items()}

    def send_all(self):
        """{model: {caller: the set of what happened to its requests}}."""
        happened = {}
        with channel(self.sidecar.address) as opened:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(opened)
            for model, by_caller in self.calls.items():
                for caller, calls in by_caller.items():
                    found = {outcome(self.sidecar, stub, model, caller, call) for call in calls}
                    happened.setdefault(model, {})[caller] = found
        return happened

    def run(self, *arguments):
        ended = subprocess.run([binary(), *arguments], capture_output=True, text=True, check=False, timeout=60)
        return ended.returncode, ended.stdout, ended.stderr

    def roll_out(self):
        for model in PAIRS:
            shutil.move(self.folder / "new" / model / "2", self.folder / model / "2")

        def served():
            models = {model["name"]: model for model in json.loads(self.sidecar.get("/api/models")[1])}
            return all([version["version"] for version in models[model]["versions"]] == [2] for model in PAIRS)

        until(served, 60, "version 2 of all models")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    made = World(tmp_path_factory.mktemp("census"))
    with made.server, made.sidecar:
        made.sidecar.wait_ready()
        made.before = made.send_all()
        code, _, errors = made.run("traffic", "--admin", made.sidecar.admin, "--out", str(made.census))
        assert code == 0, errors
        made.forecasts = {}
        for model in PAIRS:
            code, text, errors = made.run("traffic", "forecast", "--traffic", str(made.census), "--saved-model", str(made.folder / "new" / model), "--model", model, "--json")
            assert code in (0, 1), errors
            made.forecasts[model] = json.loads(text)
            assert code == ("refused" in made.forecasts[model]["callers"])
        made.roll_out()
        made.after = made.send_all()
        yield made


def compare(forecast, happened):
    """The differences between what was foretold of a caller's only form and what happened."""
    expected, findings = forecast["expected"], {tuple(found) for found in forecast["findings"]}
    kinds = {kind for kind, _ in happened}
    if forecast["class"] in ("depends_on_values", "depends_on_sizes"):
        return None
    if kinds != {expected}:
        return f"foretold {expected} ({forecast['text']}), happened {happened}"
    if expected == "repaired" and {found for _, found in happened} != {frozenset(findings)}:
        return f"foretold {findings}, happened {happened}"
    reasons = {reason for kind, reason in happened if kind == "refused" and reason not in (None, "TF Serving")}
    if not reasons <= {kind for kind, _ in findings}:
        return f"foretold {findings}, happened {happened}"
    return None


def test_each_caller_has_one_form(world):
    census = json.loads(world.census.read_text())
    forms = {(form["model"], form["client"]) for form in census["forms"]}
    assert len(forms) == sum(len(by_caller) for by_caller in world.calls.values())
    assert len(census["forms"]) >= len(forms)
    assert census["missed"] == 0


def test_the_forecast_is_what_then_happens_to_every_caller(world):
    wrong, forms = [], 0
    for model, by_caller in world.after.items():
        found = {form["client"]: form for form in world.forecasts[model]["forms"]}
        assert set(found) == set(by_caller), model
        for caller, happened in by_caller.items():
            forms += 1
            problem = compare(found[caller], happened)
            if problem:
                wrong.append(f"{model} {caller}: {found[caller]['inputs']}: {problem}")
    print(f"{len(PAIRS)} pairs, {forms} forms, {len(wrong)} different")
    assert not wrong, "\n".join(wrong)


def test_what_depends_on_values_really_does(world):
    """Of the callers that send different values, some requests go through and some do not."""
    seen = 0
    for model, by_caller in world.after.items():
        for form in world.forecasts[model]["forms"]:
            if form["client"] == "mixed" and form["class"] == "depends_on_values":
                seen += 1
                assert {kind for kind, _ in by_caller["mixed"]} == {"repaired", "refused"}, (model, by_caller["mixed"])
    assert seen >= 2


def test_the_class_says_what_changes_for_a_caller(world):
    for model, by_caller in world.after.items():
        for form in world.forecasts[model]["forms"]:
            caller, kind = form["client"], form["class"]
            before, after = ({what for what, _ in side[model][caller]} for side in (world.before, world.after))
            if kind == "refused":
                assert after == {"refused"} and before != {"refused"}, (model, caller, before, after)
            if kind == "as_before":
                assert before == after, (model, caller, form, before, after)


def test_the_sidecar_shows_the_forecast_when_a_version_appears(world):
    def shown():
        changes = json.loads(world.sidecar.get("/api/changes")[1])
        return {change["model"]: change["forecast"] for change in changes if change["from"] == 1}

    changed = {model for model, (old, new) in PAIRS.items() if old != new}
    with_defaults = {"input_added_with_default", "default_removed"}
    until(lambda: all(shown().get(model) for model in changed - with_defaults), 30, "the forecasts")
    for model, forecast in shown().items():
        if forecast and model not in with_defaults | {"input_added"}:
            assert forecast["callers"] == world.forecasts[model]["callers"], model
    # A server does not say that the new input has no default.
    broken = [sum(found["callers"].get(kind, 0) for kind in ("refused", "forwarded")) for found in (shown()["input_added"], world.forecasts["input_added"])]
    assert broken[0] == broken[1] > 10
    log = "".join(world.sidecar.log)
    assert "clients do not fit the new signatures" in log and "requests will be refused" in log


def test_outputs_that_are_gone_are_named(world):
    for model, (old, new) in PAIRS.items():
        gone = {output for name, (_, outputs) in old.items() if name in new for output in outputs.split() if output not in new[name][1].split()}
        assert set(world.forecasts[model]["outputs_gone"]) == gone, model
    assert world.forecasts["output_removed"]["outputs_gone"] == ["z"]


def test_the_doctor_says_the_same(world):
    directory = str(world.folder / "wider")
    code, text, errors = world.run("doctor", "--saved-model", directory, "--traffic", str(world.census), "--model", "wider", "--json")
    answer = json.loads(text)
    assert code == 1, errors
    assert answer["traffic"] == world.forecasts["wider"]
    found = [finding for finding in answer["findings"] if finding["check"] == "traffic"]
    assert [(finding["level"], finding["what"]) for finding in found] == [("fail", world.forecasts["wider"]["summary"])]
    text = world.run("doctor", "--saved-model", directory, "--traffic", str(world.census), "--model", "wider")[1]
    removed = ("--saved-model", str(world.folder / "output_removed"), "--traffic", str(world.census), "--model", "output_removed")
    (found,) = (found for found in json.loads(world.run("doctor", *removed, "--json")[1])["findings"] if found["check"] == "traffic")
    assert found["what"] == world.forecasts["output_removed"]["summary"] + "; outputs are gone: z"
    assert f"model 'wider' version 2: {world.forecasts['wider']['summary']}" in text.splitlines()


def test_versions_are_compared(world):
    code, text, errors = world.run("diff", str(world.folder / "renamed" / "1"), str(world.folder / "renamed" / "2"))
    assert code == 1, errors
    assert "- signature 'serving_default': input x: float [-1,4] (renamed to 'inputs'?)" in text.splitlines()
    assert world.run("diff", str(world.folder / "same"), f"{world.server.address}/same")[0] == 0
    code, text, _ = world.run("diff", str(world.folder / "wider" / "1"), f"{world.server.address}/wider/2")
    assert code == 1 and "~ signature 'serving_default': input 'x': shape [-1,4], now [-1,6]" in text.splitlines()
    assert world.run("diff", str(world.folder / "nowhere"), str(world.folder / "same"))[0] == 2
