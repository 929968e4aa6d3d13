//! What the log says about a request at its end: its events, and its line in the access log.
use std::cell::{Cell, OnceCell};
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use smallvec::SmallVec;
use tonic::Code;

use super::Shard;
use super::context::RequestContext;
use super::identity::Caller;
use super::request_metrics::RequestMetrics;
use crate::config::{AccessLog, Config};
use crate::fault::Fault;
use crate::repair::report::change;
use crate::repair::{Reason, Verdict};
use crate::telemetry::events::{Access, Event, RequestId, Why};
use crate::telemetry::metrics::{OutcomeLabel, UNKNOWN};
use crate::telemetry::trace_parent;
use crate::transport::peer::Peer;

/// Events of one request with the same rule or reason that are logged; the others are counted.
const MAX_ALIKE: usize = 4;

/// What is collected for the log while a request is served. Nothing for one that conforms, unless
/// the access log is on.
#[derive(Debug)]
pub(crate) struct Report {
    access: AccessLog,
    /// It does not conform, or has a warning.
    notable: Cell<bool>,
    /// Who sent it; found out only for what shows it.
    caller: OnceCell<Box<Caller>>,
    /// The one that the client sent, or one that was made.
    id: OnceCell<Box<RequestId>>,
    /// Events that will be logged when it is known how the request ends.
    events: OnceCell<Vec<Finding>>,
    /// For the access log.
    measured: Option<Box<Measured>>,
}

/// What only the access log says.
#[derive(Debug, Default)]
struct Measured {
    request_bytes: Option<u64>,
    rows: Option<u64>,
    batch_rows: Option<u64>,
    queue: Cell<Option<Duration>>,
    upstream: Cell<Option<Duration>>,
}

/// What an event says about the verdict or the refusal.
#[derive(Debug)]
struct Finding {
    outcome: &'static str,
    why: Why,
    input: String,
    text: String,
    left_out: u32,
}

/// How a request ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct End<'a> {
    pub(super) place: Place<'a>,
    pub(super) code: Code,
    pub(super) duration: Duration,
    pub(super) fault: Option<&'a Fault>,
    /// The trace of its spans, if it is traced.
    pub(super) trace_id: Option<[u8; 16]>,
}

/// Where a request was served, and for whom.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) shard: &'a Shard,
    pub(crate) config: &'a Arc<Config>,
    pub(crate) peer: &'a Peer,
}

impl Place<'_> {
    /// Finds out who sent a request with these headers, for its metrics and the log.
    pub(crate) fn identify(&self, headers: &HeaderMap, metrics: &RequestMetrics) {
        metrics.caller(|| Caller::new(self.shard, self.config, self.peer, headers));
    }
}

impl Report {
    pub(super) fn new(access: AccessLog) -> Self {
        Self {
            access,
            notable: Cell::new(false),
            caller: OnceCell::new(),
            id: OnceCell::new(),
            events: OnceCell::new(),
            measured: (access != AccessLog::Off).then(Box::default),
        }
    }

    /// Whether the request may have a line in the access log, so that what it says is collected.
    pub(crate) fn has_access(&self) -> bool {
        self.measured.is_some()
    }

    /// The client gave the request an id.
    pub(crate) fn set_id(&self, id: &HeaderValue) {
        self.id.set(Box::new(RequestId::sent(id))).ok();
    }

    pub(crate) fn set_request_bytes(&mut self, bytes: usize) {
        if let Some(measured) = &mut self.measured {
            measured.request_bytes = Some(bytes as u64);
        }
    }

    pub(super) fn set_rows(&mut self, rows: impl FnOnce() -> u64) {
        if let Some(measured) = &mut self.measured {
            measured.rows = Some(rows());
        }
    }

    /// The request shared a run of so many rows.
    pub(super) fn set_batch_rows(&mut self, rows: u64) {
        if let Some(measured) = &mut self.measured {
            measured.batch_rows = Some(rows);
        }
    }

