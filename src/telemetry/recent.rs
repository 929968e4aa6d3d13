//! The most recent repairs, warnings and rejections, for the admin page: rendered lines without
//! tensor values, in bounded memory.
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, TryLockError};
use std::time::SystemTime;

use serde_json::{Value, json};

/// What happened to a request, as text.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Entry {
    /// `repaired`, `warned`, `rejected`, `would repair`, `would reject`, or `passed` for a request
    /// that was forwarded although it does not conform.
    pub(crate) outcome: &'static str,
    /// The first rule or reason.
    pub(crate) kind: &'static str,
    pub(crate) model: String,
    pub(crate) signature: String,
    /// Who sent it (`client_identity`); empty if clients are not named.
    pub(crate) client: String,
    /// The report: repairs as in the `tfs-sidecar-repair` metadata and the warnings, or the
    /// rejection.
    pub(crate) lines: Vec<String>,
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
    /// By number, the oldest first. An entry that is seen again gets a new number.
    seen: BTreeMap<u64, Seen>,
    next: u64,
    /// The numbers of entries, by the hash of the entry.
    numbers: HashMap<u64, u64>,
    /// The numbers of entries of one client, and of those that are alike, the oldest first.
    groups: HashMap<u64, VecDeque<u64>>,
    hasher: RandomState,
}

#[derive(Debug)]
struct Seen {
    entry: Entry,
    /// Of the entry and of its groups.
    hashes: Hashes,
    count: u64,
    first: SystemTime,
    last: SystemTime,
}

#[derive(Debug, Clone, Copy)]
struct Hashes {
    entry: u64,
    client: u64,
    alike: u64,
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
    pub(crate) fn push(&self, entry: Entry, now: SystemTime) {
        let mut entries = match self.entries.try_lock() {
            Ok(entries) => entries,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => {
                self.missed.fetch_add(1, Ordering::Relaxed);
                return;
            }
        };
        let entry = cut(entry);
        let hashes = entries.hashes(&entry);
        if let Some(number) = entries.numbers.get(&hashes.entry).copied()
            && let Some(seen) = entries.remove(number)
        {
            entries.add(Seen { count: seen.count + 1, last: now, ..seen });
            return;
        }
        let of_client = (self.capacity / PART).max(self.alike);
        for (group, max) in [(hashes.alike, self.alike), (hashes.client, of_client)] {
            if let Some(oldest) = entries.oldest(group, max) {
                entries.remove(oldest);
            }
        }
        if entries.seen.len() >= self.capacity
            && let Some(oldest) = entries.seen.keys().next().copied()
        {
            entries.remove(oldest);
        }
        entries.add(Seen { entry, hashes, count: 1, first: now, last: now });
    }

    /// `{"missed", "entries": [{"outcome", "kind", "model", "signature", "client", "lines",
    /// "count", "first", "last"}]}`, newest first; times in RFC 3339.
    pub(crate) fn to_json(&self) -> Value {
        let entries = self.entries.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let time = |time: SystemTime| humantime::format_rfc3339_seconds(time).to_string();
        let entries: Vec<Value> = entries
            .seen
            .values()
            .rev()
            .map(|Seen { entry, count, first, last, .. }| {
                let Entry { outcome, kind, model, signature, client, lines } = entry;
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
    fn hashes(&self, entry: &Entry) -> Hashes {
        let Entry { client, outcome, kind, .. } = entry;
        Hashes {
            entry: self.hasher.hash_one(entry),
            client: self.hasher.hash_one(client),
            alike: self.hasher.hash_one((client, outcome, kind)),
        }
    }

    fn add(&mut self, seen: Seen) {
        let number = self.next;
        self.next += 1;
        self.numbers.insert(seen.hashes.entry, number);
        for group in [seen.hashes.client, seen.hashes.alike] {
            self.groups.entry(group).or_default().push_back(number);
        }
        self.seen.insert(number, seen);
    }

    fn remove(&mut self, number: u64) -> Option<Seen> {
        let seen = self.seen.remove(&number)?;
        self.numbers.remove(&seen.hashes.entry);
        for group in [seen.hashes.client, seen.hashes.alike] {
            if let Some(numbers) = self.groups.get_mut(&group) {
                numbers.retain(|other| *other != number);
                if numbers.is_empty() {
                    self.groups.remove(&group);
                }
            }
        }
        Some(seen)
    }

    /// The oldest entry of a group that has `max` of them.
    fn oldest(&self, group: u64, max: usize) -> Option<u64> {
        let numbers = self.groups.get(&group).filter(|numbers| numbers.len() >= max)?;
        numbers.front().copied()
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
            kind: "add_batch_dim",
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
        let recent = Recent::new(2, 2);
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
        let recent = Recent::new(2, 2);
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
        let recent = Recent::new(1, 1);
        let mut long = entry(&"ä".repeat(400));
        long.lines = vec!["x".repeat(5000); 100];
        recent.push(long, at(0));
        let shown = recent.to_json().to_string();
        assert!(shown.len() < 2 * (MAX_LINES * MAX_LINE + 4 * MAX_NAME), "{}", shown.len());
    }

    #[test]
    fn a_request_never_waits_for_a_reader() {
        let recent = Recent::new(1, 1);
        let guard = recent.entries.lock().unwrap();
        recent.push(entry("a"), at(0));
        drop(guard);
        assert_eq!(recent.to_json()["missed"], 1);
    }

    #[test]
    fn a_client_that_varies_its_mistakes_does_not_push_out_the_others() {
        let recent = Recent::new(200, 3);
        recent.push(Entry { client: "quiet".to_owned(), ..entry("m") }, at(0));
        for number in 0..10_000 {
            let lines = vec![format!("x;add_batch_dim;[{number}]->[1,{number}]")];
            recent.push(Entry { lines, ..entry("m") }, at(number));
        }
        let clients = |recent: &Recent| -> Vec<String> {
            let shown = recent.to_json();
            let entries = shown["entries"].as_array().unwrap();
            entries.iter().map(|entry| entry["client"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(clients(&recent), ["10.0.0.7", "10.0.0.7", "10.0.0.7", "quiet"]);
        for (number, reason) in crate::repair::Reason::ALL.iter().cycle().take(1_000).enumerate() {
            let lines = vec![number.to_string()];
            recent.push(Entry { kind: reason.as_str(), lines, ..entry("m") }, at(20_000));
        }
        let listed = clients(&recent);
        assert_eq!(listed.len(), 200 / PART + 1, "of all kinds together");
        assert_eq!(listed.last().unwrap(), "quiet");
        let entries = recent.entries.lock().unwrap();
        assert_eq!(entries.numbers.len(), entries.seen.len());
        assert!(entries.groups.len() <= 2 * entries.seen.len(), "nothing is left of what was dropped");
    }
}
