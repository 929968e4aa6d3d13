//! Operations that were given shapes that they cannot take: TensorFlow Serving checks no shape, so
//! a wrong one fails here, in the kernel's words, or not at all.
use super::Actor::{Client, Exporter};
use super::detail::Detail;
use super::{Row, row};

const fn shape(texts: &'static [&'static str], meaning: &'static str, source: &'static str) -> Row {
    row(Client, texts, meaning, source).detail(Detail::Shapes)
}

pub(super) const ROWS: &[Row] = &[
    shape(
        &["Input to reshape is a tensor with"],
        "the number of values does not fit: a batch dimension is missing or doubled, an inner size is wrong, or several rows went to a model that was exported for one",
        "reshape_op.h, tensorflow/serving#1537, #882",
    ),
    shape(
        &[
            "In[0] is not a matrix",
            "In[1] is not a matrix",
            "has different ndims",
            "ndims must be >= 2",
            "ndims must be == 2",
            "input must be a matrix",
            "Input tensor must be at least 2D",
            "input must be at least 2-dim",
        ],
        "an input has another rank than the model multiplies: usually the batch dimension is missing; send [1,n] for one row of n values",
        "matmul_op_impl.h, mkl_batch_matmul_op.cc, matmul_op_fused.cc, bias_op.cc, huaweicloud/ModelArts-Lab#216",
    ),
    shape(
        &["Matrix size-incompatible", "In[0] mismatch In[1] shape", "lhs mismatch rhs shape"],
        "a row has another number of values than the model was built for: the last size of In[0] was sent, the first of In[1] is expected; check feature count, image size and axis order",
        "matmul_op_impl.h, mkl_matmul_op_fused.cc, serizba/cppflow#223",
    ),
    shape(
        &["must have compatible batch dimensions"],
        "two tensors that the model multiplies have different numbers of rows: send the same number of rows in all inputs",
        "matmul_op_impl.h",
    ),
    shape(
        &["Must provide as many biases as the", "Input matrix must be square"],
        "a row has another number of values than the model was built for",
        "bias_op.cc, linalg_ops_common.cc",
    ),
    shape(
        &["transpose expects a vector of size"],
        "an input has another rank than the model transposes: usually one batch dimension too many or too few",
        "transpose_op.cc, tensorflow/serving#1269",
    ),
    shape(
        &[
            "input must be 4-dimensional",
            "inputs must be 4-dimensional",
            "in must be 4-dimensional",
            "input image must be 4-D",
            "must have 2 spatial dimensions",
            "input must be 4 or 5-dimensional",
        ],
        "the model takes images as [batch, height, width, channels]: send four dimensions, with 1 first for a single image",
        "conv_ops_impl.h, pooling_ops_common.cc, fused_batch_norm_op.cc, crop_and_resize_op.cc, image_resizer_state.h, triton-inference-server/server#971",
    ),
    shape(
        &["input must be 5-dimensional", "tensor_in must be 5-dimensional"],
        "the model takes volumes as [batch, depth, height, width, channels]: send five dimensions, with 1 first for a single one",
        "conv_ops_3d.cc, pooling_ops_3d.cc",
    ),
    shape(
        &[
            "must have the same depth",
            "input depth must be evenly divisible by filter depth",
            "does not support grouped convolutions",
            "input must have 3 channels",
        ],
        "the image has another number of channels than the model takes (the first number was sent, the second is expected): convert grey to RGB or drop the alpha channel; or the axes are in the order NCHW",
        "conv_ops_impl.h, depthwise_conv_op.cc, colorspace_op.cc, affinelayer/pix2pix-tensorflow#18",
    ),
    shape(
        &[
            "Computed output size would be negative",
            "Input depth dimension * should be divisible by",
            "is not divisible by block_shape",
        ],
        "the image or sequence has a size that the model's layers cannot divide: send at least the size that it was trained with, often a multiple of 32",
        "kernel_shape_util.cc, depthtospace_op.cc, spacetobatch_op.cc",
    ),
    shape(
        &[
            "Incompatible shapes",
            "must be broadcastable",
            "must have the same size and shape",
            "Input shapes do not match",
            "Shapes of all inputs must match",
        ],
        "two tensors that the model combines have sizes that do not go together: inputs differ in their number of rows, or one has another inner size than the signature declares",
        "bcast.h, select.cc, aggregate_ops.h, pack_op.cc, string_join_op.cc",
    ),
    shape(
        &[
            "ConcatOp : Dimensions of inputs should match",
            "ConcatOp : Dimension * in both shapes must be equal",
        ],
        "tensors that the model joins differ in a size that must be equal: inputs differ in their number of rows, an image has a size that the model cannot divide (often a multiple of 32 is needed), or several rows went to a model of fixed batch",
        "concat_op.cc (the second text from TF 2.6), mkl_concat_op.cc, tensorflow/serving#1305",
    ),
    shape(
        &[
            "ConcatOp : Ranks of all input tensors should match",
            "ConcatOp : Expected concatenating dimensions",
            "ConcatOp : Can't concatenate scalars",
        ],
        "the model joins its inputs and one has another rank than the rest: usually a dimension of 1 is missing or too many, such as [n] where [n,1] is needed",
        "concat_op.cc, mkl_concat_op.cc",
    ),
    shape(
        &["Dimensions of inputs should match", "Ranks of all input tensors should match"],
        "requests of different shapes came into one batch inside the model, and all of them failed, maybe without fault of this one: send one shape, for example by padding",
        "batch_resource_base.cc",
    ),
    shape(
        &["Expecting tensor size:*but got"],
        "rows of different lengths were joined: pad them to one length, with the value that the model was trained with",
        "tensorflow/serving#1292, #1538",
    ),
    shape(
        &["`contents` must be*scalar", "contents must be scalar"],
        "the model decodes one encoded string (an image, audio) and was sent a list of them: send a scalar, shape [], one request for each; or export the decoding inside tf.map_fn to take a batch",
        "decode_image_op.cc, decode_jpeg_op.cc (three spellings from TF 2.12 to 2.21)",
    ),
    shape(
        &["Expected serialized to be a scalar or vector", "Input serialized must be a scalar"],
        "the model parses serialized tf.Example protos in another shape: send shape [n] for n examples, or [] where the model parses a single one",
        "example_parsing_ops.cc, tf.io.parse_single_example",
    ),
    shape(
        &["Can not squeeze dim", "Tried to squeeze dim index", "Tried to explicitly squeeze dimension"],
        "the model drops a dimension of size 1 and the tensor has another size or no such dimension: send 1 there, as the signature declares; often several rows went to a model that was exported for one",
        "squeeze_op.cc, shape_ops.h",
    ),
    shape(
        &[
            "Invalid reduction dimension",
            "Tried to expand dim index",
            "Expected dimension in the range",
            "Shape must be at least rank",
            "Index out of range using input dim",
            "Expected begin and size arguments to be",
            "Expected multiples argument to be",
            "The first dimension of paddings must be the rank of inputs",
            "Expected axis to be -1 or between",
            "logits must have >= 1 dimension",
            "Input dims must be <= 5 and >=1",
            "input must be >= 1-D",
            "to have rank*but got",
            "must have rank of at least",
            "x must be 3D",
        ],
        "the model uses an axis that the tensor does not have: an input has another rank than the model takes, usually because the batch dimension is missing",
        "reduction_ops_common.cc, argmax_op.cc, gather_op.cc, strided_slice_op.cc, slice_op.cc, tile_ops.cc, pad_op.cc, one_hot_op.cc, softmax_op.cc, mkl_softmax_op.cc, topk_op.cc, einsum_op_impl.h, fft_ops.cc, lstm_ops.cc",
    ),
    shape(
        &[
            "Expected dimension * at axis * of the input shaped",
            "slice index * of dimension * out of bounds",
            "Expected size[",
            "Expected begin[",
            "Number of ways to split should evenly divide",
            "Determined shape must either match input shape",
            "Input shape axis * must equal",
            "input must have at least k columns",
            "boxes must have 4 columns",
        ],
        "the model cuts a tensor into parts of fixed size and a dimension is too short or has another size: an input has another inner size than the signature declares, or too few rows",
        "einsum_op_impl.h, strided_slice_op.cc, slice_op.cc, split_op.cc, split_v_op.cc, unpack_op.cc, topk_op.cc, non_max_suppression_op.cc",
    ),
    shape(
        &[
            "segment_ids should be the same size as dimension 0",
            "does not start with segment_ids.shape",
            "Length of seq_lengths != input.dims",
            "sparse_values has incorrect shape",
            "must match dimensions * of updates",
            "assertion failed: [Arguments to _from_row_partition",
        ],
        "inputs that belong together (values and their lengths, splits, indices or segment ids) have sizes that do not agree",
        "segment_reduction_ops_impl.h, reverse_sequence_op.cc, sparse_to_dense_op.cc, scatter_nd_op.cc, tf.RaggedTensor",
    ),
    shape(
        &["is not compatible with expected shape", "with incompatible shape", "has incompatible shape"],
        "a tensor has another shape than the model requires at this point: compare the sent shapes with the signature",
        "ensure_shape (shape_ops.cc), list_kernels.cc",
    ),
    shape(
        &["output_shape has incorrect number of elements"],
        "an input has another rank than the model expects: for one value a row send [n,1], not [n]",
        "sparse_to_dense_op.cc, tensorflow/serving#1703",
    ),
    shape(
        &["input must be a vector, got shape", "must be a scalar"],
        "an input has another rank than the model takes: a scalar is [] and a list of n is [n]",
        "string_split_op.cc, sequence_ops.cc, tensorflow/java#85, tensorflow/serving#1199",
    ),
    row(
        Exporter,
        &["only supports NHWC", "currently only supports the NHWC", "supports NHWC on device type CPU"],
        "the model was exported for images as [batch, channels, height, width], which TensorFlow runs on GPUs only: export it with channels last, or serve it on a GPU",
        "conv_ops_impl.h, pooling_ops_common.h",
    ),
];