    /// The request waited for a permit.
    pub(super) fn set_queue(&self, waited: Duration) {
        if let Some(measured) = &self.measured {
            measured.queue.set(Some(waited));
        }
    }

    /// The request's last call to TF Serving took so long.
    pub(super) fn set_upstream(&self, took: Duration) {
        if let Some(measured) = &self.measured {
            measured.upstream.set(Some(took));
        }
    }

    /// Who sent the request; `find` runs once at most.
    pub(crate) fn caller(&self, find: impl FnOnce() -> Caller) -> &Caller {
        self.caller.get_or_init(|| Box::new(find()))
    }

    /// Who sent the request, if that was found out; otherwise empty.
    pub(super) fn client_name(&self) -> &str {
        self.caller.get().map_or("", |caller| caller.client.name())
    }

    /// The id that the client gave the request, or one that is made now.
    pub(crate) fn request_id(&self) -> &str {
        self.id.get_or_init(|| Box::new(RequestId::made())).as_str()
    }

    /// Notes the events of a verdict that is not plainly conforming, as far as they are to be
    /// logged.
    fn note(&self, cx: &RequestContext<'_>, outcome: &'static str, verdict: &Verdict) {
        self.notable.set(true);
        if !Event::is_enabled() {
            return;
        }
        let mut found: SmallVec<[Group; 4]> = SmallVec::new();
        each(verdict, |why, _, _| match found.iter_mut().find(|group| group.why == why) {
            Some(group) => group.events += 1,
            None => found.push(Group { why, events: 1, left_out: None }),
        });
        let client = cx.client().name();
        for group in &mut found {
            let before = cx.shard.events.admit(client, group.why, group.events);
            let beyond = group.events.saturating_sub(MAX_ALIKE as u32);
            group.left_out = before.map(|before| before.saturating_add(beyond));
        }
        if found.iter().all(|group| group.left_out.is_none()) {
            return;
        }
        // A warning is one beside a repair, too.
        let repaired = verdict.problems.is_empty();
        let mut findings = Vec::new();
        each(verdict, |why, input, text| {
            let alike = findings.iter().filter(|finding: &&Finding| finding.why == why).count();
            let left_out = found.iter().find(|group| group.why == why).and_then(|group| group.left_out);
            if let Some(left_out) = left_out.filter(|_| alike < MAX_ALIKE) {
                let left_out = if alike == 0 { left_out } else { 0 };
                let outcome = if repaired && matches!(why, Why::Reason(_)) { "warned" } else { outcome };
                findings.push(Finding { outcome, why, input: input.to_owned(), text: text(), left_out });
            }
        });
        self.events.set(findings).ok();
    }

    /// Notes one event about a whole request that is forwarded.
    pub(super) fn note_one(
        &self,
        cx: &RequestContext<'_>,
        outcome: &'static str,
        reason: Reason,
        text: String,
    ) {
        self.notable.set(true);
        self.note_reason(cx.shard, cx.client().name(), outcome, reason.as_str(), text);
    }

    fn note_reason(
        &self,
        shard: &Shard,
        client: &str,
        outcome: &'static str,
        reason: &'static str,
        text: impl ToString,
    ) {
        let why = Why::Reason(reason);
        if !Event::is_enabled() {
            return;
        }
        if let Some(left_out) = shard.events.admit(client, why, 1) {
            let finding = Finding { outcome, why, input: String::new(), text: text.to_string(), left_out };
            self.events.set(vec![finding]).ok();
        }
    }
}

/// The events of a request with the same rule or reason.
struct Group {
    why: Why,
    events: u32,
    /// `None`: they are not logged.
    left_out: Option<u32>,
}

