//! Keeps the catalog true: asks TF Serving for versions and signatures, once however many requests
//! wait. Runs on the control thread.
use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::{JoinSet, spawn_local};
use tokio::time::Instant;

use super::catalog::{Catalog, Entry, ModelVersion, Observation};
use super::metadata_client::{available, metadata};
use crate::config::Config;
use crate::fault::Fault;
use crate::retry::backoff::Backoff;
use crate::signature::Signatures;
use crate::telemetry::metrics::{self, SignatureInput};
use crate::upstream::pool::Pool;
use crate::wire::VersionChoice;

/// How long "there is no such model" is believed: a loop of bad names must not hammer the server.
const REMEMBER_REFUSAL: Duration = Duration::from_secs(1);
/// Models that were not declared, and refusals: what clients can make us remember.
const REMEMBERED: usize = 1024;
const MAX_NAME_LENGTH: usize = 256;
/// A refusal by the server makes us look at the model again, but not more often than this.
const REVALIDATE_INTERVAL: Duration = Duration::from_millis(100);
/// Questions to TF Serving at a time: each holds one of its threads.
const AT_A_TIME: usize = 8;
const WAITING: usize = 4096;

/// How the request path reaches the control thread.
#[derive(Debug, Clone)]
pub struct Refresher(mpsc::Sender<Command>);

#[derive(Debug)]
enum Command {
    Resolve { key: Key, reply: Waiter },
    Revalidate { model: String, sent: Instant, reply: oneshot::Sender<()> },
}

type Key = (String, VersionChoice);
type Waiter = oneshot::Sender<Result<Arc<ModelVersion>, Fault>>;

impl Refresher {
    /// The handle, and what [`Worker::run`] is to listen to.
    pub fn new() -> (Self, CommandReceiver) {
        let (sender, receiver) = mpsc::channel(WAITING);
        (Self(sender), CommandReceiver(receiver))
    }

    /// Signatures that the catalog does not have. Waits for TF Serving: bound it by the request's
    /// deadline.
    pub async fn resolve(&self, model: &str, version: &VersionChoice) -> Result<Arc<ModelVersion>, Fault> {
        let (reply, answer) = oneshot::channel();
        let key = (model.to_owned(), version.clone());
        if self.0.try_send(Command::Resolve { key, reply }).is_err() {
            return Err(Fault::QueueFull {
                what: "questions about models",
                setting: "fixed",
                limit: WAITING as u64,
            });
        }
        answer.await.unwrap_or(Err(Fault::Draining))
    }

    /// Looks at a model again unless that was done since `sent`, when the refused request went out.
    pub async fn revalidate(&self, model: &str, sent: Instant) {
        let (reply, answer) = oneshot::channel();
        if self.0.try_send(Command::Revalidate { model: model.to_owned(), sent, reply }).is_ok() {
            answer.await.ok();
        }
    }
}

#[derive(Debug)]
pub struct CommandReceiver(mpsc::Receiver<Command>);

