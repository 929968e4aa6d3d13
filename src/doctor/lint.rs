//! Signatures that clients will stumble over, each with the Python line that exports it right.
use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::finding::{Actor, Finding, Level};
use super::saved_model::MetaGraph;
use crate::signature::{DEFAULT_SIGNATURE, Signature, TensorInfo};
use crate::tensor::{Class, DataType};

const CHECK: &str = "signatures";
/// Findings that are listed.
const MAX_LISTED: usize = 100;

/// Inputs that only training needs, as people call them.
const TRAINING: &[&str] = &[
    "keep_prob",
    "phase",
    "training",
    "is_training",
    "learning_phase",
    "dropout",
    "dropout_prob",
    "dropout_rate",
    "is_train",
    "train_phase",
];
/// Operations that turn what clients have into what the model computes with.
const PREPROCESSING: &[(&str, &str)] = &[
    ("DecodeJpeg", "decodes images"),
    ("DecodePng", "decodes images"),
    ("DecodeImage", "decodes images"),
    ("DecodeBase64", "decodes base64"),
    ("DecodeRaw", "decodes raw bytes"),
    ("ResizeBilinear", "resizes images"),
    ("ResizeNearestNeighbor", "resizes images"),
    ("ResizeBicubic", "resizes images"),
    ("ParseExampleV2", "parses tf.Example"),
    ("ParseExample", "parses tf.Example"),
    ("LookupTableFindV2", "looks strings or numbers up in a table"),
    ("StringSplitV2", "splits strings"),
    ("StaticRegexReplace", "cleans strings"),
    ("RegexReplace", "cleans strings"),
    ("StringToHashBucketFast", "hashes strings"),
    ("Bucketize", "puts numbers into buckets"),
];

/// What is wrong with the signatures of an export.
pub fn check(meta: &MetaGraph) -> Vec<Finding> {
    let servable: Vec<&Signature> = meta.signatures.servable().map(|signature| &**signature).collect();
    let mut findings = Vec::new();
    let Some(first) = servable.first() else {
        let has =
            if meta.signatures.iter().next().is_some() { "only `__saved_model_init_op`" } else { "none" };
        let what = "the export has no signature that can be called";
        let action = "name one: tf.saved_model.save(model, path, signatures={\"serving_default\": function.get_concrete_function(tf.TensorSpec((None, 3), tf.float32, name=\"x\"))})";
        findings.push(
            Finding::new(Level::Fail, CHECK, what)
                .why(format!("signatures: {has}; a tf.Module without signatures exports none"))
                .act(Actor::Exporter, action),
        );
        return findings;
    };
    if meta.signatures.get(DEFAULT_SIGNATURE).is_none() {
        let names: Vec<String> = servable.iter().map(|signature| format!("`{}`", signature.name)).collect();
        let action = format!(
            "signatures={{\"serving_default\": ...}} instead of `{}`, or both names for one function",
            first.name
        );
        findings.push(
            Finding::new(Level::Warn, CHECK, "there is no signature `serving_default`")
                .why(format!("clients that name no signature are refused; there are {}", names.join(", ")))
                .act(Actor::Exporter, action),
        );
    }
    for signature in &servable {
        one(meta, signature, &mut findings);
        if findings.len() > MAX_LISTED {
            findings.truncate(MAX_LISTED);
            break;
        }
    }
    if findings.is_empty() {
        let what = format!("{} signatures, none with a known trap", servable.len());
        findings.push(Finding::new(Level::Ok, CHECK, what));
    }
    findings
}

