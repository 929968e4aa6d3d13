//! The metrics of one signature of one model.
use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use metrics::{Counter, Histogram};
use tonic::Code;

use super::by_client::ByClient;
use super::install;
use crate::telemetry::clients::Client;
use crate::telemetry::labels::{CODES, Door, Method, OutcomeLabel, code_name};
use crate::telemetry::table;
use crate::telemetry::traffic::{self, Traffic};
use crate::telemetry::versions::version_label;

/// The label value for a name that came from a client and is not in the catalog.
pub(crate) const UNKNOWN: &str = "__unknown__";

/// What a rate is asked of. The other outcomes and codes are added when they first occur. In mode
/// observe, the code is TF Serving's, which takes some of what does not conform.
const FROM_ZERO: [(OutcomeLabel, Code); 8] = [
    (OutcomeLabel::Conforming, Code::Ok),
    (OutcomeLabel::Repaired, Code::Ok),
    (OutcomeLabel::Rejected, Code::InvalidArgument),
    (OutcomeLabel::WouldRepair, Code::Ok),
    (OutcomeLabel::WouldRepair, Code::InvalidArgument),
    (OutcomeLabel::WouldReject, Code::Ok),
    (OutcomeLabel::WouldReject, Code::InvalidArgument),
    (OutcomeLabel::Overloaded, Code::ResourceExhausted),
];

/// Handles to the metrics of one signature, created when the catalog adds it, so that counting a
/// request looks up nothing by name.
pub(crate) struct ModelMetrics {
    model: Arc<str>,
    version: Arc<str>,
    signature: Arc<str>,
    /// By method, then by outcome and code. Created on first use, because most combinations never
    /// occur.
    requests: [OnceLock<Box<[OnceLock<Counter>]>>; Method::ALL.len()],
    request_seconds: [OnceLock<Histogram>; Method::ALL.len()],
    upstream_seconds: [OnceLock<Histogram>; Method::ALL.len()],
    repairs: ByClient,
    rejections: ByClient,
    warnings: ByClient,
    would_repair: ByClient,
    would_reject: ByClient,
    findings: ByClient,
    /// Of the model.
    traffic: Arc<Traffic>,
    door: Door,
    /// The same for requests that came through the REST listener.
    rest: OnceLock<Arc<ModelMetrics>>,
}

impl std::fmt::Debug for ModelMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ModelMetrics({} {})", self.model, self.signature)
    }
}

impl ModelMetrics {
    /// `model` and `signature` are names from TF Serving, or [`UNKNOWN`]; so is the version, which
    /// is `None` then.
    pub(crate) fn new(model: &str, version: Option<i64>, signature: &str) -> Self {
        install();
        let version_name = version.map_or_else(|| UNKNOWN.into(), |version| version_label(model, version));
        let made = Self::of_door([model.into(), version_name, signature.into()], Door::Grpc);
        if version.is_some() && signature != UNKNOWN {
            for (outcome, code) in FROM_ZERO {
                made.requests(Method::Predict, outcome, code);
            }
        }
        made
    }

    fn of_door([model, version, signature]: [Arc<str>; 3], door: Door) -> Self {
        Self {
            traffic: traffic::of_model(&model),
            model,
            version,
            signature,
            requests: [const { OnceLock::new() }; Method::ALL.len()],
            request_seconds: [const { OnceLock::new() }; Method::ALL.len()],
            upstream_seconds: [const { OnceLock::new() }; Method::ALL.len()],
            repairs: ByClient::new(&table::REPAIRS, door),
            rejections: ByClient::new(&table::REJECTIONS, door),
            warnings: ByClient::new(&table::WARNINGS, door),
            would_repair: ByClient::new(&table::WOULD_REPAIR, door),
            would_reject: ByClient::new(&table::WOULD_REJECT, door),
            findings: ByClient::new(&table::FINDINGS, Door::Grpc),
            door,
            rest: OnceLock::new(),
        }
    }

    /// The handles for requests that came through this listener.
    pub(crate) fn through(self: &Arc<Self>, door: Door) -> &Arc<Self> {
        match door {
            Door::Grpc => self,
            Door::Rest => self.rest.get_or_init(|| {
                let names = [&self.model, &self.version, &self.signature].map(Arc::clone);
                Arc::new(Self::of_door(names, Door::Rest))
            }),
        }
    }

