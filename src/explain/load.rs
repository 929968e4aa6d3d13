//! Graphs that the server cannot run: other versions, missing operations, broken exports, missing
//! files. Much of it shows only when a request reaches it, not when the model is loaded.
use super::Actor::{Exporter, Platform};
use super::{Explanation, row};

pub(super) const ROWS: &[Explanation] = &[
    row(
        Exporter,
        &["Op type not registered 'PyFunc'", "Op type not registered 'EagerPyFunc'"],
        "the model calls back into Python (tf.py_function, tf.numpy_function), which exists only in the process that built it: express that part in TensorFlow operations and export again",
        "tensorflow/serving#992, #1167",
    ),
    row(
        Platform,
        &["Op type not registered"],
        "the server has no such operation: it is custom, from tf.contrib, or newer than this server; run a TensorFlow Serving at least as new as the exporting TensorFlow, or one built with that operation",
        "op.cc, tensorflow/serving#411, kubeflow/pipelines#1102",
    ),
    row(
        Platform,
        &["NodeDef mentions attr"],
        "the model was exported by a newer TensorFlow than this server has, which does not know the attribute: upgrade TensorFlow Serving, or export with its version",
        "node_def_util.cc, tensorflow/serving#831, #1432",
    ),
    row(
        Exporter,
        &["No attr named*in NodeDef"],
        "a node of the graph lacks an attribute that its operation needs: the export is damaged or was edited; export it again",
        "node_def_util.cc",
    ),
    row(
        Exporter,
        &["You must feed a value for placeholder tensor"],
        "the graph waits for a placeholder that the signature does not offer or does not lead to (often keep_prob, is_training, an input behind tf.identity): export it as an input, or with a default or constant in its place",
        "tensorflow/serving#703, #9, #1404",
    ),
    row(
        Exporter,
        &["Tensor :0, specified in either feed_devices or fetch_devices"],
        "an input or output of the signature has no tensor name (a None or a non-tensor was exported): export the signature again with real tensors",
        "tensorflow/serving#1096",
    ),
    row(
        Exporter,
        &[
            "specified in either feed_devices or fetch_devices was not found in the Graph",
            "FeedInputs: unable to find feed output",
            "FetchOutputs node*not found",
        ],
        "the signature names a tensor that the graph does not have: export the signature again from the graph that is saved",
        "direct_session.cc, tensorflow/serving#295",
    ),
    row(
        Platform,
        &["Could not find variable", "Error while reading resource variable"],
        "the model's weights are not there: TensorFlow Serving loads a version without its variables/ folder; check that the folder was copied whole, then load the version anew; else export again",
        "resource_variable_ops.cc",
    ),
    row(
        Exporter,
        &["Attempting to use uninitialized value", "Table not initialized"],
        "the graph uses a variable or lookup table that nothing initializes on load: export again with its initializer (main_op) included",
        "lookup_table_op.cc",
    ),
    row(
        Platform,
        &["GraphDef min consumer version", "GraphDef disallows consumer version"],
        "the model asks for a newer TensorFlow than this server has: upgrade TensorFlow Serving",
        "versions.cc",
    ),
    row(
        Exporter,
        &["GraphDef producer version"],
        "the model was exported by a TensorFlow too old for this server: export it again with a newer one",
        "versions.cc",
    ),
    row(
        Exporter,
        &["was passed*incompatible with expected", "Unknown input node", "in function library"],
        "the graph contradicts itself: a node or function is missing or has another dtype than its user expects; the export is damaged or was edited, export it again",
        "graph_constructor.cc",
    ),
    row(
        Exporter,
        &["Could not find meta graph def matching supplied tags"],
        "the SavedModel is not tagged as the server asks (serve, and nothing else, unless --saved_model_tags says so) or its saved_model.pb is empty: export it with that tag",
        "saved_model/reader.cc",
    ),
    row(
        Platform,
        &["SavedModel bundle", "Could not find SavedModel", "as binary proto"],
        "the version's folder has no readable saved_model.pb: check the copy and the base path, which must hold numbered version folders",
        "saved_model/reader.cc",
    ),
    row(
        Platform,
        &["Read less bytes than requested", "Checksum does not match"],
        "the model's files are cut short or damaged: copy the version again under a new number, with variables/ complete before the folder gets its name",
        "tensor_bundle.cc",
    ),
    row(
        Platform,
        &["expected type * != "],
        "two parts of the graph disagree on a dtype that another TensorFlow release takes: run a TensorFlow Serving of the exporting version or newer",
        "triton-inference-server/server#2970",
    ),
];
