//! The most recent repairs, warnings and rejections, for the admin page: rendered lines without
//! tensor values, in bounded memory.
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, TryLockError};
use std::time::SystemTime;

use crate::sorting;
use serde_json::{Value, json};

/// What happened to a request, as text.
#[derive(Debug, Clone, Copy, Hash)]
pub(crate) struct Entry<'a> {
    /// `repaired`, `warned`, `rejected`, `would repair`, `would reject`, or `passed` for a request
    /// that was forwarded although it does not conform.
    pub(crate) outcome: &'static str,
    /// The first rule or reason.
    pub(crate) kind: &'static str,
    pub(crate) model: &'a str,
    pub(crate) signature: &'a str,
    /// Who sent it (`client_identity`); empty if clients are not named.
    pub(crate) client: &'a str,
    /// The report: repairs as in the `tfs-sidecar-repair` metadata and the warnings, or the
    /// rejection.
    pub(crate) lines: &'a [String],
}

/// The last entries. Equal entries are merged and counted, and of one client with the same outcome
/// and kind only a few are kept, so that no client pushes out the others.
#[derive(Debug)]
pub(crate) struct Recent {
    entries: Mutex<Entries>,
    capacity: usize,
    /// Entries of one client with the same outcome and kind.
    alike: usize,
    missed: AtomicU64,
}

#[derive(Debug, Default)]
struct Entries {
    /// In no order. The hash of each is in the same place of `hashes`.
    seen: Vec<Seen>,
    hashes: Vec<u64>,
    /// Numbers the pushes.
    next: u64,
    hasher: RandomState,
}

#[derive(Debug)]
struct Seen {
    outcome: &'static str,
    kind: &'static str,
    model: String,
    signature: String,
    client: String,
    lines: Vec<String>,
    count: u64,
    first: SystemTime,
    last: SystemTime,
    /// Of the last push.
    number: u64,
}

/// What is longer is cut: a rejection lists every problem of a request, and names come from
/// clients.
const MAX_LINE: usize = 1024;
const MAX_LINES: usize = 16;
const MAX_NAME: usize = 256;
/// One client has at most this part of all entries.
const PART: usize = 8;

impl Recent {
    /// Keeps `capacity` entries, and at most `alike` of one client with the same outcome and kind.
    pub(crate) fn new(capacity: usize, alike: usize) -> Self {
        let (capacity, alike) = (capacity.max(1), alike.max(1));
        Self { entries: Mutex::default(), capacity, alike, missed: AtomicU64::new(0) }
    }

    /// Adds an entry. Never waits: if another thread holds the lock, it only counts a miss.
    pub(crate) fn push(&self, entry: Entry<'_>, now: SystemTime) {
        let mut entries = match self.entries.try_lock() {
            Ok(entries) => entries,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => {
                self.missed.fetch_add(1, Ordering::Relaxed);
                return;
            }
        };
        entries.next += 1;
        let (number, hash) = (entries.next, entries.hasher.hash_one(entry));
        let at = entries.hashes.iter().position(|seen| *seen == hash);
        if let Some(seen) = at.and_then(|at| entries.seen.get_mut(at)) {
            seen.count += 1;
            (seen.last, seen.number) = (now, number);
            return;
        }
        let Entry { client, outcome, kind, .. } = entry;
        let of_client = (self.capacity / PART).max(self.alike);
        entries.make_room(self.alike, |seen| {
            (&*seen.client, seen.outcome, seen.kind) == (client, outcome, kind)
        });
        entries.make_room(of_client, |seen| seen.client == client);
        entries.make_room(self.capacity, |_| true);
        entries.hashes.push(hash);
        entries.seen.push(Seen::new(entry, number, now));
    }

    /// `{"missed", "entries": [{"outcome", "kind", "model", "signature", "client", "lines",
    /// "count", "first", "last"}]}`, newest first; times in RFC 3339.
    pub(crate) fn to_json(&self) -> Value {
        let entries = self.entries.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let time = |time: SystemTime| humantime::format_rfc3339_seconds(time).to_string();
        let mut all: Vec<&Seen> = entries.seen.iter().collect();
        sorting::by_key(&mut all, |seen| std::cmp::Reverse(seen.number));
        let entries: Vec<Value> = all
            .into_iter()
            .map(|seen| {
                let Seen { outcome, kind, model, signature, client, lines, count, first, last, .. } = seen;
                json!({
                    "outcome": outcome, "kind": kind, "model": model, "signature": signature, "client": client,
                    "lines": lines, "count": count, "first": time(*first), "last": time(*last),
                })
            })
            .collect();
        json!({"missed": self.missed.load(Ordering::Relaxed), "entries": entries})
    }
}

