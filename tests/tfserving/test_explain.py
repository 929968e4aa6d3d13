"""The texts of TensorFlow's own kernels, and what the sidecar appends to each: one model of many small signatures, each with a
request that its kernel refuses. Mode observe forwards them all."""

import re
import subprocess

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2

from harness import Server, channel, raw_call
from sidecar import Sidecar, binary

PREDICT = "/tensorflow.serving.PredictionService/Predict"


def zeros(*shape):
    return np.zeros(shape, np.float32)


def ints(*values):
    return np.array(values, np.int64)


def text(*values):
    return np.array([value.encode() for value in values], object)


def example(**features):
    kinds = {"floats": "float_list", "ints": "int64_list"}
    made = tf.train.Example()
    for kind, values in features.items():
        getattr(made.features.feature["a"], kinds[kind]).value.extend(values)
    return np.array([made.SerializeToString()], object)


def parse(x):
    return tf.io.parse_example(x, {"a": tf.io.FixedLenFeature([2], tf.float32)})["a"]


# The cases share one batcher, which the first call configures: the settings are the same for all.
batched = tf.nondifferentiable_batch_function(1, 8, 1000, enable_large_batch_splitting=False)
W = tf.ones((4, 3))
KERNEL = tf.ones((3, 3, 3, 2))
TABLE = tf.ones((10, 2))
ONE_SCALAR = np.array(b"neither an image nor anything else", object)

