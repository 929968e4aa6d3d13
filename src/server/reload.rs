//! Reads the configuration, the certificates and the profiles again while the sidecar runs, when a
//! file has changed or when asked to.
//!
//! Files are read and checked on another thread: they may be on a volume that hangs. What was read
//! is applied at once on the control thread, or refused whole.
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use serde_json::{Value, json};
use tokio::sync::Notify;

use super::Shared;
use super::certificates::{self, Certificates};
use super::check::problems;
use super::files::{Files, Watched};
use crate::config::{Config, Problems, Source, SourceError, profiles};
use crate::models::refresher::Worker;
use crate::telemetry::log::FILTER;
use crate::telemetry::metrics::{self, ReloadResult};

/// Problems that the log and the status list.
const MAX_PROBLEMS: usize = 50;

/// Asks for a reload, and says how the last one went.
#[derive(Debug)]
pub(crate) struct Reload {
    requested: Notify,
    status: Mutex<Status>,
}

#[derive(Debug)]
struct Status {
    file: Option<String>,
    loaded: SystemTime,
    /// Why the file as it is now is not used.
    problems: Vec<String>,
    /// Keys whose values in the file are not used until a restart.
    needs_restart: Vec<&'static str>,
    /// Why the certificates as they are now are not used.
    certificates: Vec<String>,
}

/// Reloads; only on the control thread.
#[derive(Debug)]
pub(super) struct Reloader {
    pub shared: Arc<Shared>,
    pub worker: Rc<Worker>,
    pub source: Option<Source>,
    /// The file of the configuration.
    pub file: Watched,
    pub certificates: Watched,
    pub profiles: Watched,
}

/// A configuration that was read and checked.
struct Loaded {
    config: Config,
    needs_restart: Vec<&'static str>,
    certificates: Certificates,
    /// What the certificates were made of.
    files: Files,
    profile_files: Files,
}

impl Reload {
    pub(super) fn new(source: Option<&Source>) -> Self {
        let status = Status {
            file: source.and_then(Source::name),
            loaded: SystemTime::now(),
            problems: Vec::new(),
            needs_restart: Vec::new(),
            certificates: Vec::new(),
        };
        metrics::config_loaded(status.loaded);
        Self { requested: Notify::new(), status: Mutex::new(status) }
    }

    /// Reads everything again, even what did not change.
    pub(super) fn request(&self) {
        self.requested.notify_one();
    }

    /// `{"file": text or null, "loaded": time, "problem": text or null, "needs_restart": [key],
    /// "certificates_problem": text or null}`.
    pub(super) fn to_json(&self) -> Value {
        let status = self.status();
        let text = |lines: &[String]| (!lines.is_empty()).then(|| lines.join("\n"));
        json!({
            "file": status.file,
            "loaded": humantime::format_rfc3339_seconds(status.loaded).to_string(),
            "problem": text(&status.problems),
            "needs_restart": status.needs_restart,
            "certificates_problem": text(&status.certificates),
        })
    }

