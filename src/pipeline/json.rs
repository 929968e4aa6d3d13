//! Requests in JSON: read into a message by the signature of their model, and run as any other.
//!
//! In the modes that change nothing, the answer is the one of TF Serving's own REST API, also where
//! it refuses the body or reads it silently wrong.
use std::sync::Arc;

use bytes::Bytes;
use tonic::Code;

use super::answer::Answer;
use super::context::{RequestContext, RequestMessage};
use super::json_examples::{malformed, run_examples};
use super::offload::MAX_INLINE;
use super::resolve::resolve;
use super::run::run;
use super::stages;
use super::text_findings::{problems, set_places, text_findings};
use super::verdict::{count, first_input, remember};
use crate::config::Config;
use crate::fault::{Fault, Theirs};
use crate::models::catalog::ModelVersion;
use crate::proto::tensorflow::serving::{self, model_spec};
use crate::repair::policy::ModelPolicy;
use crate::repair::text::{Allowed, TextFindings};
use crate::repair::{Action, Mode, Outcome, Plan, Problem, Verdict, signature_of};
use crate::rest::read::{self, Findings, Options, Read};
use crate::rest::theirs;
use crate::rest::write::Format;
use crate::signature::Signatures;
use crate::telemetry::metrics::Method;
use crate::wire::{DEFAULT_SIGNATURE, ModelSpec, Rope, VersionChoice};

/// A request whose body is JSON.
#[derive(Debug)]
pub(crate) struct JsonRequest {
    pub method: Method,
    /// Without the signature, which the body names.
    pub spec: ModelSpec,
    pub body: Bytes,
}

/// How the answer is to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    Predict(Format),
    Classify,
    Regress,
}

/// Serves a request.
///
/// # Errors
/// The request is refused, or it cannot be answered.
pub(crate) async fn run_json(
    cx: &mut RequestContext<'_>,
    request: &JsonRequest,
) -> Result<(Answer, Layout), Fault> {
    let renamed: JsonRequest;
    let request = match cx.config.rename_model.get(&request.spec.name) {
        Some(new) => {
            let mut spec = request.spec.clone();
            spec.rename(new);
            renamed = JsonRequest { method: request.method, spec, body: request.body.clone() };
            &renamed
        }
        None => request,
    };
    match request.method {
        Method::Classify => Ok((run_examples(cx, request).await?, Layout::Classify)),
        Method::Regress => Ok((run_examples(cx, request).await?, Layout::Regress)),
        _ => run_predict(cx, request).await,
    }
}

async fn run_predict(cx: &mut RequestContext<'_>, request: &JsonRequest) -> Result<(Answer, Layout), Fault> {
    let mut version = match resolve(cx, &request.spec).await {
        Ok(version) => version,
        Err(fault) => return Err(syntax_first(cx, request, fault).await?),
    };
    loop {
        let outcome = run_for(cx, request, &version).await;
        // The message may have been made for a signature that is not served any more.
        if let Err(Fault::Refused { .. }) = &outcome
            && let Some(newer) = cx.shard.catalog.lookup(&request.spec)
            && newer.signatures != version.signatures
        {
            version = newer;
            continue;
        }
        return outcome;
    }
}

