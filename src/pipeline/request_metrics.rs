//! What is counted of a request, once, at its end, and of each of its calls to TF Serving.
use std::cell::OnceCell;
use std::rc::Rc;
use std::sync::Arc;

use http::HeaderMap;
use tokio::time::Instant;
use tonic::Code;

use super::identity::Caller;
use super::mistakes;
use super::report::{End, Place, Report, log};
use super::trace::{Ending, RequestTrace};
use crate::config::AccessLog;
use crate::fault::Fault;
use crate::repair::fix::Language;
use crate::repair::{Outcome, Reason, Verdict};
use crate::telemetry::clients::Client;
use crate::telemetry::metrics::{self, Door, Method, ModelMetrics, OutcomeLabel, Stage};
use crate::telemetry::traces::Tracer;

/// One request in this many has its stages timed: that takes two clock readings a stage.
const SAMPLE: u32 = 16;

/// The client's request; filled in as it goes through the stages.
#[derive(Debug)]
pub(crate) struct RequestMetrics {
    pub method: Method,
    door: Door,
    arrived: Instant,
    model: Option<Arc<ModelMetrics>>,
    /// What the log will say.
    pub(crate) report: Report,
    /// Its spans, if it is traced.
    trace: OnceCell<Box<RequestTrace>>,
    /// The input with the first problem of a refusal.
    rejected_input: Option<Box<str>>,
    outcome: OutcomeLabel,
    dry_run: bool,
    sampled: bool,
    /// What stands for its client in the census, once it was counted for the client.
    counted: Option<u64>,
}

/// One call to TF Serving. A request makes one, as a rule.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CallMetrics<'a> {
    model: &'a ModelMetrics,
    method: Method,
    sampled: bool,
    report: &'a Report,
}

impl RequestMetrics {
    /// `number` numbers the requests of a thread.
    pub(crate) fn new(door: Door, method: Method, arrived: Instant, number: u32, access: AccessLog) -> Self {
        Self {
            method,
            door,
            arrived,
            model: None,
            report: Report::new(access),
            trace: OnceCell::new(),
            rejected_input: None,
            outcome: OutcomeLabel::Passed,
            dry_run: false,
            sampled: number.is_multiple_of(SAMPLE),
            counted: None,
        }
    }

    /// The model and signature are in the catalog.
    pub(crate) fn set_model(&mut self, model: &Arc<ModelMetrics>) {
        self.model = Some(Arc::clone(model.through(self.door)));
    }

    /// Nothing is run: repairs and rejections are counted as those that would have been.
    pub(crate) fn set_dry_run(&mut self) {
        self.dry_run = true;
    }

    pub(crate) fn is_dry_run(&self) -> bool {
        self.dry_run
    }

    /// The request was counted for its client.
    pub(super) fn set_counted(&mut self, client: u64) {
        self.counted = Some(client);
    }

    /// Whether the request was counted for its client.
    pub(super) fn is_counted(&self) -> bool {
        self.counted.is_some()
    }

    /// What stands for its client in the census.
    pub(super) fn census_client(&self) -> Option<u64> {
        self.counted
    }

    /// The language in which its client is told what to change: JSON for a REST request, whatever
    /// library sent it.
    pub(super) fn language(&self, client: &Client) -> Language {
        match self.door {
            Door::Rest => Language::Rest,
            Door::Grpc => client.language(),
        }
    }

    /// When the request arrived.
    pub(super) fn arrived(&self) -> Instant {
        self.arrived
    }

    pub(crate) fn set_outcome(&mut self, verdict: &Verdict) {
        self.outcome = match verdict.outcome {
            Outcome::Conforming => OutcomeLabel::Conforming,
            Outcome::Repaired if !self.dry_run => OutcomeLabel::Repaired,
            Outcome::Repaired | Outcome::WouldRepair => OutcomeLabel::WouldRepair,
            Outcome::Rejected if !self.dry_run => OutcomeLabel::Rejected,
            Outcome::Rejected | Outcome::WouldReject => OutcomeLabel::WouldReject,
            Outcome::Passed => OutcomeLabel::Passed,
        };
    }

    /// Who sent the request; `find` runs once at most.
    pub(crate) fn caller(&self, find: impl FnOnce() -> Caller) -> &Caller {
        self.report.caller(find)
    }

    /// A refusal is counted under this alias of the signature; [`metrics::UNKNOWN`] for a name
    /// that only the client knows.
    pub(crate) fn set_rejected_input(&mut self, input: &str) {
        self.rejected_input = Some(input.into());
    }

