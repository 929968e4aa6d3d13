//! Operations that were given what they cannot take: TensorFlow Serving checks no shape, so a wrong
//! one fails here, in the model's own words, or not at all.
use super::Actor::Client;
use super::{Explanation, row};

pub(super) const ROWS: &[Explanation] = &[
    row(
        Client,
        &["Input to reshape is a tensor with"],
        "the number of values does not fit: a batch dimension is missing or doubled, an inner size is wrong, or several rows went to a model that was exported for one; compare the sent shape with the signature",
        "reshape_op.h, tensorflow/serving#1537, #882",
    ),
    row(
        Client,
        &["In[0] is not a matrix", "In[0] and In[1] has different ndims", "input must be a matrix"],
        "an input has another rank than the model multiplies: as a rule the batch dimension is missing, send [1,n] for one row of n values",
        "matmul_op_impl.h, huaweicloud/ModelArts-Lab#216",
    ),
    row(
        Client,
        &["Matrix size-incompatible"],
        "a row has another number of values than the model was built for: the last size of In[0] is what was sent, the first of In[1] what is expected; check feature count, image size and axis order",
        "matmul_op_impl.h, serizba/cppflow#223",
    ),
    row(
        Client,
        &["transpose expects a vector of size"],
        "an input has another rank than the model transposes: as a rule one batch dimension too many or too few",
        "transpose_op.cc, tensorflow/serving#1269",
    ),
    row(
        Client,
        &["input must be 4-dimensional"],
        "the model takes images as [batch, height, width, channels]: send four dimensions, 1 first for a single image",
        "conv_ops.cc, triton-inference-server/server#971",
    ),
    row(
        Client,
        &["must have the same depth", "input depth must be evenly divisible by filter depth"],
        "the image has other channels than the model takes (the first number was sent, the second is expected): convert grey to RGB or drop the alpha channel; or the axes are in the order NCHW",
        "conv_ops.cc, affinelayer/pix2pix-tensorflow#18",
    ),
    row(
        Client,
        &["Incompatible shapes"],
        "two tensors that the model combines have sizes that do not go together: inputs have different numbers of rows, or one has another inner size than the signature declares",
        "bcast.h",
    ),
    row(
        Client,
        &["ConcatOp : Dimensions of inputs should match"],
        "tensors that the model joins have different sizes: an input has a size that the model cannot divide evenly (often images must be multiples of 32), or several rows went to a model of fixed batch",
        "concat_op.cc, tensorflow/serving#1305",
    ),
    row(
        Client,
        &["Dimensions of inputs should match", "Ranks of all input tensors should match"],
        "requests of different shapes came into one batch inside the model, and all of them fail, this one perhaps without fault: send one shape, such as by padding",
        "batch_kernels.cc",
    ),
    row(
        Client,
        &["Expecting tensor size:*but got"],
        "rows of different lengths were joined: pad them to one length, with the value that the model was trained for",
        "tensorflow/serving#1292, #1538",
    ),
    row(
        Client,
        &["input must be a vector, got shape", "must be a scalar"],
        "an input has another rank than the model takes: compare the sent shape with the signature, a scalar is [] and a list of n is [n]",
        "tensorflow/java#85, tensorflow/serving#1199",
    ),
    row(
        Client,
        &["indices* = * is not in [0, "],
        "an id is outside the table that the model looks it up in: ids come from another vocabulary or are not shifted as in training",
        "gather_op.cc",
    ),
    row(
        Client,
        &["output_shape has incorrect number of elements"],
        "an input has another rank than the model expects: for one value a row send [n,1], not [n]",
        "sparse_to_dense_op.cc, tensorflow/serving#1703",
    ),
    row(
        Client,
        &[
            "Expected image (JPEG, PNG, or GIF), got",
            "Unable to decode bytes as JPEG",
            "Unknown image file format",
        ],
        "the bytes are no encoded image: send the file's own bytes over gRPC, not base64 text, not pixels, not the printed array",
        "decode_image_op.cc, tensorflow/tensorflow#29061",
    ),
    row(
        Client,
        &["ast * to string is not supported"],
        "numbers were sent where the model takes text: send dtype string with bytes in string_val",
        "cast_op.cc, tensorflow/serving#1017",
    ),
];
