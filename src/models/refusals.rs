//! Remembers what TF Serving does not serve for a moment, so that a client that repeats a wrong
//! name does not load the server.
use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::fault::Fault;
use crate::wire::VersionChoice;

/// A model, and the version or label that was asked for.
pub(super) type Key = (String, VersionChoice);

/// Bounds on what clients can make us remember.
pub(super) const MAX_REMEMBERED: usize = 1024;
const MAX_NAME_LENGTH: usize = 256;

/// The last refusals. Those of a model that is served are forgotten sooner, because a version or
/// label may appear at any time.
#[derive(Debug, Default)]
pub(super) struct Refusals(HashMap<Key, (Instant, Fault)>);

impl Refusals {
    /// How long "no such model" is remembered.
    const OF_UNKNOWN: Duration = Duration::from_secs(1);
    /// How long "no such version" or "no such label" is remembered.
    const OF_KNOWN: Duration = Duration::from_millis(100);

    /// How long signatures that cannot be read are remembered: reading them again may cost TF
    /// Serving megabytes.
    const OF_UNREADABLE: Duration = Duration::from_secs(5);

    /// The refusal of the key, if it is recent. `known`: the model itself is served.
    pub(super) fn recall(&self, key: &Key, known: bool) -> Option<Fault> {
        let (when, fault) = self.0.get(key)?;
        (when.elapsed() < Self::remembered(fault, known)).then(|| fault.clone())
    }

    fn remembered(fault: &Fault, known: bool) -> Duration {
        match fault {
            Fault::Internal { .. } => Self::OF_UNREADABLE,
            _ if known => Self::OF_KNOWN,
            _ => Self::OF_UNKNOWN,
        }
    }

    /// Remembers what TF Serving itself answered. Failing to reach it says nothing about the model.
    pub(super) fn remember(&mut self, key: &Key, fault: &Fault) {
        if !matches!(fault, Fault::ModelUnknown { .. } | Fault::Upstream { .. } | Fault::Internal { .. })
            || key.0.len() > MAX_NAME_LENGTH
        {
            return;
        }
        if self.0.len() >= MAX_REMEMBERED {
            self.0.retain(|_, (when, fault)| when.elapsed() < Self::remembered(fault, false));
        }
        if self.0.len() < MAX_REMEMBERED {
            self.0.insert(key.clone(), (Instant::now(), fault.clone()));
        }
    }

    /// The model has changed.
    pub(super) fn forget(&mut self, model: &str) {
        self.0.retain(|(name, _), _| name != model);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> Fault {
        Fault::ModelUnknown { model: "m".to_owned(), text: text.to_owned() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_remembered_for_a_moment_and_shorter_for_a_model_that_is_served() {
        let mut refusals = Refusals::default();
        let key = ("m".to_owned(), VersionChoice::Version(2));
        assert!(refusals.recall(&key, true).is_none());
        refusals.remember(&key, &refused("no version 2"));
        assert_eq!(refusals.recall(&key, true).unwrap().to_string(), "no version 2");
        tokio::time::advance(Duration::from_millis(101)).await;
        assert!(refusals.recall(&key, true).is_none() && refusals.recall(&key, false).is_some());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(refusals.recall(&key, false).is_none());
        refusals.remember(&key, &refused("still none"));
        refusals.forget("m");
        assert!(refusals.recall(&key, false).is_none(), "the model has changed");
    }

    #[tokio::test(start_paused = true)]
    async fn names_of_clients_take_bounded_memory() {
        let mut refusals = Refusals::default();
        for number in 0..3 * MAX_REMEMBERED {
            refusals.remember(&(format!("m{number}"), VersionChoice::Latest), &refused(""));
        }
        refusals.remember(&("x".repeat(MAX_NAME_LENGTH + 1), VersionChoice::Latest), &refused(""));
        assert_eq!(refusals.0.len(), MAX_REMEMBERED);
        tokio::time::advance(Duration::from_secs(2)).await;
        refusals.remember(&("later".to_owned(), VersionChoice::Latest), &refused(""));
        assert_eq!(refusals.0.len(), 1, "old ones make room");
        let draining = ("later2".to_owned(), VersionChoice::Latest);
        refusals.remember(&draining, &Fault::Draining);
        assert!(refusals.recall(&draining, false).is_none(), "not what TF Serving said");
    }
}
