//! Keeps the catalog true: asks TF Serving for versions and signatures, once however many requests wait. Runs on the control thread.
use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::{JoinSet, spawn_local};
use tokio::time::Instant;
use tonic::Code;

use super::backoff::Backoff;
use super::catalog::{Catalog, Entry, Observation, Served};
use super::pool::Pool;
use super::unary::call;
use crate::config::Config;
use crate::fault::Fault;
use crate::proto::tensorflow::serving::model_spec::VersionChoice as Choice;
use crate::proto::tensorflow::serving::model_version_status::State;
use crate::proto::tensorflow::serving::{
    GetModelMetadataRequest, GetModelMetadataResponse, GetModelStatusRequest, GetModelStatusResponse,
    ModelSpec,
};
use crate::signature::Signatures;
use crate::signature::metadata::METADATA_FIELD;
use crate::telemetry::metrics;
use crate::wire::VersionChoice;

const METADATA: &str = "/tensorflow.serving.PredictionService/GetModelMetadata";
const STATUS: &str = "/tensorflow.serving.ModelService/GetModelStatus";

/// One question to TF Serving; a model table that is locked (a load under way) can take a while.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// How long "there is no such model" is believed: a loop of bad names must not hammer the server.
const REMEMBER_REFUSAL: Duration = Duration::from_secs(1);
/// Models that were not declared, and refusals: what clients can make us remember.
const REMEMBERED: usize = 1024;
const LONGEST_NAME: usize = 256;
/// A refusal by the server makes us look at the model again, but not more often than this.
const POKE_EVERY: Duration = Duration::from_millis(100);
/// Questions to TF Serving at a time: each holds one of its threads.
const AT_A_TIME: usize = 8;
const WAITING: usize = 4096;

/// How the request path reaches the control thread.
#[derive(Debug, Clone)]
pub struct Refresher(mpsc::Sender<Ask>);

#[derive(Debug)]
enum Ask {
    Resolve { key: Key, reply: oneshot::Sender<Result<Arc<Served>, Fault>> },
    Poke { model: String, sent: Instant, reply: oneshot::Sender<()> },
}

type Key = (String, VersionChoice);

impl Refresher {
    /// The handle, and what [`Worker::run`] is to listen to.
    pub fn new() -> (Self, Inbox) {
        let (sender, receiver) = mpsc::channel(WAITING);
        (Self(sender), Inbox(receiver))
    }

    /// Signatures that the catalog does not have. Waits for TF Serving: bound it by the request's deadline.
    pub async fn resolve(&self, model: &str, version: &VersionChoice) -> Result<Arc<Served>, Fault> {
        let (reply, answer) = oneshot::channel();
        let key = (model.to_owned(), version.clone());
        if self.0.try_send(Ask::Resolve { key, reply }).is_err() {
            return Err(Fault::QueueFull {
                what: "questions about models",
                setting: "fixed",
                limit: WAITING as u64,
            });
        }
        answer.await.unwrap_or(Err(Fault::Draining))
    }

    /// Looks at a model again unless that was done since `sent`, when the refused request went out.
    pub async fn poke(&self, model: &str, sent: Instant) {
        let (reply, answer) = oneshot::channel();
        if self.0.try_send(Ask::Poke { model: model.to_owned(), sent, reply }).is_ok() {
            answer.await.ok();
        }
    }
}

#[derive(Debug)]
pub struct Inbox(mpsc::Receiver<Ask>);

/// The control thread's side; the only writer of the catalog.
#[derive(Debug)]
pub struct Worker {
    pool: Rc<Pool>,
    catalog: Arc<Catalog>,
    config: Arc<Config>,
    waiting: RefCell<HashMap<Key, Vec<oneshot::Sender<Result<Arc<Served>, Fault>>>>>,
    refused: RefCell<HashMap<Key, (Instant, Fault)>>,
    /// When each model was last looked at, and who waits for a look that is under way.
    looked: RefCell<HashMap<String, Instant>>,
    looking: RefCell<HashMap<String, Vec<oneshot::Sender<()>>>>,
    turns: Semaphore,
    changed: Arc<tokio::sync::Notify>,
}

