//! The spans of one request, gathered while it runs: only for requests that are traced.
use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderValue};
use tokio::time::Instant;
use tonic::Code;

use super::context::RequestContext;
use crate::repair::report::{ascii, change};
use crate::repair::{Outcome, Reason, Verdict};
use crate::telemetry::metrics::{Method, ModelMetrics, OutcomeLabel, code_name};
use crate::telemetry::trace_parent::TraceParent;
use crate::telemetry::traces::{Attribute, Event, Kind, Span, SpanContext, Trace, Tracer, Value};
use crate::upstream::call::{CallError, CallHead, Reply, TRACEPARENT, TRACESTATE};

/// Spans below that of the request, events and links; more are only counted.
const MAX_SPANS: usize = 32;
const MAX_EVENTS: usize = 32;
const MAX_LINKS: usize = 128;
/// Bytes of a `tracestate`, as the W3C asks for; a longer one is forwarded, but not exported.
const MAX_STATE: usize = 512;

/// The request's own span and those below it.
#[derive(Debug)]
pub(crate) struct RequestTrace {
    tracer: Rc<Tracer>,
    context: SpanContext,
    /// The caller's span; `None` if the trace begins here.
    parent: Option<[u8; 8]>,
    state: Option<Box<str>>,
    clock: Clock,
    start: Instant,
    gathered: RefCell<Gathered>,
}

#[derive(Debug, Default)]
struct Gathered {
    spans: Vec<Span>,
    dropped_spans: i64,
    events: Vec<Event>,
    dropped_events: u32,
    links: Vec<SpanContext>,
    dropped_links: u32,
}

/// Unix time at an instant.
#[derive(Debug, Clone, Copy)]
struct Clock {
    at: Instant,
    nanos: u64,
}

/// A span that has begun.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OpenSpan {
    /// `None` if there were too many.
    index: Option<usize>,
    pub context: SpanContext,
}

/// How a request ended.
#[derive(Debug)]
pub(super) struct Ending<'a> {
    pub method: Method,
    pub model: &'a ModelMetrics,
    pub outcome: OutcomeLabel,
    pub client: &'a str,
    pub code: Code,
    pub reason: Option<Reason>,
}

impl RequestTrace {
    /// The trace of a request whose client traces it, or which was drawn.
    pub(crate) fn drawn(tracer: &Rc<Tracer>, headers: &HeaderMap, arrived: Instant) -> Option<Box<Self>> {
        match parent(headers) {
            Some(parent) => parent.sampled.then(|| Self::new(tracer, Some((parent, headers)), arrived)),
            None => tracer.draw().then(|| Self::new(tracer, None, arrived)),
        }
    }

    /// The trace of a request that does not conform, unless its client has decided or there are too
    /// many.
    pub(super) fn of_mismatch(
        tracer: &Rc<Tracer>,
        headers: &HeaderMap,
        arrived: Instant,
    ) -> Option<Box<Self>> {
        (parent(headers).is_none() && tracer.draw_mismatch()).then(|| Self::new(tracer, None, arrived))
    }

    /// The trace of a run that these spans share. It began at `since`.
    pub(super) fn of_run(
        tracer: &Rc<Tracer>,
        since: Instant,
        members: impl Iterator<Item = SpanContext>,
    ) -> Option<Box<Self>> {
        let mut members = members.peekable();
        members.peek()?;
        let trace = Self::new(tracer, None, since);
        let mut gathered = trace.gathered.borrow_mut();
        gathered.links = members.by_ref().take(MAX_LINKS).collect();
        gathered.dropped_links = members.count() as u32;
        drop(gathered);
        Some(trace)
    }

    fn new(tracer: &Rc<Tracer>, parent: Option<(TraceParent, &HeaderMap)>, start: Instant) -> Box<Self> {
        let trace_id = parent.map_or_else(|| tracer.trace_id(), |(parent, _)| parent.trace_id);
        Box::new(Self {
            context: SpanContext { trace_id, span_id: tracer.span_id() },
            parent: parent.map(|(parent, _)| parent.parent_id),
            state: parent.and_then(|(_, headers)| state(headers)),
            clock: Clock::now(),
            start,
            gathered: RefCell::default(),
            tracer: Rc::clone(tracer),
        })
    }

    pub(super) fn context(&self) -> SpanContext {
        self.context
    }

    /// Begins a span below that of the request.
    pub(crate) fn begin(&self, name: &'static str, kind: Kind, start: Instant) -> OpenSpan {
        let gathered = &mut *self.gathered.borrow_mut();
        if gathered.spans.len() == MAX_SPANS {
            gathered.dropped_spans += 1;
            return OpenSpan { index: None, context: self.context };
        }
        let id = self.tracer.span_id();
        gathered.spans.push(Span {
            id,
            parent: Some(self.context.span_id),
            remote_parent: false,
            name,
            kind,
            start: self.clock.nanos(start),
            // Until it ends.
            end: 0,
            attributes: Vec::new(),
            events: Vec::new(),
            links: Vec::new(),
            error: None,
            dropped_events: 0,
            dropped_links: 0,
        });
        let context = SpanContext { span_id: id, ..self.context };
        OpenSpan { index: Some(gathered.spans.len() - 1), context }
    }

