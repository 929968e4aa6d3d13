"""`signature`, whose example call must work as printed, `explain` and `check`, against running models."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import tensorflow as tf
from tensorflow_serving.apis import get_model_metadata_pb2, prediction_service_pb2_grpc

import requests_mlp as mlp
from harness import MODELS as FOLDER, ROOT, Server, channel
from sidecar import Sidecar, binary

TLS = ROOT / "tests" / "fixtures" / "tls"

# Models with every kind of shape and most dtypes, whose example needs no guess.
MODELS = ["mlp", "cnn", "twoin", "fixed", "rank0", "unkrank", "multisig"] + [
    f"echo_{dtype}" for dtype in ("float16", "bfloat16", "float64", "int8", "uint32", "int64", "bool", "string", "complex64")
]

# Models whose signature does not say everything, and what the example says about it.
FILLED_IN = {
    "sparse": "x_2: read as the dense shape of a sparse tensor: fill in",
    "features": "examples: an empty tf.Example is sent, as the signature does not show the features: fill in",
    "example": "inputs: an empty tf.Example is sent, as the signature does not show the features: fill in",
    "numbers": "numbers: the text `example` is sent (bytes are base64 in JSON): fill in",
    "vector": "x: a scalar is sent, as the signature does not declare the rank: fill in",
    "sequence": "x: [1,1,1] is sent where [-1,-1,-1] is declared",
}
WORKING = ["ragged", "ragged_text", "sparse_sum", "defaults", "jpeg", "photo", "detector", "fed", "sparse_output"]
IMPOSSIBLE = {"only_fed": "every output is also an input", "coo": "input x: a sparse or composite tensor"}
KERNEL = tf.ones((3, 3, 3, 2))


def spec(shape, dtype, name):
    return tf.TensorSpec(shape, dtype, name)


def decode(contents, decoder):
    pixels = tf.map_fn(lambda one: tf.image.resize(decoder(one), [8, 8]), contents, tf.float32)
    return tf.reduce_mean(pixels, [1, 2, 3])


def parse(examples, **options):
    return tf.io.parse_example(examples, {"a": tf.io.FixedLenFeature([2], tf.float32, **options)})["a"]


# name: (the function, the specs of its arguments)
FUNCTIONS = {
    "ragged": (lambda x: tf.reduce_sum(x, 1), [tf.RaggedTensorSpec([None, None, 11], tf.float32, ragged_rank=1)]),
    "ragged_text": (lambda words: words.to_tensor(), [tf.RaggedTensorSpec([None, None, None], tf.string)]),
    "sparse": (lambda x: tf.sparse.sparse_dense_matmul(x, tf.ones([10, 3])), [tf.SparseTensorSpec([None, 10], tf.float32)]),
    "sparse_sum": (lambda x: tf.sparse.reduce_sum(x), [tf.SparseTensorSpec([None, None], tf.float32)]),
    "features": (parse, [spec([None], tf.string, "examples")]),
    "defaults": (lambda examples: parse(examples, default_value=[0.0, 0.0]), [spec([None], tf.string, "examples")]),
    "jpeg": (lambda image_bytes: decode(image_bytes, lambda one: tf.image.decode_jpeg(one, channels=3)), [spec([None], tf.string, "image_bytes")]),
    "photo": (lambda img: tf.image.decode_image(img, channels=3), [spec([], tf.string, "img")]),
    "detector": (lambda image: tf.nn.conv2d(tf.cast(image, tf.float32), KERNEL, 2, "VALID"), [spec([None, None, None, 3], tf.uint8, "image")]),
    "numbers": (tf.strings.to_number, [spec([None], tf.string, "numbers")]),
    "vector": (lambda x: tf.reduce_sum(x, 1), [spec(None, tf.float32, "x")]),
    "over_rows": (lambda x: tf.nn.softmax(x, axis=0), [spec([None, 2], tf.float32, "x")]),
    "sequence": (lambda x: tf.nn.conv1d(x, tf.ones((5, 3, 1)), 1, "VALID"), [spec([None, None, None], tf.float32, "x")]),
}


def save_functions(folder):
    for name, (function, specs) in FUNCTIONS.items():
        module = tf.Module()
        module.f = tf.function(function, input_signature=specs)
        tf.saved_model.save(module, str(folder / name / "1"), signatures=module.f.get_concrete_function())


def save_graphs(folder):
    """As exported by TensorFlow 1: outputs that are inputs, and tensors that are sparse."""
    v1 = tf.compat.v1
    signature = v1.saved_model.signature_def_utils.predict_signature_def
    for name in ("fed", "only_fed", "sparse_output", "coo"):
        with tf.Graph().as_default() as graph, v1.Session(graph=graph) as session:
            ids, x = v1.placeholder(tf.int64, [None], "unique_ids"), v1.placeholder(tf.float32, [None, 2], "x")
            coo = v1.sparse_placeholder(tf.float32, [None, 4])
            signatures = {
                "fed": lambda: signature({"unique_ids": ids, "x": x}, {"unique_ids": ids, "logits": tf.identity(x)}),
                "only_fed": lambda: signature({"unique_ids": ids}, {"unique_ids": ids}),
                "sparse_output": lambda: signature({"x": x}, {"y": x * 2, "z": tf.sparse.from_dense(x)}),
                "coo": lambda: signature({"x": coo}, {"y": tf.sparse.to_dense(coo)}),
            }
            builder = v1.saved_model.Builder(str(folder / name / "1"))
            builder.add_meta_graph_and_variables(session, ["serve"], {"serving_default": signatures[name]()})
            builder.save()


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    save_functions(folder)
    save_graphs(folder)
    paths = {model: FOLDER / model for model in [*MODELS, "example", "withdefault"]} | {path.name: path for path in folder.iterdir()}
    # The README calls its model so.
    paths["my_model"] = FOLDER / "mlp"
    options = [word for model, path in paths.items() for word in ("--model", f"{model}={path}")]
    with Server(*options) as server, Sidecar(
        server.address, "--rest-listen", "127.0.0.1:0", *(word for model in paths for word in ("--model", model))
    ) as running:
        running.upstream = server.address
        yield running.wait_ready()


def run(*arguments, expect=0, **variables):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TFS_SIDECAR_") and name != "MODEL_NAME"}
    done = subprocess.run(
        [binary(), *arguments], capture_output=True, text=True, timeout=60, env={**environment, **variables}, check=False
    )
    assert done.returncode == expect, done.stderr + done.stdout
    return done.stdout if expect != 2 else done.stderr


def printed(sidecar, model, *options):
    """What follows the table: the signature comes from the server, and the call goes to the sidecar."""
    where = ("--upstream", sidecar.upstream, "--listen", sidecar.address, "--model", model)
    return run("signature", *where, "--example", *options).rpartition("\n\n")[2]


def shell(command):
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return subprocess.run(
        # On stdin, as an argument cannot be as long as the pixels of an image.
        ["bash"], input=command, capture_output=True, text=True, timeout=60, env={**os.environ, "PATH": path}, check=False
    )


def assert_works(command):
    called = shell(command)
    assert called.returncode == 0, command + called.stderr
    assert '"outputs"' in called.stdout


@pytest.mark.parametrize("model", [*MODELS, *WORKING])
def test_the_example_call_works_as_printed(sidecar, model):
    text = printed(sidecar, model)
    assert f" {sidecar.address} " in text
    assert_works(text)


def test_an_example_of_another_signature_can_be_chosen(sidecar):
    text = printed(sidecar, "multisig", "--signature-name", "ids")
    assert '"signature_name": "ids"' in text
    assert_works(text)


def curl(sidecar, model, *options):
    return printed(sidecar, model, "--rest", "--rest-listen", sidecar.rest, *options)


# Outputs of `sparse_output` cannot be left out over REST.
@pytest.mark.parametrize("model", [*MODELS, *(model for model in WORKING if model not in ("fed", "sparse_output"))])
def test_the_curl_example_works_as_printed(sidecar, model):
    text = curl(sidecar, model)
    assert f" http://{sidecar.rest}/v1/models/{model}:predict " in text
    called = shell(text.replace("curl ", "curl -sSif ", 1))
    assert called.returncode == 0, text[:1000] + called.stderr + called.stdout
    assert '"outputs"' in called.stdout
    # The example itself needs no repair, but for shapes that the signature does not have.
    assert "tfs-sidecar-repairs" not in called.stdout, called.stdout


def test_the_curl_example_of_another_signature_names_it(sidecar):
    text = curl(sidecar, "multisig", "--signature-name", "ids")
    assert '"signature_name": "ids"' in text
    assert '"outputs"' in shell(text).stdout


@pytest.mark.parametrize("model", [*IMPOSSIBLE, "fed", "sparse_output"])
def test_the_curl_example_says_why_no_call_can_work(sidecar, model):
    text = curl(sidecar, model)
    assert "curl " not in text and "the REST API cannot call signature" in text


def test_a_rest_body_is_explained_as_the_listener_would_answer_it(sidecar, tmp_path):
    body = tmp_path / "body.json"
    where = ("explain", "--upstream", sidecar.upstream, "--model", "twoin", "--rest-body", str(body))
    body.write_text('{"instances": {"k": 1.0, "x": [1, 2, 3, 4, 5, 6, 7, 8]}}')
    text = run(*where)
    called = shell(f"curl -sSi http://{sidecar.rest}/v1/models/twoin:predict -d @{body}")
    rules = re.findall(r"tfs-sidecar-repair: [^;]*;(\w+);", called.stdout)
    assert rules == ["list_of_one", "integral_floats"] and all(f": {rule} " in text for rule in rules)
    body.write_text('{"instances": [{"k": 1.5, "x": [null]}]}')
    text = run(*where, expect=1)
    called = shell(f"curl -sS http://{sidecar.rest}/v1/models/twoin:predict -d @{body}")
    for place in ("/instances/0/k", "/instances/0/x/0"):
        assert place in text and place in called.stdout


@pytest.mark.parametrize("model", FILLED_IN)
def test_the_example_says_what_must_be_filled_in(sidecar, model):
    text = printed(sidecar, model)
    assert f"#   {FILLED_IN[model]}" in text
    # Else it would have nothing to say.
    assert shell(text).returncode != 0


@pytest.mark.parametrize("model", IMPOSSIBLE)
def test_the_example_says_why_no_call_can_work(sidecar, model):
    text = printed(sidecar, model)
    assert "grpcurl" not in text and IMPOSSIBLE[model] in text


def test_the_example_for_a_sidecar_with_tls_works_as_printed(sidecar, tmp_path):
    tls = f"listen_tls: {{cert: {TLS / 'server.pem'}, key: {TLS / 'server.key'}}}\n"
    (tmp_path / "sidecar.yaml").write_text(tls)
    config = ("--config", str(tmp_path / "sidecar.yaml"))
    with Sidecar(sidecar.upstream, "--model", "mlp", *config) as secured:
        secured.wait_ready()
        secured.upstream = sidecar.upstream
        assert_works(printed(secured, "mlp", *config))


def test_the_signature_is_printed_as_a_table(sidecar):
    lines = [line.split() for line in run("signature", "--upstream", sidecar.address, "--model", "mlp").splitlines()]
    assert ["input", "input_tensor", "float", "[-1,128]", "serving_default_input_tensor:0"] in lines
    assert any(line[:4] == ["output", "probs", "float", "[-1,10]"] for line in lines)


def test_explain_shows_what_would_happen_without_a_request(sidecar, tmp_path):
    where = ("--upstream", sidecar.address, "--model", "mlp")
    said = run("explain", *where, "--input", "input_tensor:double[128]")
    assert "repair input_tensor: cast_round double->float lossy" in said
    assert "repair input_tensor: add_batch_dim [128]->[1,128]" in said
    shares = "share a run (rows 1, key inputs input_tensor float [128])"
    assert f"batching: off for this signature; if it were on, the request could {shares}" in said
    refused = run("explain", *where, "--input", "input_tensor:float[127]", expect=1)
    assert "RANK_TOO_LOW" in refused and "[-1,128]" in refused
    strict = run("explain", *where, "--mode", "strict", "--input", "input_tensor:float[128]", expect=1)
    assert "refused: RANK_TOO_LOW" in strict

    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "mlp"
    with channel(sidecar.address) as opened:
        metadata = prediction_service_pb2_grpc.PredictionServiceStub(opened).GetModelMetadata(request, timeout=20)
    (tmp_path / "signature").write_bytes(metadata.SerializeToString())
    (tmp_path / "request").write_bytes(mlp.request(mlp.case()[0], [1, 128]).SerializeToString())
    files = ("--signature", str(tmp_path / "signature"), "--request", str(tmp_path / "request"))
    assert "conforms: forwarded byte for byte" in run("explain", *files)


def test_a_malformed_input_is_a_usage_error(sidecar):
    where = ("--upstream", sidecar.address, "--model", "mlp")
    assert "name:dtype[shape]" in run("explain", *where, "--input", "x", expect=2)


def test_an_input_that_was_not_sent_is_said(sidecar):
    where = ("--upstream", sidecar.address)
    said = run("explain", *where, "--model", "twoin", "--input", "x:double[1,8]")
    assert "\nk: not sent; TF Serving refuses the request unless" in said and "\nx: not sent" not in said
    said = run("explain", *where, "--model", "withdefault", "--input", "x:float[1,4]")
    assert "not sent; the signature has a default for it" in said


def test_explain_judges_with_the_policy_of_the_configuration(sidecar, tmp_path):
    config = tmp_path / "sidecar.yaml"
    config.write_text(
        f"upstream: {sidecar.address}\n"
        "models: {mlp: {signatures: {serving_default: {aliases: {features: input_tensor}, missing_inputs: refuse}}}}\n"
    )
    # The address and the model come from the file.
    said = run("explain", "--config", str(config), "--input", "features:float[1,128]")
    assert "model 'mlp'" in said and "repair input_tensor: aliases features->input_tensor" in said
    said = run("explain", "--input", "features:float[1,128]", TFS_SIDECAR_UPSTREAM=sidecar.address, MODEL_NAME="mlp")
    assert "aliases" not in said
    said = run("explain", "--config", str(config), "--input", "input_tensor:float[128]", "--mode", "strict", expect=1)
    assert "refused: RANK_TOO_LOW" in said
    config.write_text(
        f"upstream: {sidecar.address}\n"
        "models: {mlp: {signatures: {serving_default: {batching: {enabled: on}}}}}\n"
    )
    said = run("explain", "--config", str(config), "--input", "input_tensor:float[3,128]")
    assert "batching: can share a run (rows 3, key inputs input_tensor float [128])" in said
    said = run("explain", "--config", str(config), "--input", "input_tensor:float[0,128]")
    assert "batching: cannot share a run: the request has no rows" in said


def test_signature_and_explain_read_from_a_server_with_tls(sidecar, tmp_path):
    tls = f"listen_tls: {{cert: {TLS / 'server.pem'}, key: {TLS / 'server.key'}, client_ca: {TLS / 'ca.pem'}}}\n"
    (tmp_path / "sidecar.yaml").write_text(tls)
    with Sidecar(sidecar.upstream, "--model", "mlp", "--config", str(tmp_path / "sidecar.yaml")) as secured:
        secured.wait_ready()
        port = secured.address.rpartition(":")[2]
        where = ("--upstream", f"https://127.0.0.1:{port}", "--model", "mlp", "--upstream-ca", str(TLS / "ca.pem"))
        identity = {"TFS_SIDECAR_UPSTREAM_CERT": str(TLS / "client.pem"), "TFS_SIDECAR_UPSTREAM_KEY": str(TLS / "client.key")}
        assert "input_tensor" in run("signature", *where, **identity)
        named = ("--upstream-domain", "localhost")
        assert "conforms" in run("explain", *where, *named, "--input", "input_tensor:float[1,128]", **identity)
        run("signature", *where, expect=1)
        run("signature", *where, "--upstream-domain", "other.test", expect=1, **identity)
        # `check` takes the same flags.
        run("check", *where, **identity)


def test_check_compares_the_configuration_with_the_server(sidecar, tmp_path):
    config = tmp_path / "sidecar.yaml"
    config.write_text(
        "models:\n"
        "  mlp: {signatures: {serving_defualt: {mode: strict}}}\n"
        "  twoin: {signatures: {serving_default: {aliases: {a: c}}}}\n"
        "  absent: {}\n"
    )
    problems = run("check", "--config", str(config), "--upstream", sidecar.upstream, expect=2)
    assert "the configuration has 3 problems" in problems
    assert f"`models.absent`: `{sidecar.upstream}` does not serve this model: " in problems
    assert "`models.mlp.signatures.serving_defualt`: the model has no signature `serving_defualt` (did you mean `serving_default`?)" in problems
    assert "`models.twoin.signatures.serving_default.aliases.a`: signature `serving_default` has no input `c`" in problems
    # Without the flag nothing is compared, whatever the environment says.
    run("check", "--config", str(config), TFS_SIDECAR_UPSTREAM=sidecar.upstream)
    config.write_text("models: {mlp: {signatures: {serving_default: {mode: strict}}}}\n")
    run("check", "--config", str(config), "--upstream", sidecar.upstream)


def commands_in(name):
    """The commands in the shell blocks of a page."""
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / name).read_text(), re.DOTALL)
    lines = [shlex.split(line, comments=True) for block in blocks for line in block.splitlines()]
    return [words[1:] for words in lines if words and words[0].endswith("tfs-sidecar")]


def test_the_commands_of_the_readme_work_as_printed(sidecar, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sidecar.yaml").write_bytes((ROOT / "src" / "config" / "example.yaml").read_bytes())
    tried = set()
    for name, *options in commands_in("README.md"):
        if name == "run":
            continue
        text = run(name, *options, TFS_SIDECAR_UPSTREAM=sidecar.upstream, TFS_SIDECAR_LISTEN=sidecar.address)
        if "--example" in options:
            assert_works(text.rpartition("\n\n")[2])
        tried.add(name)
    assert tried == {"signature", "explain", "check"}


def probe(sidecar, model, *options, expect=0):
    where = ("--upstream", sidecar.upstream, "--model", model, "--duration", "300ms", "--max-rows", "8")
    return run("batch-probe", *where, *options, expect=expect)


def test_the_curve_of_a_model_is_measured(sidecar):
    text = probe(sidecar, "mlp", "--input", "input_tensor:double[128]")
    assert "the request was repaired with" in text
    assert "Each row got the answer that it gets alone" in text
    assert [line.split()[0] for line in text.splitlines() if line.endswith("x")] == ["1", "2", "4", "8"]
    assert "Batching pays" in text or "Batching does not pay" in text or "It is unclear" in text


def test_a_model_whose_rows_depend_on_each_other_is_found(sidecar):
    assert probe(sidecar, "over_rows", "--input", "x:float[2,2]{1,2,3,4}", expect=1) == ""
