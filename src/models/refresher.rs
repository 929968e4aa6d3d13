//! Keeps the catalog current: polls TF Serving, and reads models that requests need, once however
//! many requests wait. Runs on the control thread.
use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Notify, Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::catalog::{Catalog, Entry, ModelVersion, Observation};
use super::changes::signature_info;
use super::forecasts::Forecasts;
use super::metadata_client::{MetadataClient, available};
use super::probes::Probes;
use super::problems::{ModelProblem, ModelProblems};
use super::refusals::{Key, MAX_REMEMBERED, Refusals};
use crate::config::Config;
use crate::fault::Fault;
use crate::retry::backoff::Backoff;
use crate::signature::Signatures;
use crate::tasks::{critical, spawn_critical};
use crate::telemetry::metrics;
use crate::upstream::pool::Pool;
use crate::upstream::up::Up;
use crate::wire::VersionChoice;

/// Inputs and outputs of the signatures of all models together: they take some hundred bytes each.
const MAX_TENSORS: usize = 512 << 10;

/// A model is refreshed at most this often because of refused requests.
const REVALIDATE_INTERVAL: Duration = Duration::from_millis(100);
/// Metadata requests at a time: each holds a thread of TF Serving.
const MAX_CONCURRENT_READS: usize = 8;
const MAX_QUEUED_COMMANDS: usize = 4096;

/// Sends commands from the request path to the control thread.
#[derive(Debug, Clone)]
pub(crate) struct Refresher(mpsc::Sender<Command>);

#[derive(Debug)]
enum Command {
    Resolve { key: Key, reply: Waiter },
    Revalidate { model: String, doubt: Doubt, reply: Done },
}

/// Why the catalog may be out of date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doubt {
    /// TF Serving refused what conformed, at this time. Signatures are read again.
    Refused { at: Instant },
    /// The sidecar is about to refuse a request. Only the served versions are checked: the
    /// signatures of one version do not change while the server runs.
    Refusing,
}

/// Tells a request that the refresh which it waited for is done.
type Done = oneshot::Sender<()>;
type Waiter = oneshot::Sender<Result<Arc<ModelVersion>, Fault>>;

impl Refresher {
    /// The sender, and the receiver that [`Worker::run`] takes.
    pub(crate) fn new() -> (Self, CommandReceiver) {
        let (sender, receiver) = mpsc::channel(MAX_QUEUED_COMMANDS);
        (Self(sender), CommandReceiver(receiver))
    }

    /// Reads a model version that the catalog does not have. Waits for TF Serving: callers bound
    /// this by the deadline of their request.
    ///
    /// # Errors
    /// TF Serving does not serve it or cannot be reached, too many lookups are queued, or the
    /// sidecar is shutting down.
    pub(crate) async fn resolve(
        &self,
        model: &str,
        version: &VersionChoice,
    ) -> Result<Arc<ModelVersion>, Fault> {
        let (reply, answer) = oneshot::channel();
        let key = (model.to_owned(), version.clone());
        if self.0.try_send(Command::Resolve { key, reply }).is_err() {
            return Err(Fault::QueueFull {
                what: "signature lookups",
                setting: "fixed",
                limit: MAX_QUEUED_COMMANDS as u64,
            });
        }
        answer.await.unwrap_or(Err(Fault::Draining))
    }

    /// Refreshes a model after TF Serving refused a request that conformed. Does nothing if a
    /// refresh began after `refused`. One that began earlier may have seen an older version.
    pub(crate) async fn revalidate(&self, model: &str, refused: Instant) {
        self.doubt(model, Doubt::Refused { at: refused }).await;
    }

    /// Checks which versions of a model are served before a request is refused, so that a request
    /// for a new version is not refused until the next poll.
    pub(crate) async fn recheck(&self, model: &str) {
        self.doubt(model, Doubt::Refusing).await;
    }

    async fn doubt(&self, model: &str, doubt: Doubt) {
        let (reply, answer) = oneshot::channel();
        if self.0.try_send(Command::Revalidate { model: model.to_owned(), doubt, reply }).is_ok() {
            answer.await.ok();
        }
    }
}

#[derive(Debug)]
pub(crate) struct CommandReceiver(mpsc::Receiver<Command>);

