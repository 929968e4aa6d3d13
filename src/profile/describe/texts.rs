//! Statistics of strings: lengths, and the most frequent ones by the method of Misra and Gries.
use std::collections::HashMap;

use super::Numbers;
use crate::profile::{MAX_TEXT_BYTES, MAX_VALUES, TextProfile};
use crate::sorting;

/// Distinct strings that are counted at once. A string that is more than a share of 1 / 1024 of all
/// is certainly among them.
const CAPACITY: usize = 1024;

/// Statistics of strings, in at most about 400 KB.
#[derive(Debug, Default, Clone)]
pub struct Texts {
    count: u64,
    empty: u64,
    length: Numbers,
    counts: HashMap<Box<str>, u64>,
    /// What each count may be too small by.
    lost: u64,
    /// A string was too long to keep, or not UTF-8.
    skipped: bool,
}

impl Texts {
    pub fn add(&mut self, text: &[u8]) {
        self.count += 1;
        self.empty += u64::from(text.is_empty());
        self.length.add(text.len() as f64);
        match std::str::from_utf8(text) {
            Ok(text) if text.len() <= MAX_TEXT_BYTES => self.count_text(text),
            _ => self.skipped = true,
        }
    }

    fn count_text(&mut self, text: &str) {
        if let Some(count) = self.counts.get_mut(text) {
            *count += 1;
        } else if self.counts.len() < CAPACITY {
            self.counts.insert(text.into(), 1);
        } else {
            // The new string and one occurrence of each known one are forgotten together. Each was
            // counted once before, so this is constant work for each string.
            self.forget(1);
        }
    }

    fn forget(&mut self, times: u64) {
        self.lost += times;
        self.counts.retain(|_, count| {
            *count = count.saturating_sub(times);
            *count > 0
        });
    }

    pub fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.empty += other.empty;
        self.length.merge(&mut other.length.clone());
        self.lost += other.lost;
        self.skipped |= other.skipped;
        for (text, count) in &other.counts {
            *self.counts.entry(text.clone()).or_default() += count;
        }
        if self.counts.len() > CAPACITY {
            let mut counts: Vec<u64> = self.counts.values().copied().collect();
            sorting::by_key(&mut counts, |count| std::cmp::Reverse(*count));
            self.forget(counts.get(CAPACITY).copied().unwrap_or_default());
        }
    }

    pub fn profile(&mut self) -> TextProfile {
        // A count below what is lost says little about which string is more frequent.
        let mut counts: Vec<(&str, u64)> = self
            .counts
            .iter()
            .map(|(text, count)| (&**text, *count))
            .filter(|(_, n)| *n > self.lost)
            .collect();
        sorting::by(&mut counts, |one, other| other.1.cmp(&one.1).then(one.0.cmp(other.0)));
        let complete = !self.skipped && self.lost == 0 && counts.len() <= MAX_VALUES;
        let all = self.count.max(1) as f64;
        let share = |count: u64| (count as f64 / all * 1e9).round() / 1e9;
        let values =
            counts.iter().take(MAX_VALUES).map(|(text, count)| ((*text).to_owned(), share(*count))).collect();
        TextProfile {
            count: self.count,
            empty: share(self.empty),
            length: self.length.profile(),
            values,
            complete,
        }
    }

    pub fn bytes(&self) -> usize {
        let entry = size_of::<(Box<str>, u64)>() + 1;
        let texts: usize = self.counts.keys().map(|text| text.len()).sum();
        size_of::<Self>() + self.length.bytes() + self.counts.capacity() * entry + texts
    }
}