    /// Ends a span, after what `change` adds.
    pub(crate) fn end(&self, span: OpenSpan, change: impl FnOnce(&mut Span)) {
        let gathered = &mut *self.gathered.borrow_mut();
        if let Some(span) = span.index.and_then(|index| gathered.spans.get_mut(index)) {
            span.end = self.clock.nanos(Instant::now());
            change(span);
        }
    }

    /// Begins the span of a call to TF Serving, which the call's head names from here on.
    pub(crate) fn upstream(&self, head: &mut CallHead, sent: Instant) -> OpenSpan {
        let span = self.begin("upstream", Kind::Client, sent);
        let SpanContext { trace_id, span_id } = span.context;
        let parent = TraceParent { trace_id, parent_id: span_id, sampled: true };
        if let Ok(value) = HeaderValue::from_bytes(&parent.write()) {
            head.set_trace_parent(value, self.parent.is_some());
        }
        span
    }

    /// Ends the span of a call to TF Serving, whose answer has begun with this code.
    pub(crate) fn upstream_ended(&self, span: OpenSpan, method: Method, code: Code) {
        self.end(span, |span| {
            span.attributes = rpc(method, code);
            span.error = error(code);
        });
    }

    /// Sets what the verdict says as the events of the request, but for values.
    fn judged(&self, verdict: &Verdict, dry_run: bool) {
        let at = self.clock.nanos(Instant::now());
        let hypothetical = dry_run || matches!(verdict.outcome, Outcome::WouldRepair | Outcome::WouldReject);
        let repair = if hypothetical { "would_repair" } else { "repair" };
        let text = |text: &str| Value::text(&ascii(text));
        let steps = verdict.plan.steps.iter().map(|step| Event {
            name: repair,
            at,
            attributes: vec![
                ("rule", Value::Word(step.rule.name)),
                ("input", text(&step.input)),
                ("change", Value::text(&change(step))),
            ],
        });
        let problems = verdict.problems.iter().map(|problem| {
            let mut attributes =
                vec![("reason", Value::Word(problem.reason.as_str())), ("input", text(&problem.input))];
            // Their texts quote values.
            if !matches!(problem.reason, Reason::CastOutOfRange | Reason::CastInexact) {
                attributes.push(("problem", text(&problem.what)));
            }
            Event { name: "problem", at, attributes }
        });
        let warnings = verdict.warnings.iter().map(|warning| Event {
            name: "warning",
            at,
            attributes: vec![
                ("reason", Value::Word(warning.reason.as_str())),
                ("input", text(&warning.input)),
            ],
        });
        let all = verdict.plan.steps.len() + verdict.problems.len() + verdict.warnings.len();
        let gathered = &mut *self.gathered.borrow_mut();
        gathered.events = steps.chain(problems).chain(warnings).take(MAX_EVENTS).collect();
        gathered.dropped_events = all.saturating_sub(MAX_EVENTS) as u32;
    }

    /// Ends the request's span, and sends all.
    pub(super) fn finish(self, ending: &Ending<'_>) {
        let [model, version, signature] = ending.model.labels().map(|name| Value::Shared(name.clone()));
        let mut attributes = rpc(ending.method, ending.code);
        attributes.extend([
            ("tfs_sidecar.model", model),
            ("tfs_sidecar.version", version),
            ("tfs_sidecar.signature", signature),
            ("tfs_sidecar.outcome", Value::Word(ending.outcome.as_str())),
            ("tfs_sidecar.client", Value::text(ending.client)),
        ]);
        if let Some(reason) = ending.reason {
            attributes.push(("tfs_sidecar.reason", Value::Word(reason.as_str())));
        }
        self.send(full_name(ending.method), Kind::Server, attributes, error(ending.code));
    }

    /// Ends the span of a shared run, and sends all.
    pub(super) fn finish_run(self, model: &ModelMetrics, requests: usize, rows: u64, code: Code) {
        let [model, version, signature] = model.labels().map(|name| Value::Shared(name.clone()));
        let attributes = vec![
            ("tfs_sidecar.model", model),
            ("tfs_sidecar.version", version),
            ("tfs_sidecar.signature", signature),
            ("tfs_sidecar.requests", Value::Number(requests as i64)),
            ("tfs_sidecar.rows", Value::Number(rows as i64)),
        ];
        self.send("run", Kind::Internal, attributes, error(code));
    }

    fn send(
        self,
        name: &'static str,
        kind: Kind,
        mut attributes: Vec<Attribute>,
        error: Option<&'static str>,
    ) {
        let Self { tracer, context, parent, state, clock, start, gathered } = self;
        let Gathered { mut spans, dropped_spans, events, dropped_events, links, dropped_links } =
            gathered.into_inner();
        let end = clock.nanos(Instant::now());
        // What the request did not wait for.
        for span in spans.iter_mut().filter(|span| span.end == 0) {
            (span.end, span.error) = (end, error);
        }
        if dropped_spans > 0 {
            attributes.push(("tfs_sidecar.spans_left_out", Value::Number(dropped_spans)));
        }
        spans.push(Span {
            id: context.span_id,
            parent,
            remote_parent: parent.is_some(),
            name,
            kind,
            start: clock.nanos(start),
            end,
            attributes,
            events,
            links,
            error,
            dropped_events,
            dropped_links,
        });
        tracer.send(Trace { id: context.trace_id, state, spans });
    }
}