/// The control thread's side; the only writer of the catalog.
#[derive(Debug)]
pub(crate) struct Worker {
    client: MetadataClient,
    catalog: Arc<Catalog>,
    config: Arc<ArcSwap<Config>>,
    resolving: RefCell<HashMap<Key, Vec<Waiter>>>,
    refusals: RefCell<Refusals>,
    /// When the last refresh of each model began.
    refreshed: RefCell<HashMap<String, Instant>>,
    /// The same for refreshes because of a refused request, by whether signatures were read again.
    revalidated: RefCell<HashMap<(String, bool), Instant>>,
    /// Requests that wait for such a refresh of their model to end.
    revalidating: RefCell<HashMap<(String, bool), Vec<Done>>>,
    reads: Semaphore,
    problems: Arc<ModelProblems>,
    probes: Probes,
    forecasts: Forecasts,
    changed: Arc<Notify>,
    /// Ends the wait for the next poll.
    poll_now: Arc<Notify>,
}

impl Worker {
    pub(crate) fn new(
        pool: Rc<Pool>,
        catalog: Arc<Catalog>,
        problems: Arc<ModelProblems>,
        forecasts: Forecasts,
        config: Arc<ArcSwap<Config>>,
        up: &Arc<Up>,
    ) -> Rc<Self> {
        Rc::new(Self {
            client: MetadataClient::new(pool, Arc::clone(up)),
            catalog,
            config,
            resolving: RefCell::default(),
            refusals: RefCell::default(),
            refreshed: RefCell::default(),
            revalidated: RefCell::default(),
            revalidating: RefCell::default(),
            reads: Semaphore::new(MAX_CONCURRENT_READS),
            problems,
            probes: Probes::default(),
            forecasts,
            changed: Arc::clone(&up.changed),
            poll_now: Arc::default(),
        })
    }

    /// Brings the catalog in line with a new configuration. Models that it adds are read at once.
    pub(crate) fn reconfigure(&self) {
        let config = self.config.load();
        for (model, entry) in self.catalog.snapshot() {
            let policy = Arc::new(config.policy(&model).clone());
            let is_declared = config.is_declared(&model);
            let problems = is_declared.then(|| entry.config_problems(&model, &policy));
            self.problems.set_config(&model, problems.unwrap_or_default());
            self.catalog.put(&model, Some(entry.with_policy(&policy)));
        }
        self.problems.retain(|model| config.is_declared(model) || self.catalog.entry(model).is_some());
        self.changed.notify_one();
        self.poll_now.notify_one();
    }

    /// Executes commands and polls, until every [`Refresher`] is dropped.
    pub(crate) async fn run(self: Rc<Self>, commands: CommandReceiver) {
        let polling = spawn_critical("poll", Rc::clone(&self).poll());
        self.execute(commands).await;
        polling.abort();
    }

    async fn execute(self: Rc<Self>, mut commands: CommandReceiver) {
        while let Some(command) = commands.0.recv().await {
            match command {
                Command::Resolve { key, reply } => Rc::clone(&self).resolve(key, reply),
                Command::Revalidate { model, doubt, reply } => {
                    Rc::clone(&self).revalidate(model, doubt, reply);
                }
            }
        }
    }

    // === Resolve: a model, version or label that the catalog does not have ===

    fn resolve(self: Rc<Self>, key: Key, reply: Waiter) {
        if let Some(version) = self.catalog.find(&key.0, &key.1) {
            reply.send(Ok(version)).ok();
            return;
        }
        let known = self.catalog.entry(&key.0).is_some();
        if let Some(fault) = self.refusals.borrow().recall(&key, known) {
            reply.send(Err(fault)).ok();
            return;
        }
        let mut resolving = self.resolving.borrow_mut();
        if let Some(waiters) = resolving.get_mut(&key) {
            waiters.push(reply);
            return;
        }
        resolving.insert(key.clone(), vec![reply]);
        drop(resolving);
        spawn_critical("refresh", async move {
            let answer = self.fetch(&key).await;
            if let Err(fault) = &answer {
                self.refusals.borrow_mut().remember(&key, fault);
            }
            for waiter in self.resolving.borrow_mut().remove(&key).unwrap_or_default() {
                waiter.send(answer.clone()).ok();
            }
        });
    }

