//! From a model spec to the signatures that its requests are judged by.
use std::sync::Arc;
use std::time::SystemTime;

use super::context::RequestContext;
use crate::config::UndeclaredModels;
use crate::explain::{self, Context};
use crate::fault::Fault;
use crate::models::catalog::ModelVersion;
use crate::repair::Reason;
use crate::telemetry::recent::Entry;
use crate::wire::ModelSpec;

/// TF Serving's own words for what it cannot look up (`server_core.cc`).
const MISSING_SPEC: &str = "Missing ModelSpec";
const MISSING_NAME: &str = "ModelSpec has no name specified.";

/// Read from the catalog without a lock if it is there. Otherwise TF Serving is asked, once however
/// many requests wait.
pub(super) async fn resolve(cx: &RequestContext<'_>, spec: &ModelSpec) -> Result<Arc<ModelVersion>, Fault> {
    if let Some(version) = cx.shard.catalog.lookup(spec) {
        return Ok(version);
    }
    // Boxed: it happens once a model, and every request would carry its size.
    Box::pin(fetch(cx, spec)).await
}

async fn fetch(cx: &RequestContext<'_>, spec: &ModelSpec) -> Result<Arc<ModelVersion>, Fault> {
    if !spec.present {
        return Err(Fault::NoModel { text: MISSING_SPEC });
    }
    if spec.name.is_empty() {
        return Err(Fault::NoModel { text: MISSING_NAME });
    }
    let config = cx.config;
    if config.undeclared_models == UndeclaredModels::Refuse && !config.is_declared(&spec.name) {
        remember(cx, &spec.name, "not in the sidecar's configuration");
        return Err(Fault::ModelUndeclared { model: spec.name.clone() });
    }
    cx.progress.set("waiting for the signatures of the model");
    let resolved = cx.shard.refresher.resolve(&spec.name, &spec.version).await;
    if let Err(Fault::ModelUnknown { text, .. }) = &resolved
        && !config.is_declared(&spec.name)
        && cx.shard.catalog.entry(&spec.name).is_none()
    {
        remember(cx, &spec.name, text);
    }
    resolved.map_err(|fault| explained(cx, spec, fault))
}

/// For the operators' page: a model that only clients know.
fn remember(cx: &RequestContext<'_>, model: &str, why: &str) {
    let entry = Entry {
        outcome: "rejected",
        kind: Reason::ModelUnknown.as_str(),
        model,
        signature: "",
        client: cx.client().name(),
        lines: &[why.to_owned()],
    };
    cx.shard.unknown_models.push(entry, SystemTime::now());
}

/// What TF Serving says of the model, followed by what it means, as in any other of its errors.
fn explained(cx: &RequestContext<'_>, spec: &ModelSpec, mut fault: Fault) -> Fault {
    let policy = cx.config.policy(&spec.name).for_signature(spec.effective_signature());
    if let Fault::ModelUnknown { text, .. } | Fault::Upstream { message: text, .. } = &mut fault
        && policy.explain_upstream
        && let Some(meaning) = explain::explain(text, &Context::default())
    {
        *text += &meaning.to_string();
    }
    fault
}
