//! Every text leads to its own row, and what real clients saw leads to somebody who can act.
use super::*;

#[test]
fn every_text_finds_its_own_row_and_no_row_hides_another() {
    for (_, rows) in SECTIONS {
        for row in *rows {
            for text in row.texts {
                let seen =
                    format!("2 root error(s) found.\n  (0) {}\n\t [[{{node}}]]", text.replace('*', " x "));
                assert_eq!(explain(&seen), Some(row), "{text}");
            }
        }
    }
}

#[test]
fn meanings_are_short_lines_of_ascii_with_a_source() {
    for row in SECTIONS.iter().flat_map(|(_, rows)| *rows) {
        assert!(row.meaning.len() <= MAX_LENGTH, "{} bytes: {}", row.meaning.len(), row.meaning);
        assert!(row.meaning.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{}", row.meaning);
        assert!(!row.meaning.ends_with('.') && !row.source.is_empty(), "{}", row.meaning);
    }
}

#[test]
fn errors_of_real_models_and_who_acts() {
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
        let found = explain(text).unwrap_or_else(|| panic!("nothing is said of: {text}"));
        assert_eq!(found.actor, actor, "{text}");
        assert!(found.meaning.contains(word), "{text}: {}", found.meaning);
    }
    for text in ["", "something else entirely", "Input", "matrix"] {
        assert_eq!(explain(text), None, "{text}");
    }
}

#[test]
fn the_suffix_names_the_sidecar_and_the_actor() {
    let text = explain("Missing ModelSpec").unwrap().to_string();
    assert_eq!(text, " [tfs-sidecar: the request names no model: set model_spec.name (act: client)]");
}