/// The control thread's side; the only writer of the catalog.
#[derive(Debug)]
pub struct Worker {
    pool: Rc<Pool>,
    catalog: Arc<Catalog>,
    config: Arc<Config>,
    waiting: RefCell<HashMap<Key, Vec<Waiter>>>,
    refused: RefCell<HashMap<Key, (Instant, Fault)>>,
    /// When each model was last refreshed at, and when because of a refusal.
    refreshed: RefCell<HashMap<String, Instant>>,
    revalidated: RefCell<HashMap<String, Instant>>,
    /// Who waits for a look that is under way.
    refreshing: RefCell<HashMap<String, Vec<oneshot::Sender<()>>>>,
    slots: Semaphore,
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
            refreshed: RefCell::default(),
            revalidated: RefCell::default(),
            refreshing: RefCell::default(),
            slots: Semaphore::new(AT_A_TIME),
            changed,
        })
    }

    /// Answers the request path and polls, until every handle is gone.
    pub async fn run(self: Rc<Self>, inbox: CommandReceiver) {
        let polling = spawn_local(Rc::clone(&self).poll());
        self.answer(inbox).await;
        polling.abort();
    }

    async fn answer(self: Rc<Self>, mut inbox: CommandReceiver) {
        while let Some(ask) = inbox.0.recv().await {
            match ask {
                Command::Resolve { key, reply } => Rc::clone(&self).resolve(key, reply),
                Command::Revalidate { model, sent, reply } => Rc::clone(&self).revalidate(model, sent, reply),
            }
        }
    }

    // === Resolve: a model, version or label that the catalog does not have ===

    fn resolve(self: Rc<Self>, key: Key, reply: Waiter) {
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
    async fn fetch(&self, key: &Key) -> Result<Arc<ModelVersion>, Fault> {
        let (model, choice) = key;
        let turn = self.slots.acquire().await;
        let (version, signatures) = self.read(model, choice).await?;
        let available = available(&self.pool, model).await.ok().flatten();
        drop(turn);
        let mut seen = Observation { available, read: vec![(version, signatures)], ..Default::default() };
        match choice {
            VersionChoice::Latest => seen.latest = Some(version),
            VersionChoice::Version(_) => {}
            VersionChoice::Label(label) => seen.labels.push((label.clone(), Some(version))),
        }
        let entry = self.apply(model, seen);
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
        if !matches!(fault, Fault::ModelUnknown { .. } | Fault::Upstream { .. })
            || key.0.len() > MAX_NAME_LENGTH
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

    // === Revalidate: the server refused what conformed ===

    fn revalidate(self: Rc<Self>, model: String, sent: Instant, reply: oneshot::Sender<()>) {
        let fresh = self.refreshed.borrow().get(&model).is_some_and(|refreshed| *refreshed >= sent);
        let often = self
            .revalidated
            .borrow()
            .get(&model)
            .is_some_and(|revalidated| revalidated.elapsed() < REVALIDATE_INTERVAL);
        if fresh
            || (often && !self.refreshing.borrow().contains_key(&model))
            || self.catalog.entry(&model).is_none()
        {
            reply.send(()).ok();
            return;
        }
        let mut refreshing = self.refreshing.borrow_mut();
        if let Some(others) = refreshing.get_mut(&model) {
            others.push(reply);
            return;
        }
        refreshing.insert(model.clone(), vec![reply]);
        drop(refreshing);
        self.revalidated.borrow_mut().insert(model.clone(), Instant::now());
        spawn_local(async move {
            self.refresh(&model, true).await.ok();
            for reply in self.refreshing.borrow_mut().remove(&model).unwrap_or_default() {
                reply.send(()).ok();
            }
        });
    }

    // === Poll ===

    async fn poll(self: Rc<Self>) {
        let mut backoff = Backoff::new(u64::from(std::process::id()));
        let mut generation = 0;
        loop {
            // After a reconnect another server, with other models under the same numbers, may be
            // there.
            let again = self.pool.generation() != generation;
            generation = self.pool.generation();
            let models: BTreeSet<String> =
                self.config.models.keys().cloned().chain(self.catalog.snapshot().into_keys()).collect();
            let mut refreshes = JoinSet::new();
            for model in models {
                let worker = Rc::clone(&self);
                refreshes.spawn_local(async move { worker.refresh(&model, again).await });
            }
            while refreshes.join_next().await.is_some() {}
            if generation == 0 {
                // What was read just now came over the first connection.
                generation = self.pool.generation();
            }
            for times in [&self.refreshed, &self.revalidated] {
                times.borrow_mut().retain(|model, _| self.catalog.entry(model).is_some());
            }

            let complete = self.config.models.keys().all(|model| self.catalog.serves(model));
            if complete {
                backoff.reset();
                tokio::time::sleep(self.config.poll_interval).await;
            } else {
                tokio::time::sleep(backoff.wait().min(self.config.poll_interval)).await;
            }
        }
    }

    /// Compares a model with its catalog entry; `again` reads signatures even when the versions are
    /// the same.
    async fn refresh(&self, model: &str, again: bool) -> Result<(), Fault> {
        let Ok(_turn) = self.slots.acquire().await else { return Ok(()) };
        let started = Instant::now();
        let available = match available(&self.pool, model).await {
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
            let (version, signatures) = self.read(model, &choice).await?;
            seen.latest = Some(version);
            seen.read.push((version, signatures));
        }
        if again {
            seen.forget = before.versions.keys().copied().collect();
        }
        for label in before.labels.keys() {
            let choice = VersionChoice::Label(label.clone());
            match self.read(model, &choice).await {
                Ok((version, signatures)) => {
                    seen.labels.push((label.clone(), Some(version)));
                    seen.read.push((version, signatures));
                }
                Err(Fault::Upstream { .. } | Fault::ModelUnknown { .. }) => {
                    seen.labels.push((label.clone(), None));
                }
                Err(fault) => return Err(fault),
            }
        }
        self.apply(model, seen);
        self.refreshed.borrow_mut().insert(model.to_owned(), started);
        Ok(())
    }

    /// Puts an observation into the catalog and says what changed. No await: the entry is read and
    /// written in one go.
    fn apply(&self, model: &str, seen: Observation) -> Arc<Entry> {
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
            metrics::set_signature_info(model, signature_info(&after));
            self.changed.notify_one();
        }
        Arc::new(after)
    }

    /// Asks for signatures, and counts how that went.
    async fn read(&self, model: &str, choice: &VersionChoice) -> Result<(i64, Signatures), Fault> {
        let answer = metadata(&self.pool, model, choice).await;
        if answer.is_err() {
            // A name that came from a client adds no series unless the model exists.
            let named = self.config.is_declared(model) || self.catalog.entry(model).is_some();
            metrics::signature_refresh(if named { model } else { metrics::UNKNOWN }, false);
        }
        answer
    }

    fn forget(&self, model: &str) {
        if self.catalog.entry(model).is_some() {
            tracing::warn!(%model, "no version of the model is served any more");
            self.catalog.put(model, None);
            metrics::set_signature_info(model, Vec::new());
            self.changed.notify_one();
        }
    }
}

/// Every input of every signature that is held.
fn signature_info(entry: &Entry) -> Vec<SignatureInput> {
    let mut inputs = Vec::new();
    for (version, served) in &entry.versions {
        for signature in served.signatures.servable() {
            inputs.extend(signature.inputs.iter().map(|info| SignatureInput {
                version: version.to_string(),
                signature: signature.name.clone(),
                input: info.alias.clone(),
                dtype: info.dtype.name().into_owned(),
                shape: info.shape.to_string(),
            }));
        }
    }
    inputs
}