fn one(meta: &MetaGraph, signature: &Signature, findings: &mut Vec<Finding>) {
    let at = &signature.name;
    let spec = python(signature);
    let mut find = |level: Level, what: String, why: &'static str, action: &str| {
        let what = format!("`{at}`: {what}");
        findings.push(Finding::new(level, CHECK, what).why(why).act(Actor::Exporter, action.to_owned()));
    };
    for (kind, info) in kinds(signature) {
        if info.tensor_name.is_empty() && info.dtype == DataType::default() {
            find(
                Level::Fail,
                format!("{kind} `{}` has no tensor", info.alias),
                "each request fails (Tensor :0 ... was not found in the Graph)",
                &format!("export a tensor, not None, for `{}`: {spec}", info.alias),
            );
        } else if !info.tensor_name.is_empty() && meta.graph.has_tensor(&info.tensor_name) == Some(false) {
            find(
                Level::Fail,
                format!(
                    "{kind} `{}` is tensor `{}`, which the graph does not have",
                    info.alias, info.tensor_name
                ),
                "each request of the signature fails",
                "export signature and graph together: tf.saved_model.save(model, path, signatures=...)",
            );
        }
        if !is_for_rest(info.dtype) {
            find(
                Level::Warn,
                format!("{kind} `{}` is {}, which the REST API cannot carry", info.alias, info.dtype),
                "such a signature can be called over gRPC only",
                &format!("tf.cast it to float32, or split it into real parts, inside the function: {spec}"),
            );
        }
    }
    for info in &signature.inputs {
        let name = info.alias.as_str();
        let is_scalar = info.shape.rank() == Some(0);
        if TRAINING.iter().any(|word| name.to_ascii_lowercase() == *word) && !info.has_default {
            find(
                Level::Warn,
                format!("input `{name}` is needed in training only"),
                "every client has to send it, and a scalar cannot be batched",
                &format!(
                    "fix it in the function (model(x, training=False)), or give it a default: tf.compat.v1.placeholder_with_default(1.0, (), \"{name}\")"
                ),
            );
        } else if info.shape.rank().is_none() && !info.tensor_name.is_empty() {
            find(
                Level::Warn,
                format!("input `{name}` has no declared rank"),
                "shapes are not checked, and nothing can be repaired",
                &format!("tf.TensorSpec((None, ...), tf.{}, name=\"{name}\")", tf_name(info.dtype)),
            );
        } else if is_scalar {
            find(
                Level::Warn,
                format!("input `{name}` is a scalar"),
                "requests of several clients cannot share a run unless they send the same value",
                &format!("give it rows: tf.TensorSpec((None,), tf.{}, name=\"{name}\")", tf_name(info.dtype)),
            );
        } else if info.shape.dims().and_then(<[i64]>::first).is_some_and(|size| *size >= 0) {
            let size = info.shape.dims().and_then(<[i64]>::first).copied().unwrap_or_default();
            find(
                Level::Warn,
                format!("the batch dimension of input `{name}` is fixed at {size}"),
                "requests with another number of rows are refused, and none are batched",
                &spec_of(info),
            );
        }
        if drifts(name) {
            find(
                Level::Warn,
                format!("input `{name}` has a generated name, which changes with the next export"),
                "clients that send the old name break",
                &format!(
                    "name it: keras.Input(..., name=\"features\") or tf.TensorSpec(..., name=\"features\") in place of `{name}`"
                ),
            );
        }
    }
    let has_rows = signature.inputs.iter().any(TensorInfo::has_rows);
    for info in &signature.outputs {
        if has_rows && info.shape.dims().is_some_and(|dims| dims.first() != Some(&-1)) {
            find(
                Level::Warn,
                format!(
                    "output `{}` has shape {}, not one row for each row of the input",
                    info.alias, info.shape
                ),
                "runs cannot be shared: the answer cannot be cut into rows",
                "return one row a row: without tf.reduce_* or tf.squeeze over axis 0",
            );
        }
        if drifts(&info.alias) {
            find(
                Level::Warn,
                format!("output `{}` has a generated name, which changes with the next export", info.alias),
                "clients that read the old name break",
                "return a dict from the exported function: {\"scores\": model(x)}",
            );
        }
        if info.dtype.info().is_some_and(|dtype| dtype.class == Class::String)
            && !info.alias.ends_with("_bytes")
        {
            find(
                Level::Ok,
                format!("output `{}` is a string without `_bytes` in its name", info.alias),
                "the REST API writes it as text, which damages bytes that are not UTF-8",
                &format!(
                    "call it `{}_bytes` if it holds binary data: return {{\"{}_bytes\": ...}}",
                    info.alias, info.alias
                ),
            );
        }
    }
    preprocessing(meta, signature, &mut find);
}