impl Worker {
    pub fn new(
        pool: Rc<Pool>,
        catalog: Arc<Catalog>,
        config: Arc<Config>,
        changed: Arc<tokio::sync::Notify>,
    ) -> Rc<Self> {
        Rc::new(Self {
            pool,
            catalog,
            config,
            waiting: RefCell::default(),
            refused: RefCell::default(),
            looked: RefCell::default(),
            looking: RefCell::default(),
            turns: Semaphore::new(AT_A_TIME),
            changed,
        })
    }

    /// Answers the request path and polls, until every handle is gone.
    pub async fn run(self: Rc<Self>, inbox: Inbox) {
        let polling = spawn_local(Rc::clone(&self).poll());
        self.answer(inbox).await;
        polling.abort();
    }

    async fn answer(self: Rc<Self>, mut inbox: Inbox) {
        while let Some(ask) = inbox.0.recv().await {
            match ask {
                Ask::Resolve { key, reply } => Rc::clone(&self).resolve(key, reply),
                Ask::Poke { model, sent, reply } => Rc::clone(&self).poke(model, sent, reply),
            }
        }
    }

    // === Resolve: a model, version or label that the catalog does not have ===

    fn resolve(self: Rc<Self>, key: Key, reply: oneshot::Sender<Result<Arc<Served>, Fault>>) {
        if let Some(served) = self.catalog.find(&key.0, &key.1) {
            reply.send(Ok(served)).ok();
            return;
        }
        if let Some(fault) = self.remembered(&key) {
            reply.send(Err(fault)).ok();
            return;
        }
        let mut waiting = self.waiting.borrow_mut();
        if let Some(others) = waiting.get_mut(&key) {
            others.push(reply);
            return;
        }
        waiting.insert(key.clone(), vec![reply]);
        drop(waiting);
        spawn_local(async move {
            let answer = self.fetch(&key).await;
            if let Err(fault) = &answer {
                self.remember(&key, fault);
            }
            for reply in self.waiting.borrow_mut().remove(&key).unwrap_or_default() {
                reply.send(answer.clone()).ok();
            }
        });
    }

    /// Metadata first: its refusal has the very text that Predict would get.
    async fn fetch(&self, key: &Key) -> Result<Arc<Served>, Fault> {
        let (model, choice) = key;
        let turn = self.turns.acquire().await;
        let (version, signatures) = self.metadata(model, choice).await?;
        let available = self.available(model).await.ok().flatten();
        drop(turn);
        let mut seen = Observation { available, read: vec![(version, signatures)], ..Default::default() };
        match choice {
            VersionChoice::Latest => seen.latest = Some(version),
            VersionChoice::Version(_) => {}
            VersionChoice::Label(label) => seen.labels.push((label.clone(), Some(version))),
        }
        let entry = self.learn(model, seen);
        entry
            .versions
            .get(&version)
            .cloned()
            .ok_or_else(|| Fault::Internal { problem: format!("version {version} of '{model}' was lost") })
    }

    fn remembered(&self, key: &Key) -> Option<Fault> {
        let refused = self.refused.borrow();
        let (when, fault) = refused.get(key)?;
        (when.elapsed() < REMEMBER_REFUSAL).then(|| fault.clone())
    }

    /// Only what TF Serving itself said; that it could not be asked is no property of the model.
    fn remember(&self, key: &Key, fault: &Fault) {
        if !matches!(fault, Fault::ModelUnknown { .. } | Fault::Upstream { .. }) || key.0.len() > LONGEST_NAME
        {
            return;
        }
        let mut refused = self.refused.borrow_mut();
        if refused.len() >= REMEMBERED {
            refused.retain(|_, (when, _)| when.elapsed() < REMEMBER_REFUSAL);
        }
        if refused.len() < REMEMBERED {
            refused.insert(key.clone(), (Instant::now(), fault.clone()));
        }
    }