    /// Reads the metadata first: if it is refused, the text is the one that Predict would get.
    async fn fetch(&self, key: &Key) -> Result<Arc<ModelVersion>, Fault> {
        let (model, choice) = key;
        let permit = self.reads.acquire().await;
        let (version, signatures) = self.read(model, choice).await?;
        let available = self.client.available_versions(model).await.ok().flatten();
        drop(permit);
        let mut seen = Observation { available, read: vec![(version, signatures)], ..Default::default() };
        match choice {
            VersionChoice::Latest => seen.latest = Some(version),
            VersionChoice::Version(_) => {}
            VersionChoice::Label(label) => seen.labels.push((label.clone(), Some(version))),
        }
        let entry = self.apply(model, seen);
        entry.versions.get(&version).cloned().ok_or_else(|| Fault::Internal {
            problem: format!("version {version} of model '{model}' is missing after it was read"),
        })
    }

    // === Revalidate: a request is refused, here or by TF Serving ===

    fn revalidate(self: Rc<Self>, model: String, doubt: Doubt, reply: Done) {
        let is_fresh = match doubt {
            Doubt::Refused { at } => {
                self.refreshed.borrow().get(&model).is_some_and(|refreshed| *refreshed >= at)
            }
            Doubt::Refusing => false,
        };
        let key = (model, doubt != Doubt::Refusing);
        let is_too_soon = self
            .revalidated
            .borrow()
            .get(&key)
            .is_some_and(|revalidated| revalidated.elapsed() < REVALIDATE_INTERVAL);
        if is_fresh
            || (is_too_soon && !self.revalidating.borrow().contains_key(&key))
            || self.catalog.entry(&key.0).is_none()
        {
            reply.send(()).ok();
            return;
        }
        let mut revalidating = self.revalidating.borrow_mut();
        if let Some(waiters) = revalidating.get_mut(&key) {
            waiters.push(reply);
            return;
        }
        revalidating.insert(key.clone(), vec![reply]);
        drop(revalidating);
        self.revalidated.borrow_mut().insert(key.clone(), Instant::now());
        spawn_critical("refresh", async move {
            self.refresh(&key.0, key.1).await.ok();
            for waiter in self.revalidating.borrow_mut().remove(&key).unwrap_or_default() {
                waiter.send(()).ok();
            }
        });
    }

    // === Poll ===

    async fn poll(self: Rc<Self>) {
        let mut backoff = Backoff::new(u64::from(std::process::id()));
        let mut generation = 0;
        loop {
            let reread = self.client.generation() != generation;
            generation = self.client.generation();
            let config = self.config.load_full();
            let models: BTreeSet<String> =
                config.models.keys().cloned().chain(self.catalog.snapshot().into_keys()).collect();
            let mut refreshes = JoinSet::new();
            for model in models {
                let worker = Rc::clone(&self);
                refreshes.spawn_local(critical("refresh", async move {
                    worker.refresh(&model, reread).await.ok();
                }));
            }
            while refreshes.join_next().await.is_some() {}
            if generation == 0 {
                // The first connection was made during this poll, which has read everything.
                generation = self.client.generation();
            }
            let is_known = |model: &str| self.catalog.entry(model).is_some();
            self.refreshed.borrow_mut().retain(|model, _| is_known(model));
            self.revalidated.borrow_mut().retain(|(model, _), _| is_known(model));

            let is_complete = config.models.keys().all(|model| self.catalog.serves(model));
            let mut wait = config.poll_interval;
            if is_complete {
                backoff.reset();
            } else {
                wait = wait.min(backoff.wait());
            }
            tokio::time::timeout(wait, self.poll_now.notified()).await.ok();
        }
    }

    /// Brings a model's catalog entry up to date. With `reread`, signatures are read even when the
    /// versions are the same.
    async fn refresh(&self, model: &str, reread: bool) -> Result<(), Fault> {
        let Ok(_permit) = self.reads.acquire().await else { return Ok(()) };
        let mut problems = Vec::new();
        let outcome = self.update(model, reread, &mut problems).await;
        if let Err(fault) = &outcome {
            // TF Serving cannot be reached: what is known of the model stays as it is.
            let Some(problem) = ModelProblem::of_fault(fault) else { return outcome };
            problems.push(problem);
        }
        if self.config.load().is_declared(model) || self.catalog.entry(model).is_some() {
            self.problems.set(model, problems);
        } else {
            self.problems.forget(model);
        }
        outcome
    }

