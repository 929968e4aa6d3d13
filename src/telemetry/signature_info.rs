//! The metric that lists what is served: rewritten whole for a model, because the recorder cannot
//! forget a series.
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

use super::table::SIGNATURE_INFO;

/// One input of one signature of one version, as text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SignatureInput {
    pub version: String,
    pub signature: String,
    pub input: String,
    pub dtype: String,
    pub shape: String,
}

/// By model. Kept apart from the recorder, which cannot forget a series: versions that are gone
/// must not stay.
static SIGNATURES: Mutex<BTreeMap<String, Vec<SignatureInput>>> = Mutex::new(BTreeMap::new());

/// Says what a model's signatures are now, in place of what was said before; nothing for a model
/// that is gone.
pub fn set_signature_info(model: &str, inputs: Vec<SignatureInput>) {
    let mut signatures = SIGNATURES.lock().unwrap_or_else(PoisonError::into_inner);
    if inputs.is_empty() {
        signatures.remove(model);
    } else {
        signatures.insert(model.to_owned(), inputs);
    }
}

/// Appends the series to a scrape.
pub(super) fn render(text: &mut String) {
    let signatures = SIGNATURES.lock().unwrap_or_else(PoisonError::into_inner);
    if signatures.is_empty() {
        return;
    }
    let metric = &SIGNATURE_INFO;
    let (name, help, kind) = (metric.name, metric.help, metric.kind.as_str());
    let mut line = |line: std::fmt::Arguments<'_>| text.write_fmt(line).expect("a string takes any text");
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

/// A label value as the text format wants it.
fn escaped(value: &str) -> String {
    value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n")
}