    // === Poke: the server refused what conformed ===

    fn poke(self: Rc<Self>, model: String, sent: Instant, reply: oneshot::Sender<()>) {
        let fresh = self
            .looked
            .borrow()
            .get(&model)
            .is_some_and(|looked| *looked >= sent || looked.elapsed() < POKE_EVERY);
        if fresh || self.catalog.entry(&model).is_none() {
            reply.send(()).ok();
            return;
        }
        let mut looking = self.looking.borrow_mut();
        if let Some(others) = looking.get_mut(&model) {
            others.push(reply);
            return;
        }
        looking.insert(model.clone(), vec![reply]);
        drop(looking);
        spawn_local(async move {
            self.look(&model, true).await.ok();
            for reply in self.looking.borrow_mut().remove(&model).unwrap_or_default() {
                reply.send(()).ok();
            }
        });
    }

    // === Poll ===

    async fn poll(self: Rc<Self>) {
        let mut backoff = Backoff::new(u64::from(std::process::id()));
        let mut generation = 0;
        loop {
            // After a reconnect another server, with other models under the same numbers, may be there.
            let again = self.pool.generation() != generation;
            generation = self.pool.generation();
            let models: BTreeSet<String> =
                self.config.models.keys().cloned().chain(self.catalog.snapshot().into_keys()).collect();
            let mut looks = JoinSet::new();
            for model in models {
                let worker = Rc::clone(&self);
                looks.spawn_local(async move { worker.look(&model, again).await });
            }
            while looks.join_next().await.is_some() {}
            self.looked.borrow_mut().retain(|model, _| self.catalog.entry(model).is_some());

            let complete = self.config.models.keys().all(|model| self.catalog.serves(model));
            if complete {
                backoff.reset();
                tokio::time::sleep(self.config.poll_interval).await;
            } else {
                tokio::time::sleep(backoff.wait().min(self.config.poll_interval)).await;
            }
        }
    }

    /// Compares a model with its catalog entry; `again` reads signatures even when the versions are the same.
    async fn look(&self, model: &str, again: bool) -> Result<(), Fault> {
        let Ok(_turn) = self.turns.acquire().await else { return Ok(()) };
        let started = Instant::now();
        let available = match self.available(model).await {
            Ok(available) => available,
            Err(Fault::ModelUnknown { .. }) => Some(Vec::new()),
            // It cannot be asked: the old catalog stays.
            Err(fault) => return Err(fault),
        };
        if available.as_ref().is_some_and(Vec::is_empty) {
            self.forget(model);
            return Ok(());
        }
        let before = self.catalog.entry(model).unwrap_or_default();
        let highest = available.as_ref().and_then(|available| available.iter().max().copied());
        let mut seen = Observation { available, ..Default::default() };
        let held = highest.is_some_and(|version| before.versions.contains_key(&version));
        if !held || again {
            let choice = highest.map_or(VersionChoice::Latest, VersionChoice::Version);
            let (version, signatures) = self.metadata(model, &choice).await?;
            seen.latest = Some(version);
            seen.read.push((version, signatures));
        }
        if again {
            seen.forget = before.versions.keys().copied().collect();
        }
        for label in before.labels.keys() {
            let choice = VersionChoice::Label(label.clone());
            match self.metadata(model, &choice).await {
                Ok((version, signatures)) => {
                    seen.labels.push((label.clone(), Some(version)));
                    seen.read.push((version, signatures));
                }
                Err(Fault::Upstream { .. } | Fault::ModelUnknown { .. }) => {
                    seen.labels.push((label.clone(), None))
                }
                Err(fault) => return Err(fault),
            }
        }
        self.learn(model, seen);
        self.looked.borrow_mut().insert(model.to_owned(), started);
        Ok(())
    }

