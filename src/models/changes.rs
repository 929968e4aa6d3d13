//! What a refresh reports of a model: log lines about what changed, the same for the page, and the
//! inputs for the metrics.
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use serde_json::{Value, json};

use super::catalog::Entry;
use crate::telemetry::metrics::SignatureInput;

/// Refreshes that are listed, changes of each, and bytes of a change.
const MAX_LISTED: usize = 64;
const MAX_LINES: usize = 32;
const MAX_LINE: usize = 256;

/// Changes that are logged one by one.
const MAX_CHANGES: usize = 64;
/// Inputs of one model that have a series.
const MAX_INPUTS: usize = 4096;

/// The last refreshes that found another version or other signatures. The control thread writes it.
#[derive(Debug, Default)]
pub(crate) struct Changes(Mutex<Listed>);

#[derive(Debug, Default)]
struct Listed {
    all: VecDeque<Changed>,
    /// The number of the next one.
    next: u64,
}

#[derive(Debug)]
struct Changed {
    number: u64,
    at: SystemTime,
    model: String,
    from: Option<i64>,
    to: Option<i64>,
    lines: Vec<String>,
    /// Lines that are left out.
    more: usize,
    /// What it means for the clients, once that is known.
    forecast: Value,
}

impl Changes {
    /// Notes what differs, unless nothing does. Returns the number of the change.
    pub(super) fn note(
        &self,
        model: &str,
        before: &Entry,
        after: &Entry,
        lines: &[String],
        at: SystemTime,
    ) -> Option<u64> {
        if before.latest == after.latest && lines.is_empty() {
            return None;
        }
        let mut listed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        listed.next += 1;
        let number = listed.next;
        let all = &mut listed.all;
        if all.len() == MAX_LISTED {
            all.pop_front();
        }
        let cut = |line: &String| line.chars().take(MAX_LINE).collect();
        all.push_back(Changed {
            number,
            at,
            model: model.to_owned(),
            from: before.latest,
            to: after.latest,
            lines: lines.iter().take(MAX_LINES).map(cut).collect(),
            more: lines.len().saturating_sub(MAX_LINES),
            forecast: Value::Null,
        });
        Some(number)
    }

    /// Adds what a change means for the clients.
    pub(super) fn set_forecast(&self, number: u64, forecast: Value) {
        let mut listed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(changed) = listed.all.iter_mut().find(|changed| changed.number == number) {
            changed.forecast = forecast;
        }
    }

    /// `[{"at", "model", "from", "to", "changes": [text], "more", "forecast"}]`, newest first.
    pub(crate) fn to_json(&self) -> Value {
        let listed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let shown = |changed: &Changed| {
            let Changed { at, model, from, to, lines, more, forecast, .. } = changed;
            let at = humantime::format_rfc3339_seconds(*at).to_string();
            json!({
                "at": at, "model": model, "from": from, "to": to, "changes": lines, "more": more,
                "forecast": forecast,
            })
        };
        listed.all.iter().rev().map(shown).collect()
    }
}

pub(super) fn log_changes(model: &str, before: &Entry, after: &Entry, changes: &[String]) {
    if let Some(more) = changes.len().checked_sub(MAX_CHANGES + 1) {
        tracing::warn!(%model, more = more + 1, "signatures changed, not all are listed");
    }
    for change in changes.iter().take(MAX_CHANGES) {
        tracing::warn!(%model, from = before.latest, to = after.latest, %change, "signature changed");
    }
    if before.latest != after.latest {
        tracing::info!(%model, version = after.latest, "signatures read");
    }
}

/// Every input of every signature in the entry, at most [`MAX_INPUTS`].
pub(super) fn signature_info(entry: &Entry) -> Vec<SignatureInput> {
    let mut inputs = Vec::new();
    for (number, version) in &entry.versions {
        for signature in version.signatures.servable() {
            if inputs.len() >= MAX_INPUTS {
                inputs.truncate(MAX_INPUTS);
                return inputs;
            }
            inputs.extend(signature.inputs.iter().map(|info| SignatureInput {
                version: number.to_string(),
                signature: signature.name.clone(),
                input: info.alias.clone(),
                dtype: info.dtype.name().into_owned(),
                shape: info.shape.to_string(),
            }));
        }
    }
    inputs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::LogFormat;
    use crate::telemetry::log::tests::captured;

    fn logged(before: Option<i64>, after: Option<i64>) -> Vec<serde_json::Value> {
        let entry = |latest| Entry { latest, ..Entry::default() };
        let changes = ["input `x` was added".to_owned()];
        let text = captured(LogFormat::Json, "info", || {
            log_changes("m", &entry(before), &entry(after), &changes);
        });
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn versions_are_logged_as_numbers() {
        let [changed, read] = &logged(Some(1), Some(2))[..] else { panic!("two lines") };
        assert_eq!((&changed["from"], &changed["to"]), (&1.into(), &2.into()), "{changed}");
        assert_eq!((&changed["model"], &changed["change"]), (&"m".into(), &"input `x` was added".into()));
        assert_eq!(read["version"], 2, "{read}");
    }

    #[test]
    fn a_version_that_is_not_known_is_left_out_of_the_log() {
        let [changed, read] = &logged(None, Some(2))[..] else { panic!("two lines") };
        assert_eq!((changed.get("from"), &changed["to"]), (None, &2.into()), "{changed}");
        assert_eq!(read["version"], 2, "{read}");
    }

    #[test]
    fn the_last_changes_are_listed_newest_first_and_bounded() {
        let entry = |latest| Entry { latest: Some(latest), ..Entry::default() };
        let changes = Changes::default();
        let lines = vec!["x".repeat(10_000); MAX_LINES + 3];
        for version in 1..=2 * MAX_LISTED as i64 {
            changes.note("m", &entry(version), &entry(version + 1), &lines, SystemTime::UNIX_EPOCH);
        }
        changes.note("m", &entry(1), &entry(1), &[], SystemTime::UNIX_EPOCH);
        let listed = changes.to_json();
        assert_eq!(listed.as_array().unwrap().len(), MAX_LISTED);
        let newest = &listed[0];
        assert_eq!((&newest["from"], &newest["to"], &newest["more"]), (&128.into(), &129.into(), &3.into()));
        assert_eq!(newest["at"], "1970-01-01T00:00:00Z");
        assert!(listed.to_string().len() < MAX_LISTED * (MAX_LINES * (MAX_LINE + 4) + 200));
    }
}
