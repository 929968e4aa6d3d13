//! Probes of new versions: one request of zeros for each signature, before the version is ready.
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tonic::Code;

use super::metadata_client::MetadataClient;
use super::problems::ModelProblem;
use crate::config::Config;
use crate::doctor::Level;
use crate::doctor::probe::{judge, zeros};
use crate::fault::Fault;
use crate::signature::Signatures;
use crate::tasks::spawn_critical;
use crate::telemetry::metrics::code_name;
use crate::wire::Rope;

/// A version that fails is probed again after this time.
const AGAIN: Duration = Duration::from_secs(10);
/// Signatures of one version that are probed.
const MAX_SIGNATURES: usize = 64;

/// What the probes of the declared models found. A cheap handle.
///
/// Probes run beside the refreshes of models: a first call may take long, and requests wait for a
/// refresh.
#[derive(Debug, Clone, Default)]
pub(super) struct Probes(Rc<RefCell<HashMap<String, Probed>>>);

#[derive(Debug, Default)]
struct Probed {
    /// The version that is being probed, and the connection that it was seen over.
    running: Option<Server>,
    last: Option<Answered>,
}

/// A version, and the generation of the connection to the server that has it.
type Server = (i64, u64);

#[derive(Debug)]
struct Answered {
    by: Server,
    at: Instant,
    problems: Vec<ModelProblem>,
}

impl Probes {
    /// Starts to probe the highest version of a declared model unless it has answered already, and
    /// notifies `done` at the end. Returns why the model is not ready: the version does not answer,
    /// or is probed and none before it has answered.
    pub(super) fn check(
        &self,
        client: &MetadataClient,
        config: &Config,
        model: &str,
        highest: Option<(i64, &Signatures)>,
        done: &Arc<Notify>,
    ) -> Vec<ModelProblem> {
        let Some((version, signatures)) = highest.filter(|_| config.is_declared(model)) else {
            return Vec::new();
        };
        let policy = config.policy(model);
        let wanted = signatures.servable().filter(|signature| policy.for_signature(&signature.name).probe);
        // What cannot be probed is not held back.
        let wanted = wanted.take(MAX_SIGNATURES);
        let wanted: Vec<(String, Rope)> = wanted
            .filter_map(|signature| {
                Some((signature.name.clone(), zeros(model, Some(version), signature).ok()?))
            })
            .collect();
        let mut all = self.0.borrow_mut();
        if wanted.is_empty() {
            all.remove(model);
            return Vec::new();
        }
        let server = (version, client.generation());
        let known = all.entry(model.to_owned()).or_default();
        let last = known.last.as_ref();
        let is_fresh =
            |last: &&Answered| last.by == server && (last.problems.is_empty() || last.at.elapsed() < AGAIN);
        if !last.is_some_and(|last| is_fresh(&last)) && known.running != Some(server) {
            known.running = Some(server);
            let (this, client, done) = (self.clone(), client.clone(), Arc::clone(done));
            let model = model.to_owned();
            spawn_critical("probe", async move {
                let problems = ask(&client, version, wanted).await;
                this.end(&model, Answered { by: server, at: Instant::now(), problems });
                done.notify_one();
            });
        }
        match last {
            Some(last) if last.by.0 == version || last.problems.is_empty() => last.problems.clone(),
            _ => vec![ModelProblem::of_running_probe(version)],
        }
    }

    /// Notes what a probe has found, unless another one was started meanwhile.
    fn end(&self, model: &str, answered: Answered) {
        if let Some(known) = self.0.borrow_mut().get_mut(model).filter(|it| it.running == Some(answered.by)) {
            *known = Probed { running: None, last: Some(answered) };
        }
    }
}

/// Sends the requests of the signatures one after the other, and returns what fails.
async fn ask(client: &MetadataClient, version: i64, requests: Vec<(String, Rope)>) -> Vec<ModelProblem> {
    let mut problems = Vec::new();
    for (name, request) in requests {
        let Err(fault) = client.predict(request).await else { continue };
        let text = match &fault {
            Fault::Upstream { code, message } => {
                if judge(message, *code == Code::InvalidArgument) != Level::Fail {
                    continue;
                }
                format!("signature '{name}': {}: {message}", code_name(*code))
            }
            other => format!("signature '{name}': {other}"),
        };
        problems.push(ModelProblem::of_probe(version, &text));
    }
    problems
}
