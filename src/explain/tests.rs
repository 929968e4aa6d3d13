//! Every text leads to its own row, errors of real clients lead to the person who can act, and the
//! request adds what its author needs to see.
use super::*;
use crate::signature::{Signature, TensorInfo};
use crate::tensor::{DataType, PartialShape, Shape};

/// Most bytes of a meaning: the original text must remain the larger part of the message.
const MAX_MEANING: usize = 300;

#[test]
fn every_text_finds_its_own_row_and_no_row_hides_another() {
    for (_, rows) in SECTIONS {
        for row in *rows {
            for text in row.texts {
                let seen =
                    format!("2 root error(s) found.\n  (0) {}\n\t [[{{node}}]]", text.replace('*', " x "));
                let context = Context { batching: row.only_batching, sent: None };
                assert_eq!(explain(&seen, &context).map(|found| found.row), Some(row), "{text}");
            }
        }
    }
}

#[test]
fn meanings_are_short_lines_of_ascii_with_a_source() {
    for row in SECTIONS.iter().flat_map(|(_, rows)| *rows) {
        assert!(row.meaning.len() <= MAX_MEANING, "{} bytes: {}", row.meaning.len(), row.meaning);
        assert!(row.meaning.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{}", row.meaning);
        assert!(!row.meaning.ends_with('.') && !row.source.is_empty(), "{}", row.meaning);
    }
}

#[test]
fn errors_of_real_models_name_who_must_act() {
    use Actor::{Client, Exporter, Platform};
    let cases = [
        (
            "Input to reshape is a tensor with 262144 values, but the requested shape has 512",
            Client,
            "batch dimension",
        ),
        ("In[0] is not a matrix. Instead it has shape [3]", Client, "[1,n]"),
        (
            "Matrix size-incompatible: In[0]: [2,3], In[1]: [4,3]\n\t [[{{function_node __inference_dense_22}}{{node MatMul}}]]",
            Client,
            "feature count",
        ),
        ("In[0] and In[1] has different ndims: [4] vs. [4,3]", Client, "rank"),
        ("convolution input must be 4-dimensional: [8,8,3]", Client, "1 first"),
        ("input must be 4-dimensional[1,1,248,400,3]", Client, "four dimensions"),
        ("transpose expects a vector of size 6. But input(1) is a vector of size 3", Client, "too many"),
        ("input and filter must have the same depth: 1 vs 3", Client, "RGB"),
        ("input depth must be evenly divisible by filter depth: 4 vs 3", Client, "alpha"),
        ("Expects arg[0] to be float but double is provided", Client, "dtype"),
        ("Expected input x to be float but get double.", Client, "dtype"),
        (
            "You must feed a value for placeholder tensor 'dropout_prob' with dtype float",
            Exporter,
            "keep_prob",
        ),
        ("Incompatible shapes: [3,1] vs. [2,2]", Client, "rows"),
        ("tensor parsing error: images", Client, "cannot be decoded"),
        (
            "Could not parse example input, value: 'Op type not registered, you are very good'",
            Client,
            "tf.Example",
        ),
        (
            "Op type not registered 'FIFOQueueV2' in binary running on host. Make sure the Op and Kernel are registered",
            Platform,
            "tf.contrib",
        ),
        ("Op type not registered 'PyFunc' in binary running on host.", Exporter, "Python"),
        (
            "NodeDef mentions attr 'batch_dims' not in Op<name=GatherV2; signature=...>",
            Platform,
            "newer TensorFlow",
        ),
        (
            "Tensor :0, specified in either feed_devices or fetch_devices was not found in the Graph",
            Exporter,
            "no tensor name",
        ),
        (
            "Tensor nosuch:0, specified in either feed_devices or fetch_devices was not found in the Graph",
            Exporter,
            "graph does not have",
        ),
        ("Servable not found for request: Latest(inception)", Client, "model configuration"),
        ("Serving signature key \"serving_default\" not found.", Client, "signature_name"),
        ("Serving signature name: \"serving_default\" not found in signature def", Client, "signature_name"),
        ("Default serving signature key not found.", Exporter, "serving_default"),
        ("Batching session Run() input tensors must have at least one dimension", Platform, "scalar"),
        ("Batching Run() input tensors must have equal 0th-dimension size", Client, "same number of rows"),
        (
            "Batching input tensors supplied in a given op invocation must have equal 0th-dimension size",
            Client,
            "rows",
        ),
        ("Batched output tensor has 0 dimensions", Exporter, "row"),
        (
            "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension sizes of the input tensors",
            Exporter,
            "row",
        ),
        ("Task size 9 is larger than maximum input batch size 8", Client, "fewer"),
        (
            "The batch scheduling queue to which this task was submitted is full; currently 2 batches enqueued",
            Platform,
            "overloaded",
        ),
        ("Received message larger than max (32243844 vs. 4194304)", Platform, "4 MiB"),
        (
            "received metadata size exceeds soft limit (9579 vs. 8192);  :path:82B :authority:57B x-big:9037B",
            Client,
            "8 KiB",
        ),
        ("received metadata size exceeds hard limit (value length 30000 vs. 16384)", Client, "8 KiB"),
        ("received initial metadata size exceeds limit", Client, "8 KiB"),
        ("Server Threadpool Exhausted", Platform, "threads"),
        (
            "Could not find variable Variable_1. This could mean that the variable has been deleted.",
            Platform,
            "variables/",
        ),
        (
            "input size does not match signature: 1!=2 len({a}) != len({a,b}). Sent extra: {}. Missing but required: {b}.",
            Client,
            "exactly",
        ),
        ("input segment_ids[0] expected type int32 != int64, the type of x", Platform, "dtype"),
        ("indices[1] = 99 is not in [0, 10)", Client, "vocabulary"),
        (
            "ConcatOp : Dimensions of inputs should match: shape[0] = [1,20,20,256] vs. shape[1] = [1,26,26,256]",
            Client,
            "32",
        ),
        (
            "Dimensions of inputs should match: shape[0] = [1,4] vs. shape[1] = [1,3]",
            Client,
            "different shapes",
        ),
        ("No signature was found with the name: nope", Client, "GetModelMetadata"),
        (
            "Name: <unknown>, Key: x, Index: 0.  Data types don't match. Data type: int64 but expected type: float",
            Client,
            "list",
        ),
        ("Node 'NoOp' (type: 'NoOp', num of outputs: 0) does not have output 0", Client, "initializes"),
    ];
    for (text, actor, word) in cases {
        let found = explain(text, &Context::default()).unwrap_or_else(|| panic!("not explained: {text}"));
        assert_eq!(found.row.actor, actor, "{text}");
        assert!(found.row.meaning.contains(word), "{text}: {}", found.row.meaning);
    }
    for text in ["", "something else entirely", "Input", "matrix"] {
        assert_eq!(explain(text, &Context::default()), None, "{text}");
    }
}

/// A request without values, held to a signature.
struct Request {
    inputs: Vec<(String, DataType, Shape)>,
    signature: Signature,
    output_filter: Vec<String>,
}

impl Sent for Request {
    fn inputs(&self) -> Vec<Input<'_>> {
        self.inputs
            .iter()
            .map(|(alias, dtype, shape)| Input { alias, dtype: *dtype, shape, repaired_from: None })
            .collect()
    }

    fn signature(&self) -> Option<&Signature> {
        Some(&self.signature)
    }

    fn output_filter(&self) -> &[String] {
        &self.output_filter
    }

    fn strings(&self) -> Vec<bytes::Bytes> {
        Vec::new()
    }
}