impl Entries {
    /// Drops the oldest of these if there are `max` of them.
    fn make_room(&mut self, max: usize, which: impl Fn(&Seen) -> bool) {
        let these = || self.seen.iter().enumerate().filter(|(_, seen)| which(seen));
        if these().count() >= max
            && let Some((oldest, _)) = these().min_by_key(|(_, seen)| seen.number)
        {
            self.seen.swap_remove(oldest);
            self.hashes.swap_remove(oldest);
        }
    }
}

impl Seen {
    fn new(entry: Entry<'_>, number: u64, now: SystemTime) -> Self {
        let Entry { outcome, kind, model, signature, client, lines } = entry;
        let [model, signature, client] = [model, signature, client].map(|name| shortened(name, MAX_NAME));
        let lines = lines.iter().take(MAX_LINES).map(|line| shortened(line, MAX_LINE)).collect();
        Self { outcome, kind, model, signature, client, lines, count: 1, first: now, last: now, number }
    }
}

fn shortened(text: &str, bytes: usize) -> String {
    if text.len() <= bytes {
        return text.to_owned();
    }
    let end = (0..=bytes).rev().find(|at| text.is_char_boundary(*at));
    format!("{}...", text.get(..end.unwrap_or(0)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn push(recent: &Recent, model: &str, client: &str, kind: &'static str, lines: &[String], second: u64) {
        let entry = Entry { outcome: "repaired", kind, model, signature: "serving_default", client, lines };
        recent.push(entry, at(second));
    }

    fn push_model(recent: &Recent, model: &str, second: u64) {
        let lines = ["x;add_batch_dim;[2]->[1,2]".to_owned()];
        push(recent, model, "10.0.0.7", "add_batch_dim", &lines, second);
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn the_newest_entries_are_kept_and_listed_first() {
        let recent = Recent::new(2, 2);
        for (second, model) in ["a", "b", "c"].into_iter().enumerate() {
            push_model(&recent, model, second as u64);
        }
        let shown = recent.to_json();
        let models: Vec<&str> =
            shown["entries"].as_array().unwrap().iter().filter_map(|entry| entry["model"].as_str()).collect();
        assert_eq!(models, ["c", "b"]);
    }

    #[test]
    fn equal_entries_are_merged_and_counted() {
        let recent = Recent::new(2, 2);
        push_model(&recent, "other", 0);
        for second in 1..=100 {
            push_model(&recent, "a", second);
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
        let recent = Recent::new(1, 1);
        push(&recent, &"ä".repeat(400), "", "", &vec!["x".repeat(5000); 100], 0);
        let shown = recent.to_json().to_string();
        assert!(shown.len() < 2 * (MAX_LINES * MAX_LINE + 4 * MAX_NAME), "{}", shown.len());
    }

    #[test]
    fn a_request_never_waits_for_a_reader() {
        let recent = Recent::new(1, 1);
        let guard = recent.entries.lock().unwrap();
        push_model(&recent, "a", 0);
        drop(guard);
        assert_eq!(recent.to_json()["missed"], 1);
    }

    #[test]
    fn a_client_that_varies_its_mistakes_does_not_push_out_the_others() {
        let recent = Recent::new(200, 3);
        push(&recent, "m", "quiet", "add_batch_dim", &[], 0);
        for number in 0..10_000 {
            let lines = vec![format!("x;add_batch_dim;[{number}]->[1,{number}]")];
            push(&recent, "m", "10.0.0.7", "add_batch_dim", &lines, number);
        }
        let clients = |recent: &Recent| -> Vec<String> {
            let shown = recent.to_json();
            let entries = shown["entries"].as_array().unwrap();
            entries.iter().map(|entry| entry["client"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(clients(&recent), ["10.0.0.7", "10.0.0.7", "10.0.0.7", "quiet"]);
        for (number, reason) in crate::repair::Reason::ALL.iter().cycle().take(1_000).enumerate() {
            let lines = vec![number.to_string()];
            push(&recent, "m", "10.0.0.7", reason.as_str(), &lines, 20_000);
        }
        let listed = clients(&recent);
        assert_eq!(listed.len(), 200 / PART + 1, "of all kinds together");
        assert_eq!(listed.last().unwrap(), "quiet");
        let entries = recent.entries.lock().unwrap();
        assert_eq!(entries.hashes.len(), entries.seen.len(), "nothing is left of what was dropped");
    }
}
