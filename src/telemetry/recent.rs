//! The most recent repairs, warnings and rejections, for the admin page: rendered lines without
//! tensor values, in bounded memory.
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, TryLockError};
use std::time::SystemTime;

use serde::Serialize;
use serde_json::{Value, json};

/// What happened to a request, as text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Entry {
    /// `repaired`, `warned`, `rejected`, `would repair`, `would reject`, or `passed` for a request
    /// that was forwarded although it does not conform.
    pub(crate) outcome: &'static str,
    pub(crate) model: String,
    pub(crate) signature: String,
    /// Who sent it (`client_identity`); empty if clients are not named.
    pub(crate) client: String,
    /// The report: repairs as in the `tfs-sidecar-repair` metadata and the warnings, or the
    /// rejection.
    pub(crate) lines: Vec<String>,
}

/// A bounded ring of entries. Equal entries are merged and counted, so that a client that repeats
/// itself does not push out the others.
#[derive(Debug)]
pub(crate) struct Recent {
    ring: Mutex<VecDeque<Seen>>,
    capacity: usize,
    missed: AtomicU64,
}

#[derive(Debug)]
struct Seen {
    entry: Entry,
    count: u64,
    first: SystemTime,
    last: SystemTime,
}

/// What is longer is cut: a rejection lists every problem of a request, and names come from
/// clients.
const MAX_LINE: usize = 1024;
const MAX_LINES: usize = 16;
const MAX_NAME: usize = 256;

impl Recent {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { ring: Mutex::new(VecDeque::new()), capacity: capacity.max(1), missed: AtomicU64::new(0) }
    }

    /// Adds an entry. Never waits: if another thread holds the lock, it only counts a miss.
    pub(crate) fn push(&self, entry: Entry, now: SystemTime) {
        let mut ring = match self.ring.try_lock() {
            Ok(ring) => ring,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => {
                self.missed.fetch_add(1, Ordering::Relaxed);
                return;
            }
        };
        let entry = cut(entry);
        let seen = match ring.iter().position(|seen| seen.entry == entry).and_then(|index| ring.remove(index))
        {
            Some(seen) => Seen { count: seen.count + 1, last: now, ..seen },
            None => Seen { entry, count: 1, first: now, last: now },
        };
        if ring.len() == self.capacity {
            ring.pop_front();
        }
        ring.push_back(seen);
    }

    /// `{"missed", "entries": [{"outcome", "model", "signature", "client", "lines", "count",
    /// "first", "last"}]}`, newest first; times in RFC 3339.
    pub(crate) fn to_json(&self) -> Value {
        let ring = self.ring.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let time = |time: SystemTime| humantime::format_rfc3339_seconds(time).to_string();
        let entries: Vec<Value> = ring
            .iter()
            .rev()
            .map(|Seen { entry, count, first, last }| {
                let Entry { outcome, model, signature, client, lines } = entry;
                json!({
                    "outcome": outcome, "model": model, "signature": signature, "client": client, "lines": lines,
                    "count": count, "first": time(*first), "last": time(*last),
                })
            })
            .collect();
        json!({"missed": self.missed.load(Ordering::Relaxed), "entries": entries})
    }
}

fn cut(mut entry: Entry) -> Entry {
    for name in [&mut entry.model, &mut entry.signature, &mut entry.client] {
        shorten(name, MAX_NAME);
    }
    entry.lines.truncate(MAX_LINES);
    for line in &mut entry.lines {
        shorten(line, MAX_LINE);
    }
    entry
}

fn shorten(text: &mut String, bytes: usize) {
    if text.len() > bytes {
        let cut = (0..=bytes).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(cut);
        text.push_str("...");
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn entry(model: &str) -> Entry {
        Entry {
            outcome: "repaired",
            model: model.to_owned(),
            signature: "serving_default".to_owned(),
            client: "10.0.0.7".to_owned(),
            lines: vec!["x;add_batch_dim;[2]->[1,2]".to_owned()],
        }
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn the_newest_entries_are_kept_and_listed_first() {
        let recent = Recent::new(2);
        for (second, model) in ["a", "b", "c"].into_iter().enumerate() {
            recent.push(entry(model), at(second as u64));
        }
        let shown = recent.to_json();
        let models: Vec<&str> =
            shown["entries"].as_array().unwrap().iter().filter_map(|entry| entry["model"].as_str()).collect();
        assert_eq!(models, ["c", "b"]);
    }

    #[test]
    fn equal_entries_are_merged_and_counted() {
        let recent = Recent::new(2);
        recent.push(entry("other"), at(0));
        for second in 1..=100 {
            recent.push(entry("a"), at(second));
        }
        let shown = recent.to_json();
        let first = &shown["entries"][0];
        assert_eq!(
            (first["count"].as_u64(), first["last"].as_str()),
            (Some(100), Some("1970-01-01T00:01:40Z"))
        );
        assert_eq!(first["first"].as_str(), Some("1970-01-01T00:00:01Z"));
        assert_eq!(shown["entries"][1]["model"], "other");
    }

    #[test]
    fn long_text_is_cut_between_characters() {
        let recent = Recent::new(1);
        let mut long = entry(&"ä".repeat(400));
        long.lines = vec!["x".repeat(5000); 100];
        recent.push(long, at(0));
        let shown = recent.to_json().to_string();
        assert!(shown.len() < 2 * (MAX_LINES * MAX_LINE + 4 * MAX_NAME), "{}", shown.len());
    }

    #[test]
    fn a_request_never_waits_for_a_reader() {
        let recent = Recent::new(1);
        let guard = recent.ring.lock().unwrap();
        recent.push(entry("a"), at(0));
        drop(guard);
        assert_eq!(recent.to_json()["missed"], 1);
    }
}