/// Whether the graph prepares what clients send.
fn preprocessing(
    meta: &MetaGraph,
    signature: &Signature,
    find: &mut impl FnMut(Level, String, &'static str, &str),
) {
    let Some(ops) = meta.graph.reached_by(signature) else { return };
    let does: BTreeSet<&str> =
        PREPROCESSING.iter().filter(|(op, _)| ops.contains(op)).map(|(_, what)| *what).collect();
    if !does.is_empty() {
        let does = does.into_iter().collect::<Vec<_>>().join(", ");
        return find(Level::Ok, format!("the graph prepares its input itself: it {does}"), "", "");
    }
    let is_image = |info: &&TensorInfo| {
        let dims = info.shape.dims().unwrap_or_default();
        dims.len() == 4 && matches!(dims.last(), Some(1 | 3 | 4))
    };
    if let Some(image) = signature.inputs.iter().find(is_image) {
        find(
            Level::Ok,
            format!("input `{}` takes images, and the graph does not prepare them", image.alias),
            "clients must decode, resize and scale them as in training; a wrong range gives wrong answers without an error",
            "put it into the model: keras.layers.Rescaling(1/255) and keras.layers.Resizing(height, width) as first layers",
        );
    }
}

fn kinds(signature: &Signature) -> impl Iterator<Item = (&'static str, &TensorInfo)> {
    let inputs = signature.inputs.iter().map(|info| ("input", info));
    inputs.chain(signature.outputs.iter().map(|info| ("output", info)))
}

/// Whether a name ends with the number of a generated one: `input_3`, `args_0`, `keras_tensor_7`,
/// `dense_1_input`.
fn drifts(name: &str) -> bool {
    const GENERATED: &[&str] = &[
        "input",
        "inputs",
        "args",
        "keras_tensor",
        "dense",
        "dense_input",
        "conv2d",
        "conv2d_input",
        "embedding",
        "embedding_input",
        "flatten",
        "flatten_input",
        "lstm",
        "lstm_input",
        "sequential",
        "activation",
        "output",
    ];
    let stem = name.strip_suffix("_input").unwrap_or(name);
    let (base, number) = stem.rsplit_once('_').unwrap_or((stem, ""));
    let numbered = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let is_generated = |name: &str| GENERATED.contains(&name);
    // Keras numbers all but the first; `output_0` of a function without a dict stays the same.
    (numbered && is_generated(base) && base != "output")
        || name == "keras_tensor"
        || (stem != name && is_generated(stem))
}

/// Whether TensorFlow Serving's REST API reads and writes the dtype (util/json_tensor.cc).
fn is_for_rest(dtype: DataType) -> bool {
    dtype.info().is_none_or(|info| !matches!(info.class, Class::Complex | Class::Quantized | Class::Handle))
}

/// The name of a dtype in Python: `float32` for `float`.
fn tf_name(dtype: DataType) -> String {
    match dtype.name().as_ref() {
        "float" => "float32".to_owned(),
        "double" => "float64".to_owned(),
        "half" => "float16".to_owned(),
        other => other.to_owned(),
    }
}

fn spec_of(info: &TensorInfo) -> String {
    let dims = info.shape.dims().unwrap_or_default();
    let mut shape = String::from("(None,");
    for size in dims.iter().skip(1) {
        let size = if *size < 0 { "None".to_owned() } else { size.to_string() };
        write!(shape, " {size},").ok();
    }
    let shape = if dims.len() > 1 { shape.trim_end_matches(',') } else { shape.as_str() };
    format!("tf.TensorSpec({shape}), tf.{}, name=\"{}\")", tf_name(info.dtype), info.alias)
}

/// The decorator that declares the inputs of a signature.
fn python(signature: &Signature) -> String {
    let specs: Vec<String> = signature.inputs.iter().take(8).map(spec_of).collect();
    format!("@tf.function(input_signature=[{}])", specs.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repair::notation;

    fn findings(text: &str) -> Vec<Finding> {
        let signatures = notation::signature(text).unwrap();
        let meta = MetaGraph { signatures, ..MetaGraph::default() };
        check(&meta)
    }

    fn only(text: &str, word: &str) -> Finding {
        let all = findings(text);
        let [found] = &all[..] else { panic!("{text}: {all:#?}") };
        assert!(found.what.contains(word), "{}", found.what);
        found.clone()
    }

    #[test]
    fn a_good_signature_has_no_trap() {
        assert_eq!(findings("x:float[-1,3] -> y:float[-1,2]")[0].level, Level::Ok);
    }

    #[test]
    fn each_trap_is_found_with_the_line_that_exports_it_right() {
        let fixed = only("x:float[16,3] -> y:float[16,2]", "fixed at 16");
        assert_eq!(fixed.action, "tf.TensorSpec((None, 3), tf.float32, name=\"x\")");
        let scalar = only("x:float[-1,3] t:float[] -> y:float[-1,2]", "scalar");
        assert_eq!(scalar.action, "give it rows: tf.TensorSpec((None,), tf.float32, name=\"t\")");
        assert!(
            only("x:float[-1,3] keep_prob:float[] -> y:float[-1,2]", "training")
                .action
                .contains("placeholder_with_default")
        );
        assert!(
            only("input_3:float[-1,3] -> y:float[-1,2]", "generated").action.contains("name=\"features\"")
        );
        assert!(only("x:float[-1,3] -> dense_1:float[-1,2]", "generated").action.contains("dict"));
        only("x:float[-1,3] -> y:float[2]", "not one row for each row");
        only("x:complex64[-1,3] -> y:float[-1]", "REST API");
        assert_eq!(only("x:float[-1,3] -> text:string[-1]", "_bytes").level, Level::Ok);
        assert!(only("x:float[-1,3] -> @other y:float[-1,2]", "serving_default").action.contains("`other`"));
        only("x=t:0:float -> y:float[-1]", "no declared rank");
    }

    #[test]
    fn an_export_without_signatures_fails() {
        let all = check(&MetaGraph::default());
        assert_eq!((all.len(), all[0].level), (1, Level::Fail));
        assert!(all[0].action.contains("signatures={\"serving_default\""));
    }

    #[test]
    fn only_generated_names_drift() {
        for name in [
            "input_3",
            "args_0",
            "keras_tensor",
            "keras_tensor_12",
            "dense_input",
            "dense_2_input",
            "inputs_1",
            "conv2d_4",
        ] {
            assert!(drifts(name), "{name}");
        }
        for name in
            ["x", "input", "inputs", "input_ids", "features", "output_0", "my_input", "layer_norm_2", "age_1"]
        {
            assert!(!drifts(name), "{name}");
        }
    }
}