# name: (the function, a request's inputs, TensorFlow's text, words of the explanation)
CASES = {
    "matmul_size": (lambda x: tf.matmul(x, W), [zeros(2, 3)], "Matrix size-incompatible: In[0]: [2,3], In[1]: [4,3]", "another number of values"),
    "matmul_rank": (lambda x: tf.raw_ops.MatMul(a=x, b=W), [zeros(4)], "In[0] and In[1] has different ndims: [4] vs. [4,3]", "batch dimension is missing"),
    "batch_matmul_rank": (lambda x: tf.raw_ops.BatchMatMulV2(x=x, y=W), [zeros(4)], "In[0] ndims must be >= 2: 1", "batch dimension is missing"),
    "batch_matmul_rows": (tf.matmul, [zeros(2, 5, 3), zeros(3, 3, 4)], "In[0] and In[1] must have compatible batch dimensions", "same number of rows"),
    "bias_size": (lambda x: tf.nn.bias_add(x, tf.zeros(4)), [zeros(2, 3)], "Must provide as many biases as the last dimension", "another number of values"),
    "bias_rank": (lambda x: tf.nn.bias_add(x, tf.zeros(4)), [zeros(3)], "Input tensor must be at least 2D: [3]", "batch dimension is missing"),
    "diagonal": (lambda x: tf.linalg.band_part(x, 0, 0), [zeros(3)], "input must be at least 2-dim", "batch dimension is missing"),
    "inverse": (tf.linalg.inv, [zeros(2, 3)], "Input matrix must be square.", "another number of values"),
    "reshape_any": (lambda x: tf.reshape(x, [-1, 4]), [zeros(2, 3)], "Input to reshape is a tensor with 6 values, but the requested shape requires a multiple of 4", "number of values does not fit"),
    "reshape_one": (lambda x: tf.reshape(x, [4]), [zeros(2, 3)], "Input to reshape is a tensor with 6 values, but the requested shape has 4", "number of values does not fit"),
    "add": (lambda x, y: x + y, [zeros(2, 3), zeros(2, 4)], "Incompatible shapes: [2,3] vs. [2,4]", "do not go together"),
    "where": (lambda x, y: tf.where(x > 0, x, y), [zeros(2, 3), zeros(2, 4)], "must be broadcastable", "do not go together"),
    "add_n": (lambda x, y: tf.add_n([x, y]), [zeros(2, 3), zeros(2, 4)], "must have the same size and shape", "do not go together"),
    "stack": (lambda x, y: tf.stack([x, y]), [zeros(2, 3), zeros(2, 4)], "Shapes of all inputs must match", "do not go together"),
    "join_text": (lambda x, y: tf.strings.join([x, y]), [text(*"aaaa"), text(*"aaaaaaa")], "Input shapes do not match: [4] vs. [7]", "do not go together"),
    "concat_rank": (lambda x, y: tf.concat([x, y], -1), [zeros(2, 3), zeros(2)], "ConcatOp : Ranks of all input tensors should match: shape[0] = [2,3] vs. shape[1] = [2]", "another rank than the rest"),
    "concat_size": (lambda x, y: tf.concat([x, y], 1), [zeros(2, 3), zeros(3, 3)], "ConcatOp : Dimension 0 in both shapes must be equal: shape[0] = [2,3] vs. shape[1] = [3,3]", "differ in a size"),
    "concat_axis": (lambda x, y: tf.concat([x, y], 1), [zeros(2), zeros(3)], "ConcatOp : Expected concatenating dimensions in the range [-1, 1), but got 1", "another rank than the rest"),
    "conv_rank": (lambda x: tf.nn.conv2d(x, KERNEL, 1, "SAME"), [zeros(8, 8, 3)], "convolution input must be 4-dimensional: [8,8,3]", "[batch, height, width, channels]"),
    "conv_depth": (lambda x: tf.nn.conv2d(x, KERNEL, 1, "SAME"), [zeros(1, 8, 8, 4)], "input depth must be evenly divisible by filter depth: 4 vs 3", "number of channels"),
    "conv3d_rank": (lambda x: tf.nn.conv3d(x, tf.ones((3, 3, 3, 3, 2)), [1] * 5, "SAME"), [zeros(8, 8, 3)], "input must be 5-dimensional", "volumes"),
    "depthwise_depth": (lambda x: tf.nn.depthwise_conv2d(x, tf.ones((3, 3, 3, 1)), [1] * 4, "SAME"), [zeros(1, 8, 8, 4)], "input and filter must have the same depth: 4 vs 3", "number of channels"),
    "pool_rank": (lambda x: tf.nn.max_pool2d(x, 2, 2, "SAME"), [zeros(8, 8, 3)], "tensor_in_shape must have 2 spatial dimensions. 3 0", "[batch, height, width, channels]"),
    "pool_nchw": (lambda x: tf.nn.max_pool2d(x, 1, 1, "SAME", data_format="NCHW"), [zeros(1, 2, 4, 4)], "only supports NHWC on device type CPU", "channels last"),
    "resize_rank": (lambda x: tf.raw_ops.ResizeBilinear(images=x, size=[4, 4]), [zeros(8, 8, 3)], "input must be 4-dimensional[8,8,3]", "[batch, height, width, channels]"),
    "crop_rank": (lambda x: tf.image.crop_and_resize(x, [[0.0, 0.0, 1.0, 1.0]], [0], [2, 2]), [zeros(8, 8, 3)], "input image must be 4-D[8,8,3]", "[batch, height, width, channels]"),
    "hsv": (lambda x: tf.raw_ops.RGBToHSV(images=x), [zeros(2, 4)], "input must have 3 channels but input only has 4 channels", "number of channels"),
    "depth_to_space": (lambda x: tf.nn.depth_to_space(x, 2), [zeros(1, 2, 2, 3)], "Input depth dimension 3 should be divisible by: 4", "cannot divide"),
    "space_to_batch": (lambda x: tf.space_to_batch(x, [2, 2], [[0, 0], [0, 0]]), [zeros(1, 3, 3, 1)], "padded_shape[0]=3 is not divisible by block_shape[0]=2", "cannot divide"),
    "transpose": (lambda x: tf.transpose(x, [0, 3, 1, 2]), [zeros(2, 3)], "transpose expects a vector of size 2. But input(1) is a vector of size 4", "too many or too few"),
    "squeeze": (lambda x: tf.squeeze(x, [1]), [zeros(2, 3)], "Can not squeeze dim[1], expected a dimension of 1, got 3", "dimension of size 1"),
    "squeeze_rank": (lambda x: tf.squeeze(x, [3]), [zeros(2, 3)], "Tried to squeeze dim index 3 for tensor with 2 dimensions.", "dimension of size 1"),
    "expand_dims": (lambda x: tf.expand_dims(x, 3), [zeros(2)], "Tried to expand dim index 3 for tensor with 1 dimensions.", "does not have"),
    "mean": (lambda x: tf.reduce_mean(x, [1, 2]), [zeros(2)], "Invalid reduction dimension (1 for input with 1 dimension(s)", "does not have"),
    "argmax": (lambda x: tf.argmax(x, 1), [zeros(2)], "Expected dimension in the range [-1, 1), but got 1", "does not have"),
    "gather_axis": (lambda x: tf.gather(x, [0], axis=1), [zeros(2)], "Shape must be at least rank 2 but is rank 1", "does not have"),
    "index_rank": (lambda x: x[:, 0, 0], [zeros(2, 3)], "Index out of range using input dim 2; input has only 2 dims", "does not have"),
    "slice_rank": (lambda x: tf.slice(x, [0, 0], [2, 5]), [zeros(2)], "Expected begin and size arguments to be 1-D tensors of size 1", "does not have"),
    "tile": (lambda x: tf.tile(x, [1, 2, 1]), [zeros(2, 3)], "Expected multiples argument to be a vector of length 2 but got length 3", "does not have"),
    "pad": (lambda x: tf.pad(x, [[0, 1], [0, 1]]), [zeros(2)], "The first dimension of paddings must be the rank of inputs", "does not have"),
    "softmax_rank": (lambda x: tf.raw_ops.Softmax(logits=x), [zeros()], "logits must have >= 1 dimension, got []", "does not have"),
    "top_k_rank": (lambda x: tf.math.top_k(x, 5)[0], [zeros()], "input must be >= 1-D, got shape []", "does not have"),
    "einsum_rank": (lambda x: tf.einsum("bsd,dh->bsh", x, W), [zeros(2, 4)], "Expected input 0 to have rank 3 but got: 2", "does not have"),
    "einsum_size": (lambda x: tf.einsum("bsd,dh->bsh", x, W), [zeros(2, 2, 3)], "Expected dimension 3 at axis 0 of the input shaped [4,3] but got dimension 4", "too short"),
    "top_k": (lambda x: tf.math.top_k(x, 5)[0], [zeros(2, 3)], "input must have at least k columns. Had 3, needed 5", "too short"),
    "slice": (lambda x: tf.slice(x, [0, 0], [2, 5]), [zeros(2, 3)], "Expected size[1] in [0, 3], but got 5", "too short"),
    "index": (lambda x: x[:, 7], [zeros(2, 3)], "slice index 7 of dimension 1 out of bounds.", "too short"),
    "split": (lambda x: tf.split(x, 2, 1)[0], [zeros(2, 3)], "Number of ways to split should evenly divide the split dimension", "too short"),
    "split_sizes": (lambda x: tf.split(x, [1, 1], 1)[0], [zeros(2, 3)], "Determined shape must either match input shape", "too short"),
    "unstack": (lambda x: tf.raw_ops.Unpack(value=x, num=2, axis=0)[0], [zeros(3, 3)], "Input shape axis 0 must equal 2, got shape [3,3]", "too short"),
    "segment_sum": (tf.math.segment_sum, [zeros(2, 3), ints(0)], "segment_ids should be the same size as dimension 0 of input.", "belong together"),
    "unsorted_segment_sum": (lambda x, y: tf.math.unsorted_segment_sum(x, y, 3), [zeros(2, 3), ints(0)], "does not start with segment_ids.shape = [1]", "belong together"),
    "reverse_sequence": (lambda x, y: tf.reverse_sequence(x, y, 1), [zeros(2, 3), ints(1)], "Length of seq_lengths != input.dims(0), (1 vs. 2)", "belong together"),
    "sparse_values": (lambda x, y: tf.sparse.to_dense(tf.SparseTensor(x, y, [2, 2])), [np.zeros((1, 2), np.int64), zeros(2)], "sparse_values has incorrect shape [2]", "belong together"),
    "scatter_updates": (lambda x, y: tf.scatter_nd(x, y, [4]), [np.ones((1, 1), np.int64), zeros(3)], "must match dimensions [0,1) of updates[shape=[3]]", "belong together"),
    "ensure_shape": (lambda x: tf.ensure_shape(x, [None, 4]), [zeros(2, 3)], "[2,3] is not compatible with expected shape [?,4].", "requires at this point"),
    "range": (tf.range, [np.array([1, 2], np.int32)], "limit must be a scalar, not shape [2]", "a scalar is []"),
    "split_text": (lambda x: tf.strings.split(x).to_tensor(), [np.array([[b"a"]], object)], "input must be a vector, got shape: [1,1]", "a scalar is []"),
    "image_list": (tf.image.decode_jpeg, [text("a")], "`contents` must be scalar but got shape[1]", "list of them"),
    "image_bytes": (tf.image.decode_jpeg, [ONE_SCALAR], "Unknown image file format. One of JPEG, JPEG XL, PNG, GIF, BMP, WebP required.", "not an encoded image"),
    "base64": (tf.io.decode_base64, [np.array(b"a+b/", object)], "Invalid character found in base64.", "web-safe base64"),
    "raw": (lambda x: tf.io.decode_raw(x, tf.float32), [np.array(b"abcde", object)], "Input to DecodeRaw has length 5 that is not a multiple of 4", "whole number of values"),
    "number": (tf.strings.to_number, [text("abc")], "StringToNumberOp could not correctly convert string: abc", "not a number"),
    "substring": (lambda x: tf.strings.substr(x, 10, 2), [text("a")], "pos 10 out of range for string", "shorter than"),
    "gather": (lambda x: tf.gather(TABLE, x), [ints(99, 1)], "indices[0] = 99 is not in [0, 10)", "another vocabulary"),
    "gather_nd": (tf.gather_nd, [zeros(2, 3), np.array([[5, 0]], np.int64)], "indices[0] = [5, 0] does not index into param shape [2,3]", "outside the tensor"),
    "scatter": (lambda x, y: tf.scatter_nd(x, y, [4]), [np.array([[9]], np.int64), zeros(1)], "indices[0] = [9] does not index into shape [4]", "outside the tensor"),
    "sparse_index": (lambda x: tf.sparse.to_dense(tf.SparseTensor(x, [1.0], [2, 2])), [np.array([[5, 5]], np.int64)], "is out of bounds: need 0 <= index < [2,2]", "outside the tensor"),
    "finite": (lambda x: tf.debugging.check_numerics(x / 0.0, "y"), [zeros(2)], "y : Tensor had NaN values", "not a finite number"),
    "divide": (lambda x: x // 0, [ints(2)], "Integer division by zero", "that is 0"),
    "assertion": (lambda x, y: tf.nn.sparse_softmax_cross_entropy_with_logits(y, x), [zeros(2, 3), ints(1)], "assertion failed: [", "check of its own"),
    "ragged": (lambda x, y: tf.RaggedTensor.from_row_splits(x, y).to_tensor(), [zeros(3), ints(0, 2)], "assertion failed: [Arguments to _from_row_partition", "belong together"),
    "example_bytes": (parse, [text("abc")], "Could not parse example input, value: 'abc'", "SerializeToString()"),
    "example_rank": (parse, [example(floats=[1, 2])[None]], "Expected serialized to be a scalar or vector, got shape: [1,1]", "another shape"),
    "example_missing": (parse, [text("")], "Feature: a (data type: float) is required but could not be found.", "lacks a feature"),
    "example_count": (parse, [example(floats=[1])], "Number of float values != expected.", "another number of values"),
    "example_kind": (parse, [example(ints=[1, 2])], "Data types don't match. Data type: int64 but expected type: float", "another list"),
    "example_single": (lambda x: tf.io.parse_single_example(x, {"a": tf.io.FixedLenFeature([2], tf.float32)})["a"], [example(floats=[1, 2])], "assertion failed: [Input serialized must be a scalar]", "another shape"),
    "batch_function": (batched(lambda x: x + 1.0), [zeros()], "Batching input tensors must have at least one dimension.", "batches inside its graph"),
    "batch_function_rows": (batched(lambda x, y: x + y), [zeros(2), zeros(3)], "must have equal 0th-dimension size", "same number of rows"),
    "batch_function_size": (batched(lambda x: x + 1.0), [zeros(9, 1)], "Task size 9 is larger than maximum input batch size 8", "more rows than"),
    "no_kernel": (lambda x: tf.raw_ops.CudnnRNNV3(input=x, input_h=x, input_c=x, params=tf.zeros(9), sequence_lengths=[1], is_training=False)[0], [zeros(1, 1, 1)], "No OpKernel was registered to support Op 'CudnnRNNV3'", "not for its devices"),
}

# With oneDNN, the default on most CPUs, some kernels have words of their own.
ONEDNN = {
    "matmul_rank": ("In[0] ndims must be >= 2", "batch dimension is missing"),
    "matmul_size": ("Matrix size-incompatible: In[0]: [2,3], In[1]: [4,3] 0 0", "another number of values"),
    "softmax_rank": ("Input dims must be <= 5 and >=1", "does not have"),
}

ALIASES = "xy"
# TensorFlow lists a node's attributes in another order each time.
ATTRIBUTES = re.compile(r"with these attrs: \[.*\]")


def save_kernels(directory):
    """A signature for each case. Ranks are unknown, so that the kernel itself sees the shape."""
    module = tf.Module()
    signatures = {}
    for name, (function, inputs, _, _) in CASES.items():
        tensors = [tf.constant(value) for value in inputs]
        specs = [tf.TensorSpec(None, tensor.dtype, alias) for alias, tensor in zip(ALIASES, tensors)]
        traced = tf.function(function, input_signature=specs)
        signatures[name] = traced.get_concrete_function()
        setattr(module, f"f_{name}", traced)
    tf.saved_model.save(module, str(directory / "1"), signatures=signatures)


def save_fed(directory):
    """As BERT's first export: an output is the placeholder itself. And a table that nothing initializes, a hidden placeholder."""
    v1 = tf.compat.v1
    signature = v1.saved_model.signature_def_utils.predict_signature_def
    with tf.Graph().as_default() as graph, v1.Session(graph=graph) as session:
        ids, x = v1.placeholder(tf.int64, [None], "unique_ids"), v1.placeholder(tf.float32, [None], "x")
        table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(ids[:0], ids[:0]), -1)
        hidden = v1.placeholder(tf.float32, [], "keep_prob")
        signatures = {
            "fed": signature({"unique_ids": ids, "x": x}, {"unique_ids": ids, "logits": tf.identity(x)}),
            "table": signature({"unique_ids": ids}, {"y": table.lookup(ids)}),
            "hidden": signature({"x": x}, {"y": x * hidden}),
        }
        builder = v1.saved_model.Builder(str(directory / "1"))
        builder.add_meta_graph_and_variables(session, ["serve"], signatures)
        builder.save()


