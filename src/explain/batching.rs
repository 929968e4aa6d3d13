//! The server's queues: batching of several requests, threads, deadlines, sizes.
use super::Actor::{Client, Exporter, Platform};
use super::detail::Detail::{Rows, Shapes};
use super::{Row, overload, row};

pub(super) const ROWS: &[Row] = &[
    row(
        Platform,
        &["Batching*Run() must have at least one input tensor"],
        "the server batches and this signature has no inputs: run the model without --enable_batching",
        "batching_session.cc",
    ),
    row(
        Platform,
        &["Batching*Run() input tensors must have at least one dimension"],
        "the server batches and an input is a scalar: if the signature declares a shape, send it; a signature with scalar inputs cannot be batched, so run it without --enable_batching",
        "batching_session.cc, tensorflow/serving#494, #695",
    )
    .detail(Shapes),
    row(
        Client,
        &["must have equal 0th-dimension size"],
        "requests are batched and the inputs of this one differ in their first dimension: send the same number of rows in all of them; if they are not meant to agree, run the model without batching",
        "batching_session.cc, batch_kernels.cc, tensorflow/serving#1682",
    )
    .detail(Rows),
    row(
        Client,
        &["Batching input tensors must have at least one dimension"],
        "the model batches inside its graph and was sent a scalar: send a first dimension, 1 for a single row",
        "batch_kernels.cc",
    )
    .detail(Shapes),
    row(
        Client,
        &["is larger than maximum input batch size"],
        "the request has more rows than the server accepts at once: send fewer, or ask the operator to raise max_batch_size or set enable_large_batch_splitting in the batching parameters",
        "batching_session.cc, batch_resource_base.cc",
    )
    .detail(Rows),
    row(
        Platform,
        &[overload::BATCH_QUEUE_FULL],
        "the server is overloaded and did not run the request: retry after a pause; if it persists, add replicas or threads, or raise max_enqueued_batches",
        "shared_batch_scheduler.h",
    ),
    row(
        Platform,
        &["Tensors with name*from different tasks have different shapes and padding is turned off"],
        "the server put this request into one batch with requests of another shape, and each may be right by itself: send one shape, set pad_variable_length_inputs if the model accepts padding, or run without batching",
        "batching_session.cc, tensorflow/serving#1934",
    )
    .detail(Shapes),
    row(
        Client,
        &["Tensor concat operation failed"],
        "a request in the same batch, maybe not this one, has a wrong dtype or shape, and the whole batch failed: have every client send what the signature declares, for example through this sidecar in mode repair",
        "batching_session.cc",
    )
    .detail(Shapes),
    row(
        Client,
        &[
            "ConcatOp : Ranks of all input tensors should match",
            "ConcatOp : Dimensions of inputs should match",
            "ConcatOp : Dimension * in both shapes must be equal",
        ],
        "the model joins tensors whose shapes differ, and requests are batched: an input of this request has a wrong shape, or requests of different shapes came into one batch; send one shape, for example by padding",
        "concat_op.cc",
    )
    .detail(Shapes)
    .only_batching(),
    row(
        Exporter,
        &["Batched output tensor"],
        "an output of the model does not have one row for each row of input, so a batch cannot be split: export outputs with one row per input row and dimension 0 unknown, or run the model without batching",
        "batching_session.cc, tensorflow/serving#276",
    ),
    row(
        Client,
        &["Got empty tensor in batch of non-empty tensors"],
        "a request without values was batched with others: do not send empty tensors to a server that batches",
        "batching_util.cc",
    )
    .detail(Shapes),
    row(
        Platform,
        &["Only tensors with rank from 1 to 6 can be padded"],
        "pad_variable_length_inputs is set and an input has a rank that cannot be padded: run this model without padding",
        "batching_util.cc",
    )
    .detail(Shapes),
    row(
        Platform,
        &["Run() timeout exceeded while waiting in batching queue"],
        "the deadline passed while the request waited for its batch: the server is overloaded, or batch_timeout_micros is longer than clients wait",
        "batching_session.cc",
    ),
    row(
        Platform,
        &["Last entry in allowed_batch_sizes must match max_batch_size"],
        "the batching parameters contradict each other: make max_batch_size the last of allowed_batch_sizes",
        "batching_session.cc",
    ),
    row(
        Client,
        &["Timed out waiting for notification"],
        "the deadline passed while the model was running: allow more time or send fewer rows; the first request after a load is slow if the model has no warm-up data",
        "direct_session.cc",
    ),
    row(
        Platform,
        &[overload::NO_THREAD],
        "all threads of the server are busy: retry after a pause; raise --grpc_max_threads or add replicas; with --enable_batching every waiting request holds a thread",
        "grpc: sync server thread manager",
    ),
    row(
        Platform,
        &["message larger than max"],
        "a gRPC endpoint between client and model limits messages (to 4 MiB by default) where TensorFlow Serving allows 2 GiB: raise max_receive_message_length in the program that reports this",
        "grpc: message size filter, tensorflow/serving#1382",
    ),
    row(
        Client,
        &["metadata size exceeds"],
        "the request's metadata (headers such as tokens, cookies and tracing) is too large for a gRPC server: by default 8 KiB are safe and over 16 KiB are always refused; send less, or raise the server's grpc.max_metadata_size",
        "grpc: chttp2 hpack parser",
    ),
    row(
        Platform,
        &["OOM when allocating tensor"],
        "the server's device has not enough memory for this request: send fewer rows at once, lower max_batch_size, or give the server more memory",
        "op_kernel.cc, bfc_allocator.cc",
    )
    .detail(Shapes),
];