/// `alias:dtype[shape]` and, in a signature, `alias=tensor:dtype[shape]`.
fn word(text: &str) -> (String, String, DataType, Shape) {
    let (name, typed) = text.rsplit_once(':').unwrap();
    let (alias, tensor) = name.split_once('=').unwrap_or((name, name));
    let (dtype, shape) = typed.split_at(typed.find('[').unwrap());
    (alias.to_owned(), tensor.to_owned(), DataType::parse(dtype).unwrap(), Shape::parse(shape).unwrap())
}

fn request(signature: &str, request: &str) -> Request {
    let (inputs, outputs) = signature.split_once("->").unwrap_or((signature, ""));
    let infos = |side: &str| {
        let info = |(alias, tensor_name, dtype, shape): (String, String, DataType, Shape)| TensorInfo {
            alias,
            tensor_name,
            dtype,
            shape: PartialShape::Known(shape),
            has_default: false,
        };
        let mut infos: Vec<TensorInfo> = side.split_whitespace().map(word).map(info).collect();
        infos.sort_by(|a, b| a.alias.cmp(&b.alias));
        infos
    };
    let sent = |text| {
        let (alias, _, dtype, shape) = word(text);
        (alias, dtype, shape)
    };
    Request {
        inputs: request.split_whitespace().map(sent).collect(),
        signature: Signature {
            name: "s".to_owned(),
            inputs: infos(inputs),
            outputs: infos(outputs),
            method_name: String::new(),
        },
        output_filter: Vec::new(),
    }
}

