//! From a model spec to the signatures that its requests are held to.
use std::sync::Arc;

use super::Shard;
use super::call::Call;
use crate::config::UndeclaredModels;
use crate::explain::{self, Context};
use crate::fault::Fault;
use crate::models::catalog::ModelVersion;
use crate::wire::ModelSpec;

/// TF Serving's own words for what it cannot look up (`server_core.cc`).
const MISSING_SPEC: &str = "Missing ModelSpec";
const MISSING_NAME: &str = "ModelSpec has no name specified.";

/// Read without a lock when the catalog has it; otherwise TF Serving is asked, once however many
/// requests wait.
pub async fn resolve(shard: &Shard, call: &Call, spec: &ModelSpec) -> Result<Arc<ModelVersion>, Fault> {
    if let Some(served) = shard.catalog.lookup(spec) {
        return Ok(served);
    }
    // Boxed: it happens once a model, and every request would carry its room.
    Box::pin(ask(shard, call, spec)).await
}

async fn ask(shard: &Shard, call: &Call, spec: &ModelSpec) -> Result<Arc<ModelVersion>, Fault> {
    if !spec.present {
        return Err(Fault::malformed(MISSING_SPEC));
    }
    if spec.name.is_empty() {
        return Err(Fault::malformed(MISSING_NAME));
    }
    if shard.config.undeclared_models == UndeclaredModels::Refuse && !shard.config.is_declared(&spec.name) {
        return Err(Fault::ModelUndeclared { model: spec.name.clone() });
    }
    call.waits_for("waiting for the signatures of the model");
    shard.refresher.resolve(&spec.name, &spec.version).await.map_err(|fault| explained(shard, spec, fault))
}

/// What TF Serving says of the model, followed by what it means, as in any other of its errors.
fn explained(shard: &Shard, spec: &ModelSpec, mut fault: Fault) -> Fault {
    let policy = shard.config.policy(&spec.name).for_signature(spec.effective_signature());
    if let Fault::ModelUnknown { text, .. } | Fault::Upstream { message: text, .. } = &mut fault
        && policy.explain_upstream
        && let Some(meaning) = explain::explain(text, &Context::default())
    {
        *text += &meaning.to_string();
    }
    fault
}