    /// Puts an observation into the catalog and says what changed. No await: the entry is read and written in one go.
    fn learn(&self, model: &str, seen: Observation) -> Arc<Entry> {
        let before = self.catalog.entry(model).unwrap_or_default();
        let policy = Arc::new(self.config.policy(model).clone());
        let read = !seen.read.is_empty();
        let after = before.after(model, &policy, seen);
        let changes = before.changes_to(&after);
        for change in &changes {
            tracing::warn!(%model, from = ?before.latest, to = ?after.latest, %change, "signature changed");
        }
        if read {
            metrics::signature_refresh(model, true);
        }
        if !changes.is_empty() {
            metrics::signature_change(model);
        }
        if before.latest != after.latest {
            tracing::info!(%model, version = ?after.latest, "signatures read");
        }
        let known = !before.versions.is_empty() || self.config.is_declared(model);
        if known || self.catalog.len() < REMEMBERED + self.config.models.len() {
            self.catalog.put(model, Some(after.clone()));
            self.changed.notify_one();
        }
        Arc::new(after)
    }

    fn forget(&self, model: &str) {
        if self.catalog.entry(model).is_some() {
            tracing::warn!(%model, "no version of the model is served any more");
            self.catalog.put(model, None);
            self.changed.notify_one();
        }
    }

    // === Questions to TF Serving ===

    /// The versions that are served, or `None` when the server does not offer ModelService.
    async fn available(&self, model: &str) -> Result<Option<Vec<i64>>, Fault> {
        let request = GetModelStatusRequest {
            model_spec: Some(ModelSpec { name: model.to_owned(), ..Default::default() }),
        };
        match call::<GetModelStatusResponse>(&self.pool, STATUS, &request, ANSWER_WITHIN).await {
            Ok(answer) => {
                let versions = answer.model_version_status.iter();
                Ok(Some(
                    versions
                        .filter(|status| status.state == State::Available as i32)
                        .map(|status| status.version)
                        .collect(),
                ))
            }
            Err(Fault::Upstream { code: Code::Unimplemented, .. }) => Ok(None),
            Err(fault) => Err(unknown(model, fault)),
        }
    }

    /// The concrete version that a choice means now, and its signatures.
    async fn metadata(&self, model: &str, choice: &VersionChoice) -> Result<(i64, Signatures), Fault> {
        let version_choice = match choice {
            VersionChoice::Latest => None,
            VersionChoice::Version(version) => Some(Choice::Version(*version)),
            VersionChoice::Label(label) => Some(Choice::VersionLabel(label.clone())),
        };
        let spec = ModelSpec { name: model.to_owned(), signature_name: String::new(), version_choice };
        let request = GetModelMetadataRequest {
            model_spec: Some(spec),
            metadata_field: vec![METADATA_FIELD.to_owned()],
        };
        let answer = call::<GetModelMetadataResponse>(&self.pool, METADATA, &request, ANSWER_WITHIN).await;
        let outcome = answer.map_err(|fault| unknown(model, fault)).and_then(|answer| {
            let (signatures, version) = Signatures::from_metadata(&answer).map_err(|error| {
                Fault::Internal { problem: format!("signatures of model '{model}': {error}") }
            })?;
            let version = match (version, choice) {
                (Some(version), _) => version,
                (None, VersionChoice::Version(version)) => *version,
                (None, VersionChoice::Latest | VersionChoice::Label(_)) => {
                    return Err(Fault::Internal {
                        problem: format!("expected the version of model '{model}', found none"),
                    });
                }
            };
            Ok((version, signatures))
        });
        // A name that came from a client adds no series unless the model exists.
        let named = self.config.is_declared(model) || self.catalog.entry(model).is_some();
        if outcome.is_err() {
            metrics::signature_refresh(if named { model } else { metrics::UNKNOWN }, false);
        }
        if let Err(fault) = &outcome {
            tracing::debug!(%model, error = %fault, "signatures not read");
        }
        outcome
    }
}

/// NOT_FOUND keeps TF Serving's text and gets our reason.
fn unknown(model: &str, fault: Fault) -> Fault {
    match fault {
        Fault::Upstream { code: Code::NotFound, message } => {
            Fault::ModelUnknown { model: model.to_owned(), text: message }
        }
        other => other,
    }
}