/// What is appended to an error of a request that was held to a signature.
fn appended(message: &str, signature: &str, sent: &str, batching: bool) -> String {
    let request = request(signature, sent);
    explain(message, &Context { batching, sent: Some(&request) }).unwrap().to_string()
}

/// The part of it that the request added.
fn added(message: &str, signature: &str, request: &str) -> String {
    let text = appended(message, signature, request, false);
    let meaning = explain(message, &Context::default()).unwrap().row.meaning;
    let rest = text.split_once(meaning).unwrap().1;
    rest[..rest.rfind(" (act: ").unwrap()].to_owned()
}

#[test]
fn the_suffix_names_the_sidecar_and_the_actor() {
    let text = explain("Missing ModelSpec", &Context::default()).unwrap().to_string();
    assert_eq!(text, " [tfs-sidecar: the request names no model: set model_spec.name (act: client)]");
}

#[test]
fn a_concat_of_unequal_ranks_is_blamed_on_batching_only_if_requests_are_batched() {
    let error = "ConcatOp : Ranks of all input tensors should match: shape[0] = [2,3] vs. shape[1] = [2]";
    let (signature, request) = ("a:float[-1,3] b:float[-1]", "a:float[2,3] b:float[2]");
    let alone = appended(error, signature, request, false);
    assert!(!alone.contains("batch") && alone.contains("sent: a float [2,3]; b float [2]"), "{alone}");
    let batched = appended(error, signature, request, true);
    assert!(batched.contains("requests are batched") && batched.contains("sent: a float [2,3]"), "{batched}");
    let value = appended("indices[1] = 99 is not in [0, 10)", "ids:int64[-1]", "ids:int64[2]", true);
    assert!(value.contains("may be another request's"), "{value}");
}

#[test]
fn inputs_with_a_shape_from_the_error_come_first() {
    let error = "Incompatible shapes: [1,4] vs. [1,7]\n\t [[{{node add}}]]";
    let signature = "a:string[-1,-1] b:string[-1,-1] c:float[-1] d:float[]";
    let found = added(error, signature, "c:float[1] a:string[1,4] d:float[] b:string[1,7]");
    assert_eq!(found, "; sent: a string [1,4]; b string [1,7]; d float []; c float [1]");
    // A number in brackets after a word is a position.
    let error = "In[0] and In[1] has different ndims: [4] vs. [4,3]";
    let found = added(error, "a:float[-1] x:float[-1]", "a:float[1] x:float[4]");
    assert_eq!(found, "; sent: x float [4]; a float [1]");
}

#[test]
fn an_input_that_does_not_conform_comes_early_with_what_is_declared() {
    let error = "input depth must be evenly divisible by filter depth: 4 vs 3";
    let found = added(error, "a:float[-1,2] x:float[-1,8,8,3]", "a:float[1,2] x:float[1,8,8,4]");
    assert_eq!(found, "; sent: x float [1,8,8,4] (signature: float [-1,8,8,3]); a float [1,2]");
}

