//! Graphs that the server cannot run: other versions, missing operations, broken exports, missing
//! files. Many of these errors show only when a request reaches the fault, not on load.
use super::Actor::{Client, Exporter, Platform};
use super::detail::Detail;
use super::{Row, row};

pub(super) const ROWS: &[Row] = &[
    row(
        Exporter,
        &[
            "Op type not registered 'PyFunc'",
            "Op type not registered 'EagerPyFunc'",
            "No OpKernel was registered to support Op 'PyFunc'",
            "No OpKernel was registered to support Op 'EagerPyFunc'",
        ],
        "the model calls back into Python (tf.py_function, tf.numpy_function), which exists only in the process that built it: write that part in TensorFlow operations and export again",
        "tensorflow/serving#992, #1167",
    ),
    row(
        Platform,
        &["Op type not registered"],
        "the server does not have this operation: it is custom, from tf.contrib, or newer than the server; run a TensorFlow Serving at least as new as the TensorFlow that exported the model, or one built with the operation",
        "op.cc, tensorflow/serving#411, kubeflow/pipelines#1102",
    ),
    row(
        Platform,
        &["No OpKernel was registered", "No registered '*' OpKernel"],
        "the server has this operation, but not for its devices or not for this dtype (the text lists what is registered): serve the model on a GPU if it was exported for one (CudnnRNN, NCHW), or export it without the operation",
        "op_kernel.cc",
    ),
    row(
        Client,
        &["is both fed and fetched"],
        "TensorFlow does not return an output that is also an input: list the other outputs in output_filter; the exporter can wrap the output in tf.identity",
        "subgraph.cc, direct_session.cc",
    )
    .detail(Detail::FedOutputs),
    row(
        Platform,
        &["NodeDef mentions attr"],
        "the model was exported by a newer TensorFlow than the server's, which does not know this attribute: upgrade TensorFlow Serving, or export with the server's version",
        "node_def_util.cc, tensorflow/serving#831, #1432",
    ),
    row(
        Exporter,
        &["No attr named*in NodeDef"],
        "a node of the graph lacks an attribute that its operation needs: the export is damaged or was edited; export the model again",
        "node_def_util.cc",
    ),
    row(
        Exporter,
        &["You must feed a value for placeholder tensor"],
        "the graph needs a placeholder that is not an input of the signature (often keep_prob, is_training, or an input behind tf.identity): export it as an input, or replace it by a default or a constant",
        "tensorflow/serving#703, #9, #1404",
    ),
    row(
        Exporter,
        &["Tensor :0, specified in either feed_devices or fetch_devices"],
        "an input or output of the signature has no tensor name (None or something that is not a tensor was exported): export the signature again with tensors",
        "tensorflow/serving#1096",
    ),
    row(
        Exporter,
        &[
            "specified in either feed_devices or fetch_devices was not found in the Graph",
            "FeedInputs: unable to find feed output",
            "FetchOutputs node*not found",
        ],
        "the signature names a tensor that the graph does not have: export signature and graph together again",
        "direct_session.cc, tensorflow/serving#295",
    ),
    row(
        Platform,
        &["Could not find variable", "Error while reading resource variable"],
        "the model's weights are missing: TensorFlow Serving loads a version even without its variables/ folder; check that the folder was copied completely, then reload the version; otherwise export again",
        "resource_variable_ops.cc",
    ),
    row(
        Exporter,
        &["Attempting to use uninitialized value", "Table not initialized"],
        "the graph uses a variable or lookup table that is not initialized on load: export again with its initializer (main_op, such as tf.compat.v1.tables_initializer())",
        "lookup_table_op.cc",
    ),
    row(
        Platform,
        &["GraphDef min consumer version", "GraphDef disallows consumer version"],
        "the model needs a newer TensorFlow than the server's: upgrade TensorFlow Serving",
        "versions.cc",
    ),
    row(
        Exporter,
        &["GraphDef producer version"],
        "the model was exported by a TensorFlow that is too old for this server: export it again with a newer one",
        "versions.cc",
    ),
    row(
        Exporter,
        &["was passed*incompatible with expected", "Unknown input node", "in function library"],
        "the graph contradicts itself: a node or function is missing or has another dtype than the node that uses it expects; the export is damaged or was edited, so export it again",
        "graph_constructor.cc",
    ),
    row(
        Exporter,
        &["Could not find meta graph def matching supplied tags"],
        "the SavedModel does not have the tag that the server loads (exactly serve, unless --saved_model_tags is set), or its saved_model.pb is empty: export it with that tag",
        "saved_model/reader.cc",
    ),
    row(
        Platform,
        &["SavedModel bundle", "Could not find SavedModel", "as binary proto"],
        "the version's folder has no readable saved_model.pb: check the copy, and that the base path holds numbered version folders",
        "saved_model/reader.cc",
    ),
    row(
        Platform,
        &["Read less bytes than requested", "Checksum does not match"],
        "the model's files are truncated or damaged: copy the version again under a new number, and rename the folder to its number only when variables/ is complete",
        "tensor_bundle.cc",
    ),
    row(
        Platform,
        &["expected type * != "],
        "an operation of the graph takes this dtype only in another TensorFlow release: run a TensorFlow Serving of the exporting version or newer",
        "triton-inference-server/server#2970",
    ),
];
