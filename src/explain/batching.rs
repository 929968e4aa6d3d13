//! The server's queues: batching of several requests, threads, deadlines, sizes.
use super::Actor::{Client, Exporter, Platform};
use super::{Explanation, overload, row};

pub(super) const ROWS: &[Explanation] = &[
    row(
        Platform,
        &["Batching*Run() must have at least one input tensor"],
        "the server batches and this signature has no inputs: run the model without --enable_batching",
        "batching_session.cc",
    ),
    row(
        Platform,
        &["Batching*Run() input tensors must have at least one dimension"],
        "the server batches and an input is a scalar: if the signature declares a shape, send it; a signature with scalar inputs cannot be batched, run it without --enable_batching",
        "batching_session.cc, tensorflow/serving#494, #695",
    ),
    row(
        Client,
        &[
            "Batching*Run() input tensors must have equal 0th-dimension size",
            "must have equal 0th-dimension size",
        ],
        "the server batches and the inputs of this request differ in their first dimension: send all with the same number of rows; where that is not their meaning, the model must run without batching",
        "batching_session.cc, tensorflow/serving#1682",
    ),
    row(
        Client,
        &["Batching input tensors must have at least one dimension"],
        "the model batches inside its graph and was sent a scalar: send a first dimension, 1 for a single row",
        "batch_kernels.cc",
    ),
    row(
        Client,
        &["is larger than maximum input batch size"],
        "the request has more rows than the server takes at once: send fewer, or have max_batch_size or enable_large_batch_splitting set in the batching parameters",
        "batching_session.cc",
    ),
    row(
        Platform,
        &[overload::BATCH_QUEUE_FULL],
        "the server is overloaded: the request was not run and may be sent again after a pause; if it stays so, add replicas or threads, or raise max_enqueued_batches",
        "basic_batch_scheduler.h",
    ),
    row(
        Platform,
        &["Tensors with name*from different tasks have different shapes and padding is turned off"],
        "the server put this request into a batch with one of another shape; either alone may be right: send one shape, set pad_variable_length_inputs if the model can take padding, or run without batching",
        "batching_session.cc, tensorflow/serving#1934",
    ),
    row(
        Client,
        &["Tensor concat operation failed"],
        "a request in the same batch, perhaps another than this one, has a wrong dtype or shape, and all of the batch fail: hold every client to the signature, such as with this sidecar in mode repair",
        "batching_session.cc",
    ),
    row(
        Exporter,
        &["Batched output tensor"],
        "an output of the model does not have one row a row of input, so its batches cannot be cut apart: export row-wise outputs with dimension 0 unknown, or run the model without batching",
        "batching_session.cc, tensorflow/serving#276",
    ),
    row(
        Client,
        &["Got empty tensor in batch of non-empty tensors"],
        "a request without values came into a batch with others: do not send empty tensors to a server that batches",
        "batching_util.cc",
    ),
    row(
        Platform,
        &["Only tensors with rank from 1 to 6 can be padded"],
        "pad_variable_length_inputs is set and an input has a rank that cannot be padded: run this model without padding",
        "batching_util.cc",
    ),
    row(
        Platform,
        &["Run() timeout exceeded while waiting in batching queue"],
        "the request waited for its batch until its deadline: the server is overloaded or batch_timeout_micros is longer than clients wait",
        "batching_session.cc",
    ),
    row(
        Platform,
        &["Last entry in allowed_batch_sizes must match max_batch_size"],
        "the batching parameters contradict themselves: make max_batch_size the last of allowed_batch_sizes",
        "batching_session.cc",
    ),
    row(
        Client,
        &["Timed out waiting for notification"],
        "the model was still running when the deadline came: allow more time or send fewer rows; a first request after a load can be slow for want of warm-up",
        "direct_session.cc",
    ),
    row(
        Platform,
        &[overload::NO_THREAD],
        "all threads of the server are taken: send again after a pause; raise --grpc_max_threads or add replicas; with --enable_batching every waiting request holds a thread",
        "grpc: sync server thread manager",
    ),
    row(
        Platform,
        &["message larger than max"],
        "a gRPC endpoint on the way allows only small messages (4 MiB unless told otherwise), TensorFlow Serving takes 2 GiB: raise max_receive_message_length where the text was written",
        "grpc: message size filter, tensorflow/serving#1382",
    ),
    row(
        Platform,
        &["OOM when allocating tensor"],
        "the server's device has no memory left for this request: send fewer rows at once, lower max_batch_size, or give the server more memory",
        "bfc_allocator.cc",
    ),
];