#[test]
fn of_many_inputs_the_unusual_one_comes_first_and_the_rest_are_counted() {
    let name = |at: usize| format!("feature_number_{at:03}");
    let declared = |at: usize| format!("{}:float[-1,1]", name(at));
    let signature: Vec<String> = (0..300).map(declared).collect();
    let sent =
        |odd: usize| move |at: usize| format!("{}:float[{},1]", name(at), if at == odd { 2 } else { 1 });
    let signature = signature.join(" ");

    let request: Vec<String> = (0..300).map(sent(299)).collect();
    let error =
        "ConcatOp : Dimension 0 in both shapes must be equal: shape[0] = [1,1] vs. shape[299] = [2,1]";
    let found = added(error, &signature, &request.join(" "));
    let expected = "; sent: feature_number_299 float [2,1]; feature_number_000, feature_number_001 and 297 more float [1,1]";
    assert_eq!(found, expected);
    let error = "Batching Run() input tensors must have equal 0th-dimension size";
    let found = added(error, &signature, &request.join(" "));
    assert_eq!(found, "; rows: feature_number_299 2; feature_number_000, feature_number_001 and 297 more 1");

    // TensorFlow Serving's list was cut before the name.
    let request: Vec<String> = (0..300).filter(|at| *at != 250).map(sent(300)).collect();
    let error = "input size does not match signature: 299!=300 len({feature_number_000,...TRUNCATED";
    let found = added(error, &signature, &request.join(" "));
    assert_eq!(found, "; missing: feature_number_250");
}

#[test]
fn the_length_of_a_detail_is_limited() {
    let names = |at: usize| format!("{}{at:03}", "long".repeat(30));
    let signature: Vec<String> = (0..300).map(|at| format!("{}:float[-1,-1]", names(at))).collect();
    let request: Vec<String> = (0..300).map(|at| format!("{}:float[1,{}]", names(at), at + 1)).collect();
    let found = added("Incompatible shapes: [1,250] vs. [9]", &signature.join(" "), &request.join(" "));
    assert!(found.len() < 800 && found.contains("249 float [1,250]"), "{} {found}", found.len());
    assert!(found.ends_with(" more inputs"), "{found}");
    let request: Vec<String> =
        (0..300).map(|at| format!("{}:float[1,1]", names(at).to_uppercase())).collect();
    let found = added("input size does not match signature", &signature.join(" "), &request.join(" "));
    assert!(found.len() < 1500 && found.contains(" and 295 more"), "{} {found}", found.len());
    assert!(found.contains("; not in the signature: LONG"), "{found}");
}

#[test]
fn outputs_that_are_also_inputs_are_named_with_the_filter_that_avoids_them() {
    let error = "unique_ids:0 is both fed and fetched.";
    let signature = "unique_ids=unique_ids:0:int64[-1] x=x:0:float[-1] -> unique_ids=unique_ids:0:int64[-1] logits=y:0:float[-1]";
    let found = added(error, signature, "unique_ids:int64[1] x:float[1]");
    assert_eq!(found, "; outputs that are inputs: unique_ids; output_filter: logits");
}

#[test]
fn an_output_that_is_an_input_is_named_only_if_it_is_requested() {
    let mut sent = request("ids=ids:0:int64[-1] -> ids=ids:0:int64[-1] y=y:0:float[-1]", "ids:int64[1]");
    let text = |sent: &Request| fed_outputs(&sent.signature, &sent.output_filter);
    assert_eq!(text(&sent).as_deref(), Some("outputs that are inputs: ids; output_filter: y"));
    sent.output_filter.push("y".to_owned());
    assert_eq!(text(&sent), None);
    sent.output_filter = vec!["ids".to_owned()];
    assert_eq!(text(&sent).as_deref(), Some("outputs that are inputs: ids"));
}

#[test]
fn a_position_counts_the_sorted_tensor_names_of_the_graph() {
    let error = "Expects arg[0] to be float but double is provided";
    let found = added(error, "a=z:0:float[-1] b=serving_b:0:float[-1]", "a:float[1] b:float[2]");
    assert_eq!(found, "; arg[0] is b, sent as float [2]");
    let found = added("Expects arg[7] to be float but double is provided", "a:float[-1]", "a:float[1]");
    assert_eq!(found, "");
}
