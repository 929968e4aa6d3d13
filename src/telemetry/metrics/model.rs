//! The metrics of one signature of one model.
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use metrics::{Counter, Histogram};
use tonic::Code;

use super::install;
use crate::telemetry::labels::{CODES, Method, OutcomeLabel, code_name};
use crate::telemetry::table::{self, Metric};

/// The label value for a name that came from a client and is not in the catalog.
pub(crate) const UNKNOWN: &str = "__unknown__";

/// Inputs with counters of their own, more than any signature has. It bounds the series even if a
/// caller passes names that clients sent.
const MAX_INPUTS: usize = 1024;

/// Handles to the metrics of one signature, created when the catalog adds it, so that counting a
/// request looks up nothing by name.
pub(crate) struct ModelMetrics {
    model: Arc<str>,
    signature: Arc<str>,
    /// By method, then by outcome and code. Created on first use, because most combinations never
    /// occur.
    requests: [OnceLock<Box<[OnceLock<Counter>]>>; Method::ALL.len()],
    request_seconds: [OnceLock<Histogram>; Method::ALL.len()],
    upstream_seconds: [OnceLock<Histogram>; Method::ALL.len()],
    repairs: ByInput,
    rejections: ByInput,
    warnings: ByInput,
    would_repair: ByInput,
    would_reject: ByInput,
}

impl std::fmt::Debug for ModelMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ModelMetrics({} {})", self.model, self.signature)
    }
}

impl ModelMetrics {
    /// `model` and `signature` are names from TF Serving, or [`UNKNOWN`].
    pub(crate) fn new(model: &str, signature: &str) -> Self {
        install();
        Self {
            model: model.into(),
            signature: signature.into(),
            requests: [const { OnceLock::new() }; Method::ALL.len()],
            request_seconds: [const { OnceLock::new() }; Method::ALL.len()],
            upstream_seconds: [const { OnceLock::new() }; Method::ALL.len()],
            repairs: ByInput::new(&table::REPAIRS),
            rejections: ByInput::new(&table::REJECTIONS),
            warnings: ByInput::new(&table::WARNINGS),
            would_repair: ByInput::new(&table::WOULD_REPAIR),
            would_reject: ByInput::new(&table::WOULD_REJECT),
        }
    }

    /// The model's name, or [`UNKNOWN`].
    pub(crate) fn name(&self) -> &str {
        &self.model
    }

    /// Counts an answered request.
    pub(crate) fn request(&self, method: Method, outcome: OutcomeLabel, code: Code) {
        const CELLS: usize = OutcomeLabel::ALL.len() * CODES;
        let cells = || std::iter::repeat_with(OnceLock::new).take(CELLS).collect();
        let of_method = self.requests[method as usize].get_or_init(cells);
        let cell = outcome as usize * CODES + code as usize;
        let make = || {
            let fixed = [method.as_str(), outcome.as_str(), code_name(code)].map(Cow::Borrowed);
            let [method, outcome, code] = fixed;
            table::REQUESTS.counter([owned(&self.model), owned(&self.signature), method, outcome, code])
        };
        of_method[cell].get_or_init(make).increment(1);
    }

    pub(crate) fn request_seconds(&self, method: Method, seconds: f64) {
        let make = || table::REQUEST_SECONDS.histogram([owned(&self.model), method.as_str().into()]);
        self.request_seconds[method as usize].get_or_init(make).record(seconds);
    }

    pub(crate) fn upstream_seconds(&self, method: Method, seconds: f64) {
        let make = || table::UPSTREAM_SECONDS.histogram([owned(&self.model), method.as_str().into()]);
        self.upstream_seconds[method as usize].get_or_init(make).record(seconds);
    }

    /// Counts a repair. `input` is an alias of the signature, or empty for a rule about the whole
    /// request.
    pub(crate) fn repair(&self, input: &str, rule: &'static str) {
        self.repairs.count(self, input, rule);
    }

    /// Counts a rejected request under its first reason.
    pub(crate) fn rejection(&self, reason: &'static str) {
        self.rejections.count(self, "", reason);
    }

    /// Counts a warning about a request that was forwarded.
    pub(crate) fn warning(&self, reason: &'static str) {
        self.warnings.count(self, "", reason);
    }

    /// Like [`Self::repair`], in mode observe or a dry run.
    pub(crate) fn would_repair(&self, input: &str, rule: &'static str) {
        self.would_repair.count(self, input, rule);
    }

    /// Like [`Self::rejection`], in mode observe or a dry run.
    pub(crate) fn would_reject(&self, reason: &'static str) {
        self.would_reject.count(self, "", reason);
    }
}

/// The handles for requests whose model is not in the catalog.
pub(crate) fn unknown() -> &'static Arc<ModelMetrics> {
    static METRICS: OnceLock<Arc<ModelMetrics>> = OnceLock::new();
    METRICS.get_or_init(|| Arc::new(ModelMetrics::new(UNKNOWN, UNKNOWN)))
}

/// Counters by input and rule, or by reason alone. Reads take no lock; a new pair copies the map.
struct ByInput {
    metric: &'static Metric,
    counters: ArcSwap<HashMap<&'static str, HashMap<Arc<str>, Counter>>>,
}

impl ByInput {
    fn new(metric: &'static Metric) -> Self {
        Self { metric, counters: ArcSwap::default() }
    }

    fn count(&self, of: &ModelMetrics, input: &str, word: &'static str) {
        if let Some(counter) = self.counters.load().get(word).and_then(|inputs| inputs.get(input)) {
            counter.increment(1);
            return;
        }
        let full = self.counters.load().get(word).is_some_and(|inputs| inputs.len() >= MAX_INPUTS);
        if full && input != UNKNOWN {
            return self.count(of, UNKNOWN, word);
        }
        let names = [owned(&of.model), owned(&of.signature)];
        let [model, signature] = names;
        let counter = match self.metric.labels.len() {
            4 => self.metric.counter([model, signature, Cow::Owned(input.to_owned()), word.into()]),
            _ => self.metric.counter([model, signature, word.into()]),
        };
        counter.increment(1);
        let input: Arc<str> = input.into();
        self.counters.rcu(|counters| {
            let mut counters = HashMap::clone(counters);
            counters.entry(word).or_default().insert(Arc::clone(&input), counter.clone());
            counters
        });
    }
}

fn owned(name: &Arc<str>) -> Cow<'static, str> {
    Cow::Owned(name.as_ref().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_cell_of_its_own() {
        for number in 0..CODES {
            assert_eq!(Code::from_i32(number as i32) as usize, number);
        }
        let metrics = ModelMetrics::new("codes", "s");
        for method in Method::ALL {
            for outcome in OutcomeLabel::ALL {
                for number in 0..CODES {
                    metrics.request(*method, *outcome, Code::from_i32(number as i32));
                }
            }
        }
        let cells = metrics.requests.iter().flat_map(|of_method| of_method.get().unwrap());
        assert_eq!(
            cells.filter(|cell| cell.get().is_some()).count(),
            Method::ALL.len() * OutcomeLabel::ALL.len() * CODES
        );
    }
}
