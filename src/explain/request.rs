//! Checks that TensorFlow Serving makes before it runs a model: names, signatures, dtypes,
//! examples.
use super::Actor::{Client, Exporter};
use super::detail::Detail::{Example, Names, Position, Shapes};
use super::{Row, row};

pub(super) const ROWS: &[Row] = &[
    // First, because the text quotes the value that did not parse, which could contain any other
    // text.
    row(
        Client,
        &["Could not parse example input"],
        "the signature parses serialized tf.Example protos and was sent something else: build a tf.train.Example (for ranking models an ExampleListWithContext) and send SerializeToString(), not text, JSON or CSV",
        "tensorflow/serving#1890, google-research/bert#146",
    )
    .detail(Example),
    row(Client, &["Missing ModelSpec"], "the request names no model: set model_spec.name", "server_core.cc"),
    row(
        Client,
        &["ModelSpec has no name specified", "Found ModelSpec with an empty model name"],
        "model_spec.name is empty: set it to the model's name in TensorFlow Serving; a MultiInference needs a task with it",
        "server_core.cc, multi_inference.cc",
    ),
    row(
        Client,
        &["Unrecognized servable version label"],
        "no version of this model has that label: send a version number, or assign the label in the server's model configuration",
        "server_core.cc",
    ),
    row(
        Client,
        &["Servable not found for request"],
        "TensorFlow Serving has not loaded that model or version: compare model_spec with the server's model configuration; GetModelStatus shows a model's versions",
        "server_core.cc, tensorflow/serving#750",
    ),
    row(
        Exporter,
        &["Default serving signature key not found"],
        "the model was exported without a default signature, in the format before SavedModel: export it again with a serving_default signature",
        "tensorflow/serving#307",
    ),
    row(
        Client,
        &[
            "Serving signature*not found",
            "No signature was found with the name",
            "Requested signature not found in model graph",
            "Function \"*\" not found",
        ],
        "the model has no signature of that name: set model_spec.signature_name to one that GetModelMetadata lists; an empty name means serving_default",
        "predict_util.cc, classifier.cc",
    ),
    row(
        Exporter,
        &[
            "Expected prediction signature method_name",
            "Expected classification signature method_name",
            "Expected regression signature method_name",
        ],
        "the server checks method names and the signature has another one: export it with the method_name of the call, or run the server without --enable_signature_method_name_check",
        "predict_util.cc, util.cc",
    ),
    row(
        Client,
        &["input size does not match signature", "Request inputs do not match required inputs for model"],
        "the request has too many or too few inputs: send exactly those of the signature",
        "predict_util.cc, tensorflow/serving#719",
    )
    .detail(Names),
    row(
        Client,
        &["Signature input alias:*not found in request"],
        "the input named first is required and was not sent; the set called 'expected to be in the request' is what was sent",
        "predict_util.cc",
    )
    .detail(Names),
    row(
        Client,
        &["input tensor alias not found in signature", "Inputs contains invalid name"],
        "the signature has no input of that name: use the keys of the signature's inputs in GetModelMetadata, which an export can change",
        "predict_util.cc (the first text up to TF Serving 2.13), tensorflow/serving#435",
    )
    .detail(Names),
    row(
        Client,
        &["tensor parsing error"],
        "the TensorProto of that input cannot be decoded: dtype, shape and the number of values or bytes must agree, and values must be in the field of the dtype",
        "predict_util.cc, tensorflow/serving#510",
    )
    .detail(Shapes),
    row(
        Client,
        &[
            "output tensor alias not found in signature",
            "duplicate output tensor alias",
            "output_filter contains non-existed output names",
        ],
        "output_filter names an output that the signature does not have, or names one twice: use the keys of the signature's outputs, or leave it empty for all",
        "predict_util.cc",
    ),
    row(
        Client,
        &[
            "Expects arg[*to be*is provided",
            "Expected input*to be*but get",
            "expected dtype*does not equal original dtype",
        ],
        "an input has another dtype than the graph takes (the index counts the graph's tensor names, sorted): send the expected dtype; if the signature declares another one, export the model again",
        "direct_session.cc, tensorflow/serving#1495",
    )
    .detail(Position),
    row(
        Client,
        &["Invalid resource type hash code"],
        "a tensor of dtype resource was sent: such handles exist only inside a graph and cannot be an input",
        "tensor.cc",
    ),
    row(
        Client,
        &["Node 'NoOp'*does not have output"],
        "this signature only initializes the model and cannot be called: choose another signature_name",
        "loader.cc",
    ),
    row(
        Client,
        &["Input is empty"],
        "the request contains no tf.Example: put at least one into input.example_list",
        "tensorflow_serving/servables/tensorflow/util.cc",
    ),
    row(
        Client,
        &[
            "Expected one input Tensor",
            "Expected one or two output Tensors",
            "Expected one output Tensor.",
            "No classification inputs found",
            "No regression inputs found",
            "Expected classification signature outputs",
            "Expected classification function outputs",
            "No regression outputs found",
        ],
        "this signature does not support Classify or Regress, which need one input named inputs and the outputs classes/scores or outputs: call Predict, or export such a signature",
        "classifier.cc, regressor.cc, tensorflow/serving#1512",
    ),
    row(
        Exporter,
        &[
            "Expected Tensor shape: [batch_size num_classes]",
            "Tensors class and score should match",
            "Expected output Tensor shape to be either [batch_size]",
            "Input batch size did not match output batch size",
            "Expected*Tensor of DT_",
        ],
        "the model's outputs are not what Classify and Regress return: one row per example, scores and values float, classes string; export the signature that way, or call Predict",
        "classifier.cc, regressor.cc",
    ),
    row(
        Client,
        &[
            "All ModelSpecs in a MultiInferenceRequest",
            "Duplicate evaluation of signature",
            "Unsupported signature method_name",
        ],
        "the tasks of a MultiInference must name the same model and each signature once, with method_name tensorflow/serving/classify or tensorflow/serving/regress",
        "multi_inference.cc",
    ),
    row(
        Client,
        &["Data types don't match. Data type:*but expected type"],
        "a feature of the tf.Example is in another list than the model reads (int64_list, float_list or bytes_list): use the expected one",
        "example_proto_helper.cc",
    )
    .detail(Example),
    row(
        Client,
        &["is required but could not be found"],
        "the tf.Example lacks a feature that the model needs and that has no default: add it under the name in the text",
        "example_proto_helper.cc",
    )
    .detail(Example),
    row(
        Client,
        &["Number of*values != expected"],
        "a feature of the tf.Example has another number of values than the model reads: send as many as the export declares",
        "example_proto_helper.cc",
    )
    .detail(Example),
];
