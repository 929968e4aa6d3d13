//! The metrics whose series disappear: those of unloaded versions and of problems that are over.
//! They are rendered here, because the recorder cannot remove a series.
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

use super::labels::ModelProblemKind;
use super::table::{DRIFT, MODE_OVERRIDE, MODEL_PROBLEM, Metric, SIGNATURE_INFO};

/// One input of one signature of one version, as text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SignatureInput {
    pub(crate) version: String,
    pub(crate) signature: String,
    pub(crate) input: String,
    pub(crate) dtype: String,
    pub(crate) shape: String,
}

static SIGNATURES: Replaced = Replaced::new(&SIGNATURE_INFO);
static PROBLEMS: Replaced = Replaced::new(&MODEL_PROBLEM);
static MODES: Replaced = Replaced::new(&MODE_OVERRIDE);
static DRIFTS: Replaced = Replaced::new(&DRIFT);

/// How far one feature is from the training data.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct FeatureDrift {
    pub(crate) signature: String,
    pub(crate) input: String,
    /// Its name or position; `__other__` for the others together.
    pub(crate) feature: String,
    /// The population stability index.
    pub(crate) index: f64,
}

/// Replaces the inputs listed for a model; an empty list removes the model.
pub(crate) fn set_signature_info(model: &str, inputs: Vec<SignatureInput>) {
    let values = |input: SignatureInput| {
        let SignatureInput { version, signature, input, dtype, shape } = input;
        vec![version, signature, input, dtype, shape]
    };
    SIGNATURES.set(model, inputs.into_iter().map(values).map(one).collect());
}

/// Replaces the problems of a model, each with its version, or an empty text for the whole model.
pub(crate) fn set_model_problems(model: &str, problems: Vec<(String, ModelProblemKind)>) {
    let values = |(version, kind): (String, ModelProblemKind)| vec![version, kind.as_str().to_owned()];
    PROBLEMS.set(model, problems.into_iter().map(values).map(one).collect());
}

/// Sets the mode that an operator has changed a model's to; `None` for the configured one.
pub(crate) fn set_mode_override(model: &str, mode: Option<&'static str>) {
    MODES.set(model, mode.iter().map(|mode| one(vec![(*mode).to_owned()])).collect());
}

/// Replaces the drift of the features of a model; an empty list removes the model.
pub(crate) fn set_drift(model: &str, features: Vec<FeatureDrift>) {
    let values = |FeatureDrift { signature, input, feature, index }| (vec![signature, input, feature], index);
    DRIFTS.set(model, features.into_iter().map(values).collect());
}

fn one(labels: Vec<String>) -> Series {
    (labels, 1.0)
}

/// The values of the labels behind the model, and of the gauge.
type Series = (Vec<String>, f64);

/// Appends the series to the text of a scrape.
pub(super) fn render(text: &mut String) {
    SIGNATURES.render(text);
    PROBLEMS.render(text);
    MODES.render(text);
    DRIFTS.render(text);
}

/// A gauge whose first label is the model.
struct Replaced {
    metric: &'static Metric,
    /// By model.
    series: Mutex<BTreeMap<String, Vec<Series>>>,
}

impl Replaced {
    const fn new(metric: &'static Metric) -> Self {
        Self { metric, series: Mutex::new(BTreeMap::new()) }
    }

    fn set(&self, model: &str, series: Vec<Series>) {
        let mut all = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        if series.is_empty() {
            all.remove(model);
        } else {
            all.insert(model.to_owned(), series);
        }
    }

    fn render(&self, text: &mut String) {
        let all = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        if all.is_empty() {
            return;
        }
        let Metric { name, help, kind, labels, .. } = self.metric;
        let mut line =
            |line: std::fmt::Arguments<'_>| text.write_fmt(line).expect("writing to a string cannot fail");
        line(format_args!("# HELP {name} {help}\n# TYPE {name} {}\n", kind.as_str()));
        for (model, series) in &*all {
            for (values, number) in series {
                let values = std::iter::once(model).chain(values);
                let pairs = labels.iter().zip(values);
                let pairs: Vec<String> =
                    pairs.map(|(label, value)| format!("{label}=\"{}\"", escaped(value))).collect();
                line(format_args!("{name}{{{}}} {number}\n", pairs.join(",")));
            }
        }
        line(format_args!("\n"));
    }
}

/// A label value, escaped for the text format.
fn escaped(value: &str) -> String {
    value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n")
}
