//! Probes of new versions: one request of zeros for each signature, before the version is ready.
use std::cell::RefCell;
use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;
use tonic::Code;

use super::metadata_client::MetadataClient;
use super::problems::ModelProblem;
use crate::config::Config;
use crate::doctor::Level;
use crate::doctor::probe::{judge, zeros};
use crate::fault::Fault;
use crate::signature::Signatures;
use crate::telemetry::metrics::code_name;

/// A version that fails is probed again after this time.
const AGAIN: Duration = Duration::from_secs(10);
/// Signatures of one version that are probed.
const MAX_SIGNATURES: usize = 64;

/// What the probes of the declared models found.
#[derive(Debug, Default)]
pub(super) struct Probes(RefCell<HashMap<String, Probed>>);

#[derive(Debug)]
struct Probed {
    version: i64,
    at: Instant,
    problems: Vec<ModelProblem>,
}

impl Probes {
    /// Probes the highest version of a declared model unless it has answered already. Returns why it
    /// does not answer.
    pub(super) async fn check(
        &self,
        client: &MetadataClient,
        config: &Config,
        model: &str,
        highest: Option<(i64, &Signatures)>,
    ) -> Vec<ModelProblem> {
        let Some((version, signatures)) = highest.filter(|_| config.is_declared(model)) else {
            return Vec::new();
        };
        let policy = config.policy(model);
        let wanted = signatures.servable().filter(|signature| policy.for_signature(&signature.name).probe);
        let wanted: Vec<_> = wanted.take(MAX_SIGNATURES).collect();
        if wanted.is_empty() {
            self.0.borrow_mut().remove(model);
            return Vec::new();
        }
        if let Some(known) = self.0.borrow().get(model).filter(|known| {
            known.version == version && (known.problems.is_empty() || known.at.elapsed() < AGAIN)
        }) {
            return known.problems.clone();
        }
        let mut problems = Vec::new();
        for signature in wanted {
            // What cannot be probed is not held back.
            let Ok(request) = zeros(model, Some(version), signature) else { continue };
            let Err(fault) = client.predict(request).await else { continue };
            let text = match &fault {
                Fault::Upstream { code, message } => {
                    if judge(message, *code == Code::InvalidArgument) != Level::Fail {
                        continue;
                    }
                    format!("signature '{}': {}: {message}", signature.name, code_name(*code))
                }
                other => format!("signature '{}': {other}", signature.name),
            };
            problems.push(ModelProblem::of_probe(version, &text));
        }
        let probed = Probed { version, at: Instant::now(), problems: problems.clone() };
        self.0.borrow_mut().insert(model.to_owned(), probed);
        problems
    }
}
