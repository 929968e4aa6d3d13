//! Modes that an operator has changed for some time, over those of the configuration.
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::config::Config;
use crate::repair::Mode;
use crate::telemetry::metrics;

/// The longest time that a mode may be changed for.
const MAX_TIME: Duration = Duration::from_secs(24 * 60 * 60);
/// Changed modes at a time.
const MAX_OVERRIDES: usize = 256;

/// The changed modes, of one model each or of all.
#[derive(Debug, Default)]
pub(super) struct Modes {
    list: Mutex<Vec<Override>>,
    changed: Notify,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Override {
    /// `None` for all models.
    model: Option<String>,
    mode: Mode,
    end: Instant,
    /// The end for people.
    until: SystemTime,
}

impl Modes {
    /// Changes the mode of a model, or of all. It replaces what was changed before for the same
    /// models.
    ///
    /// # Errors
    /// The time is too long, or too many modes are changed.
    pub(super) fn set(&self, model: Option<&str>, mode: Mode, time: Duration) -> Result<(), String> {
        if time > MAX_TIME {
            return Err("a mode can be changed for at most 24 hours".to_owned());
        }
        let mut list = self.list();
        if list.len() >= MAX_OVERRIDES && model.is_some_and(|model| !list.iter().any(|it| it.is_of(model))) {
            return Err(format!("the modes of too many models are changed (limit {MAX_OVERRIDES})"));
        }
        let new = Override {
            model: model.map(str::to_owned),
            mode,
            end: Instant::now() + time,
            until: SystemTime::now() + time,
        };
        remove(&mut list, |old| model.is_none_or(|model| old.is_of(model)), "replaced");
        let until = humantime::format_rfc3339_seconds(new.until);
        tracing::warn!(model = new.name(), mode = mode.as_str(), %until, "the mode is overridden");
        metrics::mode_overridden(new.name(), mode.as_str());
        list.push(new);
        drop(list);
        self.changed.notify_one();
        Ok(())
    }

    /// Returns a model to its configured mode; all models without a name.
    pub(super) fn take_back(&self, model: Option<&str>) {
        remove(&mut self.list(), |old| model.is_none_or(|model| old.is_of(model)), "taken back");
        self.changed.notify_one();
    }

    /// Returns when the time of one is over, and drops it.
    pub(super) async fn expired(&self) {
        loop {
            let next = self.list().iter().map(|it| it.end).min();
            let changed = self.changed.notified();
            let Some(next) = next else {
                changed.await;
                continue;
            };
            if tokio::time::timeout_at(next, changed).await.is_err() {
                let now = Instant::now();
                remove(&mut self.list(), |it| it.end <= now, "its time is over");
                return;
            }
        }
    }

    /// Puts the modes into a configuration.
    pub(super) fn apply(&self, config: &mut Config) {
        // One for all models was set before those of single models that are still there.
        for it in self.list().iter() {
            config.set_mode(it.model.as_deref(), it.mode);
        }
    }

    /// `[{"model": name or null, "mode", "until", "seconds_left"}]`.
    pub(super) fn to_json(&self) -> Value {
        let now = Instant::now();
        let list = self.list();
        let all = list.iter().map(|it| {
            let until = humantime::format_rfc3339_seconds(it.until).to_string();
            let left = it.end.saturating_duration_since(now).as_secs();
            json!({"model": it.model, "mode": it.mode.as_str(), "until": until, "seconds_left": left})
        });
        all.collect()
    }

    fn list(&self) -> MutexGuard<'_, Vec<Override>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Override {
    fn is_of(&self, model: &str) -> bool {
        self.model.as_deref() == Some(model)
    }

    /// The model, as metrics and the log name it.
    fn name(&self) -> &str {
        self.model.as_deref().unwrap_or(metrics::ALL_MODELS)
    }
}

/// Drops those that end, and logs why.
fn remove(list: &mut Vec<Override>, ends: impl Fn(&Override) -> bool, why: &str) {
    list.retain(|it| {
        let ends = ends(it);
        if ends {
            tracing::warn!(
                model = it.name(),
                mode = it.mode.as_str(),
                why,
                "the mode is not overridden any more"
            );
            metrics::set_mode_override(it.name(), None);
        }
        !ends
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn modes_of(modes: &Modes) -> [Mode; 3] {
        let mut config = Config::default();
        config.models.insert("declared".to_owned(), config.defaults.clone());
        modes.apply(&mut config);
        ["declared", "other", "third"].map(|model| config.policy(model).defaults.mode)
    }

    #[tokio::test(start_paused = true)]
    async fn a_mode_is_changed_for_one_model_or_for_all_until_its_end() {
        let modes = Modes::default();
        let usual = modes_of(&modes)[0];
        modes.set(Some("declared"), Mode::Strict, MINUTE).unwrap();
        modes.set(Some("other"), Mode::Observe, 2 * MINUTE).unwrap();
        assert_eq!(modes_of(&modes), [Mode::Strict, Mode::Observe, usual]);
        let start = Instant::now();
        modes.expired().await;
        assert_eq!(start.elapsed().as_secs(), 60);
        assert_eq!(modes_of(&modes), [usual, Mode::Observe, usual]);

        // The last word counts.
        modes.set(None, Mode::Off, MINUTE * 3).unwrap();
        assert_eq!(modes_of(&modes), [Mode::Off; 3]);
        modes.set(Some("other"), Mode::Strict, MINUTE).unwrap();
        assert_eq!(modes_of(&modes), [Mode::Off, Mode::Strict, Mode::Off]);
        modes.take_back(Some("other"));
        assert_eq!(modes_of(&modes), [Mode::Off; 3]);
        modes.take_back(None);
        assert_eq!(modes_of(&modes), [usual; 3]);
    }

    #[tokio::test(start_paused = true)]
    async fn no_mode_is_changed_for_more_than_a_day_and_not_for_too_many_models() {
        let modes = Modes::default();
        assert!(modes.set(None, Mode::Off, MAX_TIME + MINUTE).is_err());
        modes.set(None, Mode::Off, MAX_TIME).unwrap();
        let start = Instant::now();
        modes.expired().await;
        assert_eq!(start.elapsed(), MAX_TIME);
        for number in 0..MAX_OVERRIDES {
            modes.set(Some(&number.to_string()), Mode::Off, MINUTE).unwrap();
        }
        assert!(modes.set(Some("more"), Mode::Off, MINUTE).is_err());
        modes.set(Some("7"), Mode::Strict, MINUTE).unwrap();
        modes.set(None, Mode::Strict, MINUTE).unwrap();
    }
}
