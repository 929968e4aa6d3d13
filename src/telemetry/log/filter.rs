//! The filter of the log while the process runs: configured, or changed by an operator for some
//! time.
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing_subscriber::filter::Targets;

use super::{LogError, parse};

/// The filter of this process's log.
pub(crate) static FILTER: Filter = Filter::new();

/// Makes a filter the one that is used.
pub(super) type SetFilter = Box<dyn Fn(Targets) + Send>;

/// A filter that can be changed.
pub(crate) struct Filter {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    set: Option<SetFilter>,
    configured: String,
    changed: Option<Changed>,
}

/// A filter that an operator has set.
#[derive(Debug)]
struct Changed {
    filter: String,
    /// Its end, for this process and for people.
    end: Option<(Instant, SystemTime)>,
}

impl Filter {
    const fn new() -> Self {
        let state = State { set: None, configured: String::new(), changed: None };
        Self { state: Mutex::new(state), changed: Notify::const_new() }
    }

    /// Begins with a filter that is used already.
    pub(super) fn start(&self, configured: &str, set: SetFilter) {
        *self.state() = State { set: Some(set), configured: configured.to_owned(), changed: None };
    }

    /// Changes the configured filter. What an operator has set stays in use.
    pub(crate) fn configure(&self, filter: &str) {
        let mut state = self.state();
        if state.configured != filter {
            filter.clone_into(&mut state.configured);
            if state.changed.is_none() {
                state.apply(filter).ok();
            }
        }
    }

    /// Uses another filter than the configured one, for some time or until the end of the process.
    ///
    /// # Errors
    /// It is not valid, or nothing is logged.
    pub(crate) fn set(&self, filter: &str, time: Option<Duration>) -> Result<(), LogError> {
        let mut state = self.state();
        state.apply(filter)?;
        let end = time
            .and_then(|time| Some((Instant::now().checked_add(time)?, SystemTime::now().checked_add(time)?)));
        state.changed = Some(Changed { filter: filter.to_owned(), end });
        drop(state);
        tracing::warn!(filter, ?time, "the log filter is changed");
        self.changed.notify_one();
        Ok(())
    }

    /// Uses the configured filter again.
    ///
    /// # Errors
    /// Nothing is logged.
    pub(crate) fn take_back(&self) -> Result<(), LogError> {
        let mut state = self.state();
        let configured = state.configured.clone();
        state.apply(&configured)?;
        state.changed = None;
        drop(state);
        tracing::info!(filter = configured, "the log filter is the configured one again");
        Ok(())
    }

    /// Takes filters back when their time is over. Runs forever.
    pub(crate) async fn run(&self) {
        loop {
            let end = self.state().changed.as_ref().and_then(|changed| changed.end);
            let changed = self.changed.notified();
            match end {
                None => changed.await,
                Some((end, _)) if Instant::now() >= end => drop(self.take_back()),
                Some((end, _)) => drop(tokio::time::timeout_at(end, changed).await),
            }
        }
    }

    /// `{"filter", "configured", "until": time or null}`.
    pub(crate) fn to_json(&self) -> Value {
        let state = self.state();
        let changed = state.changed.as_ref();
        let until = changed.and_then(|changed| changed.end);
        json!({
            "filter": changed.map_or(&state.configured, |changed| &changed.filter),
            "configured": state.configured,
            "until": until.map(|(_, until)| humantime::format_rfc3339_seconds(until).to_string()),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn apply(&self, filter: &str) -> Result<(), LogError> {
        let filter = parse(filter)?;
        let set = self.set.as_ref().ok_or(LogError::NoLogger)?;
        set(filter);
        Ok(())
    }
}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Filter").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// A filter that begins as `info`, and what was used since.
    fn filter() -> (Arc<Filter>, Arc<Mutex<Vec<String>>>) {
        let (filter, used) = (Arc::new(Filter::new()), Arc::<Mutex<Vec<String>>>::default());
        let seen = Arc::clone(&used);
        filter.start("info", Box::new(move |filter| seen.lock().unwrap().push(filter.to_string())));
        (filter, used)
    }

    #[tokio::test(start_paused = true)]
    async fn a_filter_is_used_for_its_time_and_the_configured_one_after_it() {
        let (filter, used) = filter();
        let running = tokio::spawn({
            let filter = Arc::clone(&filter);
            async move { filter.run().await }
        });
        filter.set("debug", Some(Duration::from_secs(600))).unwrap();
        tokio::time::sleep(Duration::from_secs(599)).await;
        // A reload does not end it, but changes what comes after it.
        filter.configure("warn");
        assert_eq!(*used.lock().unwrap(), ["debug"]);
        assert_eq!(
            (&filter.to_json()["filter"], &filter.to_json()["configured"]),
            (&"debug".into(), &"warn".into())
        );
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(*used.lock().unwrap(), ["debug", "warn"]);
        assert_eq!((&filter.to_json()["filter"], &filter.to_json()["until"]), (&"warn".into(), &Value::Null));
        running.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_filter_without_a_time_stays_until_it_is_taken_back() {
        let (filter, used) = filter();
        filter.set("debug", None).unwrap();
        assert!(tokio::time::timeout(Duration::from_secs(1 << 20), filter.run()).await.is_err());
        assert_eq!(*used.lock().unwrap(), ["debug"]);
        filter.take_back().unwrap();
        assert_eq!(*used.lock().unwrap(), ["debug", "info"]);
    }

    #[test]
    fn a_filter_that_is_not_valid_changes_nothing() {
        let (filter, used) = filter();
        assert!(filter.set("inof", None).is_err());
        assert!(used.lock().unwrap().is_empty());
        assert_eq!(filter.to_json()["filter"], "info");
        let silent = Filter::new();
        assert!(matches!(silent.set("info", None), Err(LogError::NoLogger)));
    }
}
