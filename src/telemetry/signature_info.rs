//! The metric that lists the served signatures. It is rendered here, because the recorder cannot
//! remove a series.
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

use super::table::SIGNATURE_INFO;

/// One input of one signature of one version, as text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SignatureInput {
    pub(crate) version: String,
    pub(crate) signature: String,
    pub(crate) input: String,
    pub(crate) dtype: String,
    pub(crate) shape: String,
}

/// By model. Kept outside the recorder, so that the series of unloaded versions disappear.
static SIGNATURES: Mutex<BTreeMap<String, Vec<SignatureInput>>> = Mutex::new(BTreeMap::new());

/// Replaces the inputs listed for a model; an empty list removes the model.
pub(crate) fn set_signature_info(model: &str, inputs: Vec<SignatureInput>) {
    let mut signatures = SIGNATURES.lock().unwrap_or_else(PoisonError::into_inner);
    if inputs.is_empty() {
        signatures.remove(model);
    } else {
        signatures.insert(model.to_owned(), inputs);
    }
}

/// Appends the series to the text of a scrape.
pub(super) fn render(text: &mut String) {
    let signatures = SIGNATURES.lock().unwrap_or_else(PoisonError::into_inner);
    if signatures.is_empty() {
        return;
    }
    let metric = &SIGNATURE_INFO;
    let (name, help, kind) = (metric.name, metric.help, metric.kind.as_str());
    let mut line =
        |line: std::fmt::Arguments<'_>| text.write_fmt(line).expect("writing to a string cannot fail");
    line(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    for (model, inputs) in &*signatures {
        for SignatureInput { version, signature, input, dtype, shape } in inputs {
            let values = [model, version, signature, input, dtype, shape];
            let pairs = metric
                .labels
                .iter()
                .zip(values)
                .map(|(label, value)| format!("{label}=\"{}\"", escaped(value)));
            line(format_args!("{name}{{{}}} 1\n", pairs.collect::<Vec<_>>().join(",")));
        }
    }
    line(format_args!("\n"));
}

/// A label value, escaped for the text format.
fn escaped(value: &str) -> String {
    value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n")
}