def request(model, signature, inputs):
    made = predict_pb2.PredictRequest()
    made.model_spec.name, made.model_spec.signature_name = model, signature
    for alias, value in inputs.items():
        made.inputs[alias].CopyFrom(tf.make_tensor_proto(value))
    return made


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("explain")
    save_kernels(folder / "kernels")
    save_fed(folder / "fed")
    return [f"--model=kernels={folder / 'kernels'}", f"--model=fed={folder / 'fed'}"]


@pytest.fixture(scope="module")
def running(models):
    with Server(*models) as server, Sidecar(server.address, "--mode", "observe") as sidecar:
        with channel(server.address) as direct, channel(sidecar.address) as client:
            yield direct, client, sidecar


@pytest.fixture(scope="module")
def onednn(models):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TF_ENABLE_ONEDNN_OPTS", "1")
        with Server(*models) as server, Sidecar(server.address, "--mode", "observe") as sidecar:
            with channel(server.address) as direct, channel(sidecar.address) as client:
                yield direct, client


def assert_explained(direct, client, made, upstream, words):
    """The server's code and text are unchanged, and the explanation follows."""
    data = made.SerializeToString()
    code, original, _ = raw_call(direct, PREDICT, data)
    assert code != 0 and upstream in original, f"{code} {original}"
    seen, explained, _ = raw_call(client, PREDICT, data)
    kept, marker, appended = explained.partition(" [tfs-sidecar: ")
    assert (seen, ATTRIBUTES.sub("", kept)) == (code, ATTRIBUTES.sub("", original))
    assert marker and words in appended and appended.endswith(")]"), explained