async fn run_for(
    cx: &mut RequestContext<'_>,
    request: &JsonRequest,
    version: &Arc<ModelVersion>,
) -> Result<(Answer, Layout), Fault> {
    let (read, name) = read_body(cx, request, version, false).await?;
    let policy = Arc::clone(cx.config);
    let policy = policy.policy(&version.model).for_signature(&name);
    let repairs = cx.options.mode.max(policy.mode) >= Mode::Repair || cx.options.dry_run;
    let (read, text) = match read {
        Ok(read) => {
            let text = text_findings(&read, policy);
            let sent = Some(read.signature_name.as_str()).filter(|name| !name.is_empty());
            let renamed = sent.unwrap_or(DEFAULT_SIGNATURE) != read.signature.name;
            if repairs || (read.findings.is_empty() && !renamed) {
                (read, text)
            } else {
                // TF Serving's REST API may refuse what its gRPC API would run.
                cx.refusal = served(cx, request, version).await?;
                let as_served = match cx.refusal {
                    None => read_body(cx, request, version, true).await?.0.ok(),
                    Some(_) => None,
                };
                (as_served.unwrap_or(read), text)
            }
        }
        Err(findings) => {
            let wrong = problems(&findings, &name, &version.signatures);
            let theirs = served(cx, request, version).await?;
            let as_served = match theirs {
                None if !repairs => read_body(cx, request, version, true).await?.0.ok(),
                _ => None,
            };
            let Some(read) = as_served else {
                let answer = unreadable(cx, version, &name, wrong, theirs)?;
                return Ok((answer, Layout::Predict(Format::Column)));
            };
            // TF Serving reads it silently wrong.
            let text = TextFindings { problems: wrong, ..text_findings(&read, policy) };
            (read, text)
        }
    };
    let layout = Layout::Predict(match read.format {
        read::Format::Row { .. } => Format::Row,
        read::Format::Column => Format::Column,
    });
    let spec = encode(request.spec.clone().for_signature(&read.signature_name));
    let message = message(cx, read.message(&spec))?;
    drop(read);
    cx.text = Some(Arc::new(text));
    let outcome = run(cx, &message).await;
    drop(message);
    match outcome {
        Ok(answer) => Ok((answer, layout)),
        Err(Fault::Refused { model, signature, mut problems, code, theirs: None }) => {
            let theirs = served(cx, request, version).await?;
            problems = placed(cx, request, version, problems).await?;
            Err(Fault::Refused { model, signature, problems, code, theirs })
        }
        Err(fault) => Err(fault),
    }
}

/// Reads the body, as TF Serving does with `as_served`. Also gives the name of the signature that
/// it is read by.
async fn read_body(
    cx: &RequestContext<'_>,
    request: &JsonRequest,
    version: &Arc<ModelVersion>,
    as_served: bool,
) -> Result<(Result<Read, Findings>, String), Fault> {
    let (config, version, body) = (Arc::clone(cx.config), Arc::clone(version), request.body.clone());
    let work_on =
        move || read_predict(&body, &version.signatures, &config, config.policy(&version.model), as_served);
    work(cx, request.body.len(), work_on).await
}

/// Reads the body of a Predict request under the policy of its model; as TF Serving does with
/// `as_served`. Also gives the name of the signature that it is read by.
pub(crate) fn read_predict(
    body: &[u8],
    signatures: &Signatures,
    config: &Config,
    policy: &ModelPolicy,
    as_served: bool,
) -> (Result<Read, Findings>, String) {
    let mut name = DEFAULT_SIGNATURE.to_owned();
    loop {
        let Allowed { string_numbers, bool_numbers } = Allowed::by(policy.for_signature(&name));
        let options = Options {
            integral_floats: true,
            string_numbers,
            bool_numbers,
            max_elements: config.request_limits().max_elements,
            max_bytes: config.limits.max_message_bytes as u64,
            as_served,
        };
        let chosen = std::cell::RefCell::new(name.clone());
        let choose = |sent: &str| {
            let found = signature_of(sent, signatures, policy)?;
            found.name.clone_into(&mut chosen.borrow_mut());
            Some(found)
        };
        let read = read::read(body, &choose, &options);
        let chosen = chosen.into_inner();
        // Options are those of the signature, which the body names.
        let same = Allowed::by(policy.for_signature(&chosen)) == Allowed { string_numbers, bool_numbers };
        if same || chosen == name {
            return (read, chosen);
        }
        name = chosen;
    }
}

/// The problems of a message with their places in the body, which is read once more for them.
async fn placed(
    cx: &RequestContext<'_>,
    request: &JsonRequest,
    version: &Arc<ModelVersion>,
    mut problems: Vec<Problem>,
) -> Result<Vec<Problem>, Fault> {
    if let Ok(read) = read_body(cx, request, version, false).await?.0 {
        let body = request.body.clone();
        let place = move || {
            set_places(&mut problems, &read, &body);
            problems
        };
        problems = work(cx, request.body.len(), place).await?;
    }
    Ok(problems)
}

/// The refusal of the body by TF Serving's REST API, if it is refused before the model runs.
async fn served(
    cx: &RequestContext<'_>,
    request: &JsonRequest,
    version: &Arc<ModelVersion>,
) -> Result<Option<Box<Theirs>>, Fault> {
    let (version, body) = (Arc::clone(version), request.body.clone());
    let refusal = work(cx, body.len(), move || theirs::refusal(&body, &version.signatures)).await?;
    Ok(refusal.as_ref().map(of).map(Box::new))
}

