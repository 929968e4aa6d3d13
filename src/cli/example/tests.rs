//! Tests of the example call, by the kind of model.
use super::*;
use crate::config::load::{File, Settings, load};
use crate::repair::notation;

/// The example for a signature in which every tensor has a name, with `text` as the configuration.
fn example_of(signature: &str, text: &str) -> String {
    let config = load(&Settings::default(), Some(File { name: "c.yaml", text })).unwrap();
    let named = signature.split(' ').map(|word| match word.split_once(':') {
        Some((alias, typed)) if !alias.contains('=') => format!("{alias}=t_{alias}:0:{typed}"),
        _ => word.to_owned(),
    });
    let signatures = notation::signature(&named.collect::<Vec<_>>().join(" ")).unwrap();
    example(&config, "m", signatures.iter().next().unwrap())
}

#[test]
fn the_example_is_a_call_of_the_sidecar_with_one_row() {
    insta::assert_snapshot!(example_of("x:float[-1,128] k:int32[] b:bool[-1]", ""), @r#"
    grpcurl -plaintext -d @ 127.0.0.1:8600 tensorflow.serving.PredictionService/Predict <<'JSON'
    {"model_spec": {"name": "m", "signature_name": "serving_default"}, "inputs": {"b": {"dtype": "DT_BOOL", "tensor_shape": {"dim": [{"size": 1}]}, "bool_val": [false]}, "k": {"dtype": "DT_INT32", "tensor_shape": {"dim": []}, "int_val": [0]}, "x": {"dtype": "DT_FLOAT", "tensor_shape": {"dim": [{"size": 1}, {"size": 128}]}, "float_val": [0]}}}
    JSON
    "#);
}

#[test]
fn the_example_aims_at_the_listener_of_the_configuration() {
    let command = |text: &str| {
        let text = example_of("x:float[-1,2]", text);
        text.lines().take_while(|line| !line.starts_with('{')).collect::<Vec<_>>().join("\n")
    };
    insta::assert_snapshot!(command("listen: '[::]:8600'"), @r"
    grpcurl -plaintext -d @ [::1]:8600 tensorflow.serving.PredictionService/Predict <<'JSON'
    ");
    insta::assert_snapshot!(command("listen: unix:///run/a b.sock"), @r"
    grpcurl -plaintext -unix -d @ '/run/a b.sock' tensorflow.serving.PredictionService/Predict <<'JSON'
    ");
    insta::assert_snapshot!(command("listen: 10.0.0.1:0"), @r"
    # the sidecar picks a free port: fill in the one that it logs at start (`listening`)
    grpcurl -plaintext -d @ 10.0.0.1:0 tensorflow.serving.PredictionService/Predict <<'JSON'
    ");
    #[cfg(feature = "tls")]
    insta::assert_snapshot!(command("listen_tls: {cert: /c.pem, key: /k.pem, client_ca: /ca.pem}"), @r"
    # the certificate must be valid for the address; otherwise add -authority NAME
    # the sidecar requires a client certificate: fill in the files of -cert and -key
    grpcurl -cacert /c.pem -cert client.pem -key client.key -d @ 127.0.0.1:8600 tensorflow.serving.PredictionService/Predict <<'JSON'
    ");
}

#[test]
fn parts_of_a_ragged_tensor_agree() {
    insta::assert_snapshot!(example_of("x:float[-1,11] x_1:int64[-1] x_2:int64[-1] y:float[-1]", ""), @r#"
    # The signature does not say everything. Replace what does not fit:
    #   x: read as the values of a ragged tensor, whose row splits are the inputs of this name with a number
    #   x_1: read as the row splits of a ragged tensor: the last one is the number of values, or of the next level's rows
    #   x_2: read as the row splits of a ragged tensor: the last one is the number of values, or of the next level's rows
    grpcurl -plaintext -d @ 127.0.0.1:8600 tensorflow.serving.PredictionService/Predict <<'JSON'
    {"model_spec": {"name": "m", "signature_name": "serving_default"}, "inputs": {"x": {"dtype": "DT_FLOAT", "tensor_shape": {"dim": [{"size": 2}, {"size": 11}]}, "float_val": [0]}, "x_1": {"dtype": "DT_INT64", "tensor_shape": {"dim": [{"size": 2}]}, "int64_val": [0, 1]}, "x_2": {"dtype": "DT_INT64", "tensor_shape": {"dim": [{"size": 2}]}, "int64_val": [0, 2]}, "y": {"dtype": "DT_FLOAT", "tensor_shape": {"dim": [{"size": 1}]}, "float_val": [0]}}}
    JSON
    "#);
}

#[test]
fn parts_of_a_sparse_tensor_agree() {
    insta::assert_snapshot!(example_of("x:int64[-1,2] x_1:float[-1] x_2:int64[2]", ""), @r#"
    # The signature does not say everything. Replace what does not fit:
    #   x: read as the indices of a sparse tensor
    #   x_2: read as the dense shape of a sparse tensor: fill in the sizes that the model requires
    grpcurl -plaintext -d @ 127.0.0.1:8600 tensorflow.serving.PredictionService/Predict <<'JSON'
    {"model_spec": {"name": "m", "signature_name": "serving_default"}, "inputs": {"x": {"dtype": "DT_INT64", "tensor_shape": {"dim": [{"size": 1}, {"size": 2}]}, "int64_val": [0]}, "x_1": {"dtype": "DT_FLOAT", "tensor_shape": {"dim": [{"size": 1}]}, "float_val": [0]}, "x_2": {"dtype": "DT_INT64", "tensor_shape": {"dim": [{"size": 2}]}, "int64_val": [1, 1]}}}
    JSON
    "#);
}

#[test]
fn an_input_that_only_looks_like_a_part_of_another_is_plain() {
    let text = example_of("input_1:float[-1,2] input_1_1:float[-1,2] y_1:int64[-1]", "");
    assert!(!text.contains('#'), "{text}");
}

#[test]
fn a_name_cannot_end_its_comment() {
    let info = |alias: &str| TensorInfo {
        alias: alias.to_owned(),
        tensor_name: "t:0".to_owned(),
        dtype: crate::tensor::DataType::STRING,
        shape: crate::tensor::PartialShape::UnknownRank,
        has_default: false,
    };
    let (name, method_name) = ("s".to_owned(), String::new());
    let signature = Signature { name, inputs: vec![info("a\nb")], outputs: Vec::new(), method_name };
    let text = example(&Config::default(), "m", &signature);
    assert!(
        text.lines().all(|line| ['#', 'g', '{', 'J'].iter().any(|start| line.starts_with(*start))),
        "{text}"
    );
}

#[test]
fn bytes_are_what_the_name_of_the_input_suggests() {
    let signature = "image_bytes:string[-1] image_url:string[-1] serialized:string[-1] words:string[-1]";
    insta::assert_snapshot!(example_of(signature, ""), @r#"
    # The signature does not say everything. Replace what does not fit:
    #   image_bytes: a black PNG file of 32x32 pixels is sent: fill in the base64 of an image
    #   image_url: the text `example` is sent (bytes are base64 in JSON): fill in a value that the model can parse
    #   serialized: an empty tf.Example is sent, as the signature does not show the features: fill in the base64 of example.SerializeToString()
    #   words: the text `example` is sent (bytes are base64 in JSON): fill in a value that the model can parse
    grpcurl -plaintext -d @ 127.0.0.1:8600 tensorflow.serving.PredictionService/Predict <<'JSON'
    {"model_spec": {"name": "m", "signature_name": "serving_default"}, "inputs": {"image_bytes": {"dtype": "DT_STRING", "tensor_shape": {"dim": [{"size": 1}]}, "string_val": ["iVBORw0KGgoAAAANSUhEUgAAACAAAAAgCAIAAAD8GO2jAAAAGUlEQVR42u3BMQEAAADCoPVP7WENoAAAAG4MIAABITLN7AAAAABJRU5ErkJggg=="]}, "image_url": {"dtype": "DT_STRING", "tensor_shape": {"dim": [{"size": 1}]}, "string_val": ["ZXhhbXBsZQ=="]}, "serialized": {"dtype": "DT_STRING", "tensor_shape": {"dim": [{"size": 1}]}, "string_val": ["CgA="]}, "words": {"dtype": "DT_STRING", "tensor_shape": {"dim": [{"size": 1}]}, "string_val": ["ZXhhbXBsZQ=="]}}}
    JSON
    "#);
}

#[test]
fn sizes_that_are_not_declared_are_guessed_and_said() {
    insta::assert_snapshot!(example_of("image:uint8[-1,-1,-1,3] ids:int64[-1,-1] any:float none:float[-1,0]", ""), @r#"
    # The signature does not say everything. Replace what does not fit:
    #   any: a scalar is sent, as the signature does not declare the rank: fill in the dims that the model requires
    #   ids: [1,1] is sent where [-1,-1] is declared
    #   image: [1,224,224,3] is sent where [-1,-1,-1,3] is declared
    grpcurl -plaintext -d @ 127.0.0.1:8600 tensorflow.serving.PredictionService/Predict <<'JSON'
    {"model_spec": {"name": "m", "signature_name": "serving_default"}, "inputs": {"any": {"dtype": "DT_FLOAT", "tensor_shape": {"dim": []}, "float_val": [0]}, "ids": {"dtype": "DT_INT64", "tensor_shape": {"dim": [{"size": 1}, {"size": 1}]}, "int64_val": [0]}, "image": {"dtype": "DT_UINT8", "tensor_shape": {"dim": [{"size": 1}, {"size": 224}, {"size": 224}, {"size": 3}]}, "int_val": [0]}, "none": {"dtype": "DT_FLOAT", "tensor_shape": {"dim": [{"size": 1}, {"size": 0}]}, "float_val": []}}}
    JSON
    "#);
}

#[test]
fn the_configuration_says_what_the_signature_does_not() {
    let inputs =
        "keep_prob: {scalar: true, default: 1.0}, name: {default: a}, n: {default: 7}, on: {default: true}";
    let text = format!("models: {{m: {{signatures: {{serving_default: {{inputs: {{{inputs}}}}}}}}}}}");
    insta::assert_snapshot!(example_of("keep_prob:float name:string[-1] n:int32[-1] on:bool[]", &text), @r#"
    grpcurl -plaintext -d @ 127.0.0.1:8600 tensorflow.serving.PredictionService/Predict <<'JSON'
    {"model_spec": {"name": "m", "signature_name": "serving_default"}, "inputs": {"keep_prob": {"dtype": "DT_FLOAT", "tensor_shape": {"dim": []}, "float_val": [1]}, "n": {"dtype": "DT_INT32", "tensor_shape": {"dim": [{"size": 1}]}, "int_val": [7]}, "name": {"dtype": "DT_STRING", "tensor_shape": {"dim": [{"size": 1}]}, "string_val": ["YQ=="]}, "on": {"dtype": "DT_BOOL", "tensor_shape": {"dim": []}, "bool_val": [true]}}}
    JSON
    "#);
}

#[test]
fn outputs_that_cannot_be_returned_are_left_out() {
    let fed = "ids=i:0:int64[-1] -> ids=i:0:int64[-1] logits=l:0:float[-1,2]";
    insta::assert_snapshot!(example_of(fed, ""), @r#"
    # output_filter leaves out ids: Predict cannot return an output that is also an input, nor a sparse one
    grpcurl -plaintext -d @ 127.0.0.1:8600 tensorflow.serving.PredictionService/Predict <<'JSON'
    {"model_spec": {"name": "m", "signature_name": "serving_default"}, "inputs": {"ids": {"dtype": "DT_INT64", "tensor_shape": {"dim": [{"size": 1}]}, "int64_val": [0]}}, "output_filter": ["logits"]}
    JSON
    "#);
    insta::assert_snapshot!(example_of("ids=i:0:int64[-1] -> ids=i:0:int64[-1]", ""), @r"
    # Predict cannot call signature 'serving_default':
    #   every output is also an input or sparse, and Predict cannot return those; export them with tf.identity or as their components
    ");
}

#[test]
fn inputs_that_cannot_be_sent_are_said() {
    insta::assert_snapshot!(example_of("x=:float[-1,2] table:resource[] y:float[-1]", ""), @r"
    # Predict cannot call signature 'serving_default':
    #   input table: values of dtype resource cannot be sent
    #   input x: a sparse or composite tensor, which Predict cannot send; export the model with the tensor's components as inputs
    ");
}

/// The same as a curl command.
fn curl_of(signature: &str, text: &str) -> String {
    let config = load(&Settings::default(), Some(File { name: "c.yaml", text })).unwrap();
    let named = signature.split(' ').map(|word| match word.split_once(':') {
        Some((alias, typed)) if !alias.contains('=') => format!("{alias}=t_{alias}:0:{typed}"),
        _ => word.to_owned(),
    });
    let signatures = notation::signature(&named.collect::<Vec<_>>().join(" ")).unwrap();
    rest(&config, "a b", signatures.iter().next().unwrap())
}

#[test]
fn the_curl_example_has_nested_lists_of_the_declared_shape() {
    insta::assert_snapshot!(
        curl_of("x:float[-1,2] k:int32[] s:string[-1] c:complex64[-1]", "rest_listen: '0.0.0.0:8601'"),
        @r#"
    # The signature does not say everything. Replace what does not fit:
    #   s: the text `example` is sent (bytes are base64 in JSON): fill in a value that the model can parse
    curl -d @- http://127.0.0.1:8601/v1/models/a%20b:predict <<'JSON'
    {"inputs": {"c": [[0,0]], "k": 0, "s": [{"b64":"ZXhhbXBsZQ=="}], "x": [[0,0]]}}
    JSON
    "#
    );
}

#[test]
fn the_curl_example_says_what_the_sidecar_needs() {
    insta::assert_snapshot!(curl_of("x:float[-1]", ""), @r#"
    # the sidecar must run with --rest-listen 0.0.0.0:8601
    curl -d @- http://127.0.0.1:8601/v1/models/a%20b:predict <<'JSON'
    {"inputs": {"x": [0]}}
    JSON
    "#);
    insta::assert_snapshot!(curl_of("x:float[-1,4000000]", ""), @r"
    # the REST API cannot call signature 'serving_default':
    #   input x: 4000000 values are too many for an example
    ");
}