@pytest.mark.parametrize("name", CASES)
def test_a_kernels_own_text_is_kept_and_explained(running, name):
    _, inputs, upstream, words = CASES[name]
    assert_explained(*running[:2], request("kernels", name, dict(zip(ALIASES, inputs))), upstream, words)


@pytest.mark.parametrize("name", ONEDNN)
def test_the_texts_of_onednn_are_explained_too(onednn, name):
    upstream, words = ONEDNN[name]
    assert_explained(*onednn, request("kernels", name, dict(zip(ALIASES, CASES[name][1]))), upstream, words)


@pytest.mark.parametrize(
    ("signature", "upstream", "words"),
    [
        ("fed", "unique_ids:0 is both fed and fetched.", "output_filter"),
        ("table", "Table not initialized", "not initialized on load"),
        ("hidden", "You must feed a value for placeholder tensor 'keep_prob' with dtype float", "needs a placeholder"),
    ],
)
def test_faults_of_an_export_are_explained(running, signature, upstream, words):
    inputs = {"unique_ids": ints(1), "x": zeros(1)}
    taken = {"fed": ["unique_ids", "x"], "table": ["unique_ids"], "hidden": ["x"]}[signature]
    assert_explained(*running[:2], request("fed", signature, {alias: inputs[alias] for alias in taken}), upstream, words)


def test_the_filter_that_the_explanation_names_works(running):
    made = request("fed", "fed", {"unique_ids": ints(1), "x": zeros(1)})
    made.output_filter.append("logits")
    assert raw_call(running[1], PREDICT, made.SerializeToString())[0] == 0


def test_explain_foretells_an_output_that_is_an_input(running):
    inputs = ("--input", "unique_ids:int64[1]", "--input", "x:float[1]")
    command = [binary(), "explain", "--upstream", running[2].address, "--model", "fed", "--signature-name", "fed", *inputs]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert "outputs that are inputs: unique_ids; output_filter: logits" in done.stdout, done.stdout + done.stderr
