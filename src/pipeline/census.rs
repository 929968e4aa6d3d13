//! The census: the form of each request, and how a form in JSON is judged.
use super::context::RequestContext;
use super::json::{encode, read_predict};
use super::operation::Operation;
use super::text_findings::{problems, text_findings};
use crate::census::{Api, Form, Method, Request, Seen, key};
use crate::config::Config;
use crate::models::catalog::ModelVersion;
use crate::repair::policy::ModelPolicy;
use crate::repair::text::TextRows;
use crate::repair::{self, Action, Mode, Outcome, Plan, Verdict};
use crate::signature::Signatures;
use crate::telemetry::metrics;
use crate::wire::{ModelSpec, PredictView, VersionChoice};

/// Counts the form of a request that was judged.
#[inline]
pub(super) fn take_form(
    cx: &RequestContext<'_>,
    operation: &Operation,
    version: &ModelVersion,
    verdict: &Verdict,
) {
    let Some(client) = cx.metrics.census_client() else { return };
    // Mode off checks nothing, and a dry run is no traffic.
    if verdict.mode == Mode::Off || cx.options.dry_run {
        return;
    }
    let request = match operation {
        Operation::Predict(view) => Request::Predict(view),
        Operation::Infer(view) => Request::Infer(view),
    };
    let seen = Seen {
        client,
        model: &version.model,
        version: version.version,
        method: method(cx.metrics.method),
        api: api(cx),
        raised: (cx.options.mode > Mode::Off).then_some(cx.options.mode),
        request,
        verdict,
    };
    let census = &cx.shard.census;
    let key = key(census.seed(), &seen);
    let now = cx.metrics.arrived().into_std();
    census.count(&cx.shard.recently, client, &key, now, || seen.form(cx.client().name()));
}

fn method(method: metrics::Method) -> Method {
    match method {
        metrics::Method::Classify => Method::Classify,
        metrics::Method::Regress => Method::Regress,
        metrics::Method::MultiInference => Method::MultiInference,
        _ => Method::Predict,
    }
}

fn api(cx: &RequestContext<'_>) -> Api {
    match cx.text.as_deref().map(|text| text.rows) {
        None => Api::Grpc,
        Some(None) => Api::Columns,
        Some(Some(TextRows { is_plain: true, .. })) => Api::PlainRows,
        Some(Some(TextRows { is_plain: false, .. })) => Api::Rows,
    }
}

/// Judges the JSON body of a Predict request of a form, as if it came now.
pub(crate) fn judge_body(
    config: &Config,
    signatures: &Signatures,
    policy: &ModelPolicy,
    form: &Form,
    body: &[u8],
) -> Option<Verdict> {
    let (read, name) = read_predict(body, signatures, config, policy, false);
    let read = match read {
        Ok(read) => read,
        Err(findings) => {
            let configured = policy.for_signature(&name).mode;
            let mode = form.raised.map_or(configured, |raised| raised.max(configured));
            let (action, outcome) = match mode {
                Mode::Off => (Action::Forward, Outcome::Passed),
                Mode::Observe => (Action::Forward, Outcome::WouldReject),
                Mode::Repair | Mode::Strict => (Action::Refuse, Outcome::Rejected),
            };
            let (signature, plan) = (signatures.get(&name).cloned(), Plan::default());
            let (problems, warnings) = (problems(&findings, &name, signatures), Vec::new());
            return Some(Verdict { signature, mode, plan, problems, warnings, action, outcome });
        }
    };
    let text = text_findings(&read, policy.for_signature(&name));
    let spec = ModelSpec::of(form.model.clone(), VersionChoice::Latest).for_signature(&read.signature_name);
    let message = read.message(&encode(spec));
    let view = PredictView::scan(&message).ok()?;
    let (limits, raised) = (config.request_limits(), form.raised);
    let (message, view, text) = (&message, &view, Some(&text));
    Some(repair::judge(&repair::Request { message, view, signatures, policy, limits, raised, text }))
}