    async fn update(&self, model: &str, reread: bool, problems: &mut Vec<ModelProblem>) -> Result<(), Fault> {
        let started = Instant::now();
        let versions = self.client.versions(model).await;
        if matches!(versions, Err(Fault::ModelUnknown { .. })) {
            self.forget(model);
        }
        let versions = versions?;
        if let Some(versions) = &versions {
            *problems = self.problems.of_versions(model, versions);
        }
        let available = versions.as_deref().map(available);
        if available.as_ref().is_some_and(Vec::is_empty) {
            self.forget(model);
            return Ok(());
        }
        let before = self.catalog.entry(model).unwrap_or_default();
        let highest = available.as_ref().and_then(|available| available.iter().max().copied());
        let mut seen = Observation { available, ..Default::default() };
        let is_held = highest.is_some_and(|version| before.versions.contains_key(&version));
        if !is_held || reread {
            let choice = highest.map_or(VersionChoice::Latest, VersionChoice::Version);
            let (version, signatures) = self.read(model, &choice).await?;
            seen.latest = Some(version);
            seen.read.push((version, signatures));
        }
        if reread {
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
        // Before the version is in the catalog, so that it is never ready without its probe.
        let config = self.config.load();
        let known = highest.and_then(|version| Some((version, seen.signatures_of(version, &before)?)));
        problems.extend(self.probes.check(&self.client, &config, model, known, &self.poll_now));
        self.apply(model, seen);
        self.refreshed.borrow_mut().insert(model.to_owned(), started);
        Ok(())
    }

    /// Puts an observation into the catalog, and logs and counts what changed. Not async, so the
    /// entry cannot change between being read and written.
    fn apply(&self, model: &str, seen: Observation) -> Arc<Entry> {
        let before = self.catalog.entry(model).unwrap_or_default();
        let policy = Arc::new(self.config.load().policy(model).clone());
        let read = !seen.read.is_empty();
        let after = before.after(model, &policy, seen);
        let changes = before.changes_to(&after);
        self.forecasts.note(model, &self.config, (&before, &after), &changes);
        if read {
            metrics::signature_refresh(model, true);
        }
        metrics::signature_change(model, !changes.is_empty());
        if before.available != after.available || before.labels != after.labels {
            self.refusals.borrow_mut().forget(model);
        }
        let is_known = !before.versions.is_empty() || self.config.load().is_declared(model);
        if is_known || self.catalog.len() < MAX_REMEMBERED + self.config.load().models.len() {
            self.catalog.put(model, Some(after.clone()));
            metrics::set_signature_info(model, signature_info(&after));
            if self.config.load().is_declared(model) {
                self.problems.set_config(model, after.config_problems(model, &policy));
            }
            self.changed.notify_one();
        }
        Arc::new(after)
    }

    /// Reads signatures, and counts failures.
    async fn read(&self, model: &str, choice: &VersionChoice) -> Result<(i64, Signatures), Fault> {
        let answer = self.client.signatures(model, choice).await.and_then(|(version, signatures)| {
            match self.catalog.tensors_without(model) + signatures.tensors() {
                0..=MAX_TENSORS => Ok((version, signatures)),
                _ => Err(Fault::Internal {
                    problem: format!(
                        "the signatures of all models together have too many inputs and outputs (limit {MAX_TENSORS})"
                    ),
                }),
            }
        });
        if answer.is_err() {
            // A name that came from a client adds no series unless the model exists.
            let is_known = self.config.load().is_declared(model) || self.catalog.entry(model).is_some();
            metrics::signature_refresh(if is_known { model } else { metrics::UNKNOWN }, false);
        }
        answer
    }

    fn forget(&self, model: &str) {
        if self.catalog.entry(model).is_some() {
            tracing::warn!(%model, "TF Serving no longer serves the model");
            self.catalog.put(model, None);
            metrics::set_signature_info(model, Vec::new());
            self.changed.notify_one();
        }
    }
}