    /// The model's name, or [`UNKNOWN`].
    pub(crate) fn name(&self) -> &str {
        &self.model
    }

    /// The signature's name, or [`UNKNOWN`].
    pub(crate) fn signature(&self) -> &str {
        &self.signature
    }

    /// The model, version and signature, as labels name them.
    pub(crate) fn labels(&self) -> [&Arc<str>; 3] {
        [&self.model, &self.version, &self.signature]
    }

    /// Counts an answered request.
    pub(crate) fn request(&self, method: Method, outcome: OutcomeLabel, code: Code) {
        self.requests(method, outcome, code).increment(1);
        if method.is_checked() {
            self.traffic.request();
            if outcome.is_mismatch() {
                self.traffic.mismatch();
            }
        }
    }

    fn requests(&self, method: Method, outcome: OutcomeLabel, code: Code) -> &Counter {
        const CELLS: usize = OutcomeLabel::ALL.len() * CODES;
        let cells = || std::iter::repeat_with(OnceLock::new).take(CELLS).collect();
        let of_method = self.requests[method as usize].get_or_init(cells);
        let cell = outcome as usize * CODES + code as usize;
        let make = || {
            let fixed = [method.as_str(), outcome.as_str(), code_name(code)].map(Cow::Borrowed);
            let [method, outcome, code] = fixed;
            let names = [owned(&self.model), owned(&self.version), owned(&self.signature)];
            let [model, version, signature] = names;
            let door = self.door.as_str().into();
            table::REQUESTS.counter([model, version, signature, method, outcome, code, door])
        };
        of_method[cell].get_or_init(make)
    }

    pub(crate) fn request_seconds(&self, method: Method, seconds: f64) {
        let make = || {
            let labels = [owned(&self.model), method.as_str().into(), self.door.as_str().into()];
            table::REQUEST_SECONDS.histogram(labels)
        };
        self.request_seconds[method as usize].get_or_init(make).record(seconds);
    }

    pub(crate) fn upstream_seconds(&self, method: Method, seconds: f64) {
        let make = || table::UPSTREAM_SECONDS.histogram([owned(&self.model), method.as_str().into()]);
        self.upstream_seconds[method as usize].get_or_init(make).record(seconds);
    }

    /// Counts a repair. `input` is an alias of the signature, or empty for a rule about the whole
    /// request.
    pub(crate) fn repair(&self, input: &str, rule: &'static str, client: &Client) {
        self.repairs.count(self.names(), input, rule, client);
    }

    /// Counts a rejected request under its first reason. `input` is as for [`Self::repair`].
    pub(crate) fn rejection(&self, input: &str, reason: &'static str, client: &Client) {
        self.rejections.count(self.names(), input, reason, client);
    }

    /// Counts a warning about a request that was forwarded.
    pub(crate) fn warning(&self, reason: &'static str, client: &Client) {
        self.warnings.count(self.names(), "", reason, client);
    }

    /// Like [`Self::repair`], in mode observe or a dry run.
    pub(crate) fn would_repair(&self, input: &str, rule: &'static str, client: &Client) {
        self.would_repair.count(self.names(), input, rule, client);
    }

    /// Like [`Self::rejection`], in mode observe or a dry run.
    pub(crate) fn would_reject(&self, input: &str, reason: &'static str, client: &Client) {
        self.would_reject.count(self.names(), input, reason, client);
    }

    /// Counts what was found when the values of a request were compared with the training data.
    pub(crate) fn finding(&self, input: &str, kind: &'static str, client: &Client) {
        self.findings.count(self.names(), input, kind, client);
    }

    fn names(&self) -> [&Arc<str>; 2] {
        [&self.model, &self.signature]
    }
}

/// The handles for requests whose model is not in the catalog.
pub(crate) fn unknown() -> &'static Arc<ModelMetrics> {
    static METRICS: OnceLock<Arc<ModelMetrics>> = OnceLock::new();
    METRICS.get_or_init(|| Arc::new(ModelMetrics::new(UNKNOWN, None, UNKNOWN)))
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
        let metrics = ModelMetrics::new("codes", Some(1), "s");
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