/// The fault for a model that cannot be resolved. TF Serving reads the body before it looks for the
/// model, so its refusal of a body that is no JSON comes first.
async fn syntax_first(cx: &RequestContext<'_>, request: &JsonRequest, fault: Fault) -> Result<Fault, Fault> {
    let body = request.body.clone();
    let refuse =
        move || theirs::Document::read(&body).err().map(|refusal| (malformed(&refusal, &body), refusal));
    let Some((wrong, refusal)) = work(cx, request.body.len(), refuse).await? else { return Ok(fault) };
    Ok(refused(request, wrong, Some(Box::new(of(&refusal)))))
}

/// The fault for a body of a model that is not known.
pub(super) fn refused(request: &JsonRequest, problem: Problem, theirs: Option<Box<Theirs>>) -> Fault {
    let (model, signature) = (request.spec.name.clone(), String::new());
    Fault::Refused { model, signature, problems: vec![problem], code: Code::InvalidArgument, theirs }
}

/// What becomes of a body that cannot be read: refused, or in the modes that change nothing
/// answered as by TF Serving.
pub(super) fn unreadable(
    cx: &mut RequestContext<'_>,
    version: &Arc<ModelVersion>,
    signature: &str,
    problems: Vec<Problem>,
    theirs: Option<Box<Theirs>>,
) -> Result<Answer, Fault> {
    cx.count_request();
    cx.metrics.set_model(version.metrics(signature));
    let policy = cx.config.policy(&version.model).for_signature(signature);
    let mode = cx.options.mode.max(policy.mode);
    let answers = mode <= Mode::Observe && !cx.options.dry_run && theirs.is_some();
    let (action, outcome) = match mode {
        Mode::Off if answers => (Action::Forward, Outcome::Passed),
        _ if answers => (Action::Forward, Outcome::WouldReject),
        _ => (Action::Refuse, Outcome::Rejected),
    };
    let verdict = Verdict {
        signature: version.signatures.get(signature).cloned(),
        mode,
        plan: Plan::default(),
        problems,
        warnings: Vec::new(),
        action,
        outcome,
    };
    cx.metrics.set_outcome(&verdict);
    if mode > Mode::Off || !answers {
        remember(cx, version, &verdict);
    }
    match theirs {
        Some(theirs) if answers => {
            count(cx, &verdict);
            Ok(Answer::refused(&theirs))
        }
        theirs => {
            cx.metrics.set_rejected_input(first_input(&verdict));
            let code = theirs.as_ref().map_or(Code::InvalidArgument, |theirs| theirs.code);
            let (model, signature) = (version.model.clone(), signature.to_owned());
            Err(Fault::Refused { model, signature, problems: verdict.problems, code, theirs })
        }
    }
}

/// The message to run, charged.
pub(super) fn message(cx: &mut RequestContext<'_>, payload: Rope) -> Result<RequestMessage, Fault> {
    cx.ticket.reserve(payload.len() as u64)?;
    Ok(RequestMessage { frames: stages::frames(cx, payload.clone())?, payload })
}

/// Pure work on a body of so many bytes.
pub(super) async fn work<T: Send + 'static>(
    cx: &RequestContext<'_>,
    bytes: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Fault> {
    if bytes <= MAX_INLINE {
        return Ok(work());
    }
    cx.progress.set("reading the JSON");
    cx.shard.offload.run(work).await
}

pub(super) fn of(refusal: &theirs::Refusal) -> Theirs {
    Theirs { code: Code::from_i32(refusal.code.number()), text: refusal.lossy().into_owned() }
}

/// The message `ModelSpec`.
pub(crate) fn encode(spec: ModelSpec) -> Vec<u8> {
    let name = spec.sent_name().to_owned();
    let version_choice = match spec.version {
        VersionChoice::Latest => None,
        VersionChoice::Version(version) => Some(model_spec::VersionChoice::Version(version)),
        VersionChoice::Label(label) => Some(model_spec::VersionChoice::VersionLabel(label)),
    };
    prost::Message::encode_to_vec(&serving::ModelSpec {
        name,
        signature_name: spec.signature_name,
        version_choice,
    })
}