/// Calls `visit` for each repair and warning of a verdict, or else for each of its problems. The
/// text is made on demand.
fn each(verdict: &Verdict, mut visit: impl FnMut(Why, &str, &dyn Fn() -> String)) {
    for problem in &verdict.problems {
        visit(Why::Reason(problem.reason.as_str()), &problem.input, &|| problem.to_string());
    }
    if !verdict.problems.is_empty() {
        return;
    }
    for step in &verdict.plan.steps {
        visit(Why::Rule(step.rule.name), &step.input, &|| change(step));
    }
    for warning in &verdict.warnings {
        visit(Why::Reason(warning.reason.as_str()), &warning.input, &|| warning.text.clone());
    }
}

/// Notes what a verdict found, for the events at the end of the request. `outcome` is as the status
/// page shows it.
pub(super) fn note(cx: &RequestContext<'_>, outcome: &'static str, verdict: &Verdict) {
    let outcome = match outcome {
        "would repair" => OutcomeLabel::WouldRepair.as_str(),
        "would reject" => OutcomeLabel::WouldReject.as_str(),
        outcome => outcome,
    };
    cx.metrics.report.note(cx, outcome, verdict);
}

/// Logs the events of a request that has ended, and its line in the access log.
pub(super) fn log(metrics: &RequestMetrics, outcome: OutcomeLabel, end: End<'_>) {
    let report = &metrics.report;
    let Place { shard, peer, .. } = end.place;
    if let Some(fault) = end.fault.filter(|fault| fault.is_refusal() && report.events.get().is_none())
        // What a verdict found is noted, even if it is not to be logged now.
        && !(report.notable.get() && matches!(fault, Fault::Refused { .. }))
    {
        let client = report.caller(|| Caller::unknown(shard)).client.name();
        let reason =
            fault.reason().map_or_else(|| crate::telemetry::metrics::code_name(fault.code()), Reason::as_str);
        report.note_reason(shard, client, outcome.as_str(), reason, fault);
    }
    let is_logged = match report.access {
        AccessLog::Off => false,
        AccessLog::Problems => report.notable.get() || end.code != Code::Ok,
        AccessLog::All => true,
    };
    let events = report.events.get();
    if events.is_none() && !is_logged {
        return;
    }
    let caller = report.caller(|| Caller::unknown(shard));
    let (client, peer) = (caller.client.name(), peer.name());
    let made;
    let request_id = if let Some(id) = report.id.get() {
        id.as_str()
    } else {
        // Not kept: nobody asks for it again.
        made = RequestId::made();
        made.as_str()
    };
    let traced = end.trace_id.map(trace_parent::digits);
    let traced = traced.as_ref().and_then(|digits| std::str::from_utf8(digits).ok());
    let trace_id = traced.or_else(|| caller.trace_id());
    let (code, duration) = (end.code, end.duration);
    let [model, version, signature] = metrics.model().labels().map(|label| &**label);
    if let Some(events) = events {
        let user_agent = caller.user_agent();
        // A name that only the client knows is no label, but the log may have it.
        let said = |key| end.fault.and_then(|fault| fault.fact(key));
        let named = |label, key| if label == UNKNOWN { said(key).unwrap_or(label) } else { label };
        let (model, signature) = (named(model, "model"), named(signature, "signature"));
        for Finding { outcome, why, input, text, left_out } in events {
            let event = Event {
                outcome,
                client,
                peer,
                user_agent: user_agent.as_deref(),
                model,
                version,
                signature,
                input,
                why: *why,
                text,
                code,
                duration,
                request_id,
                trace_id,
                left_out: *left_out,
            };
            event.log();
        }
    }
    if let Some(measured) = report.measured.as_deref().filter(|_| is_logged) {
        let access = Access {
            client,
            peer,
            model,
            version,
            signature,
            method: metrics.method,
            outcome,
            code,
            duration,
            upstream: measured.upstream.get(),
            queue: measured.queue.get(),
            request_bytes: measured.request_bytes,
            rows: measured.rows,
            batch_rows: measured.batch_rows,
            request_id,
            trace_id,
        };
        access.log();
    }
}