    /// Counts a request that mode repair would have rejected as a whole.
    pub(crate) fn would_reject(&mut self, reason: Reason, client: &Client) {
        self.outcome = OutcomeLabel::WouldReject;
        self.model().would_reject("", reason.as_str(), client);
    }

    /// The spans of the request, if it is traced.
    #[inline]
    pub(crate) fn trace(&self) -> Option<&RequestTrace> {
        self.trace.get().map(|trace| &**trace)
    }

    /// Traces the request from here on.
    pub(crate) fn set_trace(&self, trace: Option<Box<RequestTrace>>) {
        if let Some(trace) = trace {
            self.trace.set(trace).ok();
        }
    }

    /// Takes the trace, to finish it.
    pub(crate) fn take_trace(&mut self) -> Option<Box<RequestTrace>> {
        self.trace.take()
    }

    /// Traces a request that does not conform, if it is not traced yet and few enough are.
    pub(crate) fn trace_mismatch(&self, tracer: Option<&Rc<Tracer>>, headers: &HeaderMap) {
        if let Some(tracer) = tracer
            && self.trace().is_none()
        {
            self.set_trace(RequestTrace::of_mismatch(tracer, headers, self.arrived));
        }
    }

    /// Times a stage of a sampled request.
    pub(crate) fn stage<T>(&self, stage: Stage, work: impl FnOnce() -> T) -> T {
        if !self.sampled {
            return work();
        }
        let start = Instant::now();
        let done = work();
        metrics::stage_seconds(stage, start.elapsed().as_secs_f64());
        done
    }

    /// Times a stage of a sampled request that began at `since` and has ended.
    pub(crate) fn stage_took(&self, stage: Stage, since: Instant) {
        if self.sampled {
            metrics::stage_seconds(stage, since.elapsed().as_secs_f64());
        }
    }

    pub(crate) fn model(&self) -> &ModelMetrics {
        self.model.as_deref().unwrap_or_else(|| metrics::unknown().through(self.door))
    }

    pub(crate) fn call(&self) -> CallMetrics<'_> {
        let report = &self.report;
        CallMetrics { model: self.model(), method: self.method, sampled: self.sampled, report }
    }

    /// The client got an answer with this code, from TF Serving or from here.
    pub(crate) fn answered(self, code: Code, place: Place<'_>) {
        self.ended(code, place, None);
    }

    fn ended(mut self, code: Code, place: Place<'_>, fault: Option<&Fault>) {
        let trace = self.take_trace();
        let model = self.model();
        let duration = self.arrived.elapsed();
        model.request(self.method, self.outcome, code);
        model.request_seconds(self.method, duration.as_secs_f64());
        let trace_id = trace.as_deref().map(|trace| trace.context().trace_id);
        log(&self, self.outcome, End { place, code, duration, fault, trace_id });
        if let Some(trace) = trace {
            let client = self.report.client_name();
            let Self { method, outcome, .. } = self;
            let reason = fault.and_then(Fault::reason);
            trace.finish(&Ending { method, model, outcome, client, code, reason });
        }
    }

    pub(crate) fn failed(mut self, fault: &Fault, place: Place<'_>) {
        self.outcome = fault.outcome();
        if self.outcome == OutcomeLabel::Rejected
            && let Some(reason) = fault.reason()
        {
            let client = &self.report.caller(|| Caller::unknown(place.shard)).client;
            mistakes::record_fault(place.shard, &self, client, fault, reason);
            let input = self.rejected_input.as_deref().unwrap_or_default();
            if self.dry_run {
                self.model().would_reject(input, reason.as_str(), client);
                self.outcome = OutcomeLabel::WouldReject;
            } else {
                self.model().rejection(input, reason.as_str(), client);
            }
        }
        self.ended(fault.code(), place, Some(fault));
    }

    /// The client cancelled the request, or its connection ended.
    pub(crate) fn cancelled(mut self, place: Place<'_>) {
        self.outcome = OutcomeLabel::Failed;
        self.answered(Code::Cancelled, place);
    }
}

impl CallMetrics<'_> {
    /// TF Serving has begun to answer what was sent at `sent`.
    pub(crate) fn answered(self, sent: Instant) {
        let elapsed = sent.elapsed();
        self.report.set_upstream(elapsed);
        let seconds = elapsed.as_secs_f64();
        self.model.upstream_seconds(self.method, seconds);
        if self.sampled {
            metrics::stage_seconds(Stage::Upstream, seconds);
        }
    }
}