impl RequestContext<'_> {
    /// Adds a verdict to the trace of the request. One that does not conform may be traced for that
    /// reason from here on.
    pub(super) fn trace_verdict(&self, verdict: &Verdict) {
        if verdict.outcome == Outcome::Conforming && verdict.warnings.is_empty() {
            return;
        }
        self.trace_mismatch();
        if let Some(trace) = self.metrics.trace() {
            trace.judged(verdict, self.options.dry_run);
        }
    }

    /// Traces a request that does not conform, if it is not traced yet.
    pub(super) fn trace_mismatch(&self) {
        self.metrics.trace_mismatch(self.shard.tracer.as_ref(), self.head.request().headers());
    }
}

/// The code of a call to TF Serving, as far as its answer has come.
pub(super) fn code_of(outcome: &Result<Reply, CallError>) -> Code {
    match outcome {
        Ok(reply) => reply.refusal().unwrap_or(Code::Ok),
        Err(error) => error.fault().code(),
    }
}

/// The caller's span, if the header is valid. Two headers are not.
fn parent(headers: &HeaderMap) -> Option<TraceParent> {
    let parent = TraceParent::parse(headers.get(&TRACEPARENT)?.as_bytes())?;
    headers.get_all(&TRACEPARENT).iter().nth(1).is_none().then_some(parent)
}

fn state(headers: &HeaderMap) -> Option<Box<str>> {
    let values: Option<Vec<&str>> =
        headers.get_all(&TRACESTATE).iter().map(|value| value.to_str().ok()).collect();
    let joined = values?.join(",");
    (1..=MAX_STATE).contains(&joined.len()).then(|| joined.into())
}

/// The attributes of OpenTelemetry's semantic conventions for gRPC.
fn rpc(method: Method, code: Code) -> Vec<Attribute> {
    let mut attributes = vec![("rpc.system", Value::Word("grpc"))];
    if let Some((service, method)) = full_name(method).split_once('/') {
        attributes.extend([("rpc.service", Value::Word(service)), ("rpc.method", Value::Word(method))]);
    }
    attributes.push(("rpc.grpc.status_code", Value::Number(code as i64)));
    attributes
}

fn error(code: Code) -> Option<&'static str> {
    (code != Code::Ok).then(|| code_name(code))
}

/// The name of the span of a call. Other methods have names that only clients know.
fn full_name(method: Method) -> &'static str {
    match method {
        Method::Predict => "tensorflow.serving.PredictionService/Predict",
        Method::Classify => "tensorflow.serving.PredictionService/Classify",
        Method::Regress => "tensorflow.serving.PredictionService/Regress",
        Method::MultiInference => "tensorflow.serving.PredictionService/MultiInference",
        Method::GetModelMetadata => "tensorflow.serving.PredictionService/GetModelMetadata",
        Method::GetModelStatus => "tensorflow.serving.ModelService/GetModelStatus",
        Method::HandleReloadConfigRequest => "tensorflow.serving.ModelService/HandleReloadConfigRequest",
        Method::Other => "_OTHER",
    }
}

impl Clock {
    fn now() -> Self {
        let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Self { at: Instant::now(), nanos: nanos(unix.unwrap_or_default()) }
    }

    fn nanos(self, at: Instant) -> u64 {
        match at.checked_duration_since(self.at) {
            Some(after) => self.nanos + nanos(after),
            None => self.nanos - nanos(self.at.saturating_duration_since(at)),
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    duration.as_nanos() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn two_traceparents_are_none() {
        assert!(parent(&headers(&[("traceparent", PARENT)])).is_some());
        assert_eq!(parent(&headers(&[("traceparent", PARENT), ("traceparent", PARENT)])), None);
        assert_eq!(parent(&headers(&[])), None);
    }

    #[test]
    fn tracestates_are_joined_and_bounded() {
        let state = |pairs: &[(&'static str, &'static str)]| state(&headers(pairs));
        assert_eq!(state(&[("tracestate", "a=1"), ("tracestate", "b=2")]).as_deref(), Some("a=1,b=2"));
        assert_eq!(state(&[]), None);
        let long: &'static str = "x".repeat(MAX_STATE + 1).leak();
        assert_eq!(state(&[("tracestate", long)]), None);
    }

    #[test]
    fn instants_before_and_after_become_unix_time() {
        let clock = Clock { at: Instant::now(), nanos: 5_000_000_000 };
        assert_eq!(clock.nanos(clock.at + Duration::from_nanos(7)), 5_000_000_007);
        assert_eq!(clock.nanos(clock.at - Duration::from_nanos(7)), 4_999_999_993);
    }
}