    fn status(&self) -> MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reloader {
    /// Runs until the process ends.
    pub(super) async fn run(mut self) {
        loop {
            let interval = self.shared.config.load().reload_interval;
            let requested = self.shared.reload.requested.notified();
            let forced = if interval.is_zero() {
                requested.await;
                true
            } else {
                tokio::time::timeout(interval, requested).await.is_ok()
            };
            if forced {
                self.shared.systemd.reloading();
            }
            self.look(forced).await;
            if forced {
                self.shared.systemd.up();
            }
        }
    }

    /// Looks at the files, and uses those that have changed, or all if `forced`.
    async fn look(&mut self, forced: bool) {
        let (source, config) = (self.source.clone(), self.shared.loaded.load_full());
        let seen = blocking(move || {
            let file = source.as_ref().and_then(|source| source.path.clone());
            let profiles = Files::read(profiles::files(&config));
            (Files::read(file), Files::read(certificates::files(&config)), profiles)
        });
        let Some((file, certificates, profiles)) = seen.await else { return };
        let other_file = self.file.is_changed(file);
        let other_certificates = self.certificates.is_changed(certificates);
        // The configuration may have been refused for the files that it names.
        let again = other_certificates && !self.shared.reload.status().problems.is_empty();
        // A profile is part of the configuration: both are used, or neither.
        let other_profiles = self.profiles.is_changed(profiles);
        let reloaded = (forced || other_file || other_profiles || again) && self.reload(forced).await;
        if (forced || other_certificates) && !reloaded {
            self.reload_certificates().await;
        }
    }

    /// Whether a configuration was read and applied, with its certificates.
    async fn reload(&mut self, forced: bool) -> bool {
        let Some(source) = self.source.clone() else { return false };
        let running = self.shared.loaded.load_full();
        let loaded = {
            let running = Arc::clone(&running);
            blocking(move || load(&source, &running))
        };
        match loaded.await {
            None => false,
            Some(Ok(loaded)) if !forced && loaded.config == *running && self.is_well(&loaded) => false,
            Some(Ok(loaded)) => {
                self.apply(loaded);
                true
            }
            Some(Err(lines)) => {
                tracing::error!(
                    problems = lines.len(),
                    "the changed configuration is refused; the one before stays in use"
                );
                log(&lines);
                metrics::config_reload(ReloadResult::Refused);
                self.shared.reload.status().problems = lines;
                false
            }
        }
    }

    /// Whether the status says already what is to be said of this configuration.
    fn is_well(&self, loaded: &Loaded) -> bool {
        let status = self.shared.reload.status();
        status.problems.is_empty() && status.needs_restart == loaded.needs_restart
    }

    fn apply(&mut self, loaded: Loaded) {
        let Loaded { config, needs_restart, certificates, files, profile_files } = loaded;
        let shared = &self.shared;
        let config = Arc::new(config);
        certificates.apply(shared);
        self.certificates.use_now(files);
        self.profiles.use_now(profile_files);
        shared.loaded.store(Arc::clone(&config));
        shared.admission.set_limits(&config.limits);
        shared.connections.set_limits(&config);
        if let Some(limiter) = &shared.limiter {
            limiter.set_limits(&config.limits);
        }
        FILTER.configure(&config.log);
        shared.activate();
        self.worker.reconfigure();

        let mut status = shared.reload.status();
        (status.loaded, status.needs_restart) = (SystemTime::now(), needs_restart);
        status.problems.clear();
        status.certificates.clear();
        metrics::config_reload(ReloadResult::Applied);
        metrics::config_loaded(status.loaded);
        let file = status.file.as_deref().unwrap_or("");
        if status.needs_restart.is_empty() {
            tracing::info!(file, "configuration reloaded");
        } else {
            let keys = status.needs_restart.join(", ");
            tracing::warn!(file, needs_restart = keys, "configuration reloaded; some changes need a restart");
        }
    }

    /// Uses the certificates as they are now, with the configuration that is loaded.
    async fn reload_certificates(&mut self) {
        let config = self.shared.loaded.load_full();
        if certificates::files(&config).is_empty() {
            return;
        }
        match blocking(move || check(&config)).await {
            None => {}
            Some(Ok(certificates)) => {
                certificates.apply(&self.shared);
                metrics::certificate_reload(ReloadResult::Applied);
                self.shared.reload.status().certificates.clear();
                tracing::info!("certificates reloaded");
            }
            Some(Err(lines)) => {
                tracing::error!("changed certificates are refused; those before stay in use");
                log(&lines);
                metrics::certificate_reload(ReloadResult::Refused);
                self.shared.reload.status().certificates = lines;
            }
        }
    }
}

/// Reads and checks a configuration, as `check` does. What cannot change while the sidecar runs
/// stays as in `running`.
fn load(source: &Source, running: &Config) -> Result<Loaded, Vec<String>> {
    let mut config = source.load().map_err(|error| lines(&error))?;
    let needs_restart = config.keep_until_restart(running);
    let files = Files::read(certificates::files(&config));
    let profile_files = Files::read(profiles::files(&config));
    let certificates = check(&config)?;
    // The files may have changed since the check.
    let list = profiles::read(&mut config);
    if !list.is_empty() {
        return Err(limited(Problems { file: None, list }.lines()));
    }
    Ok(Loaded { config, needs_restart, certificates, files, profile_files })
}

/// Checks the files that the configuration names.
fn check(config: &Config) -> Result<Certificates, Vec<String>> {
    let list = problems(config);
    if !list.is_empty() {
        return Err(limited(Problems { file: None, list }.lines()));
    }
    Certificates::read(config).map_err(|error| vec![error.to_string()])
}

fn lines(error: &SourceError) -> Vec<String> {
    match error {
        SourceError::Problems(problems) => limited(problems.lines()),
        SourceError::Read { source, .. } => vec![format!("{error}: {source}")],
    }
}

fn log(lines: &[String]) {
    for line in lines {
        tracing::error!("{line}");
    }
}

fn limited(mut lines: Vec<String>) -> Vec<String> {
    let more = lines.len().saturating_sub(MAX_PROBLEMS);
    lines.truncate(MAX_PROBLEMS);
    if more > 0 {
        lines.push(format!("{more} more problems"));
    }
    lines
}

/// Runs work that reads files on another thread; `None` if it panicked, which is logged.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(work).await.ok()
}
