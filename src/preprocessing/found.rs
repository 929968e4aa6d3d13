//! What was found, by client, input and kind, in bounded memory.
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use crate::sorting;
use serde_json::{Value, json};

/// Findings of one signature that are listed. The one that was last seen longest ago makes room.
const MAX_LISTED: usize = 256;
/// Bytes of the name of a client.
const MAX_NAME: usize = 128;

/// The findings of one signature.
#[derive(Debug, Default)]
pub(super) struct Found {
    listed: BTreeMap<Key, Listed>,
    /// Requests with findings that lost their place.
    unlisted: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    client: Arc<str>,
    input: Arc<str>,
    kind: &'static str,
}

#[derive(Debug)]
struct Listed {
    requests: u64,
    first: SystemTime,
    last: SystemTime,
    /// Of the last one, without a value.
    text: String,
}

impl Found {
    /// Counts a request with a finding; whether it is the first of its kind. The text says what the
    /// last such request had.
    pub(super) fn add(
        &mut self,
        client: &str,
        input: &Arc<str>,
        kind: &'static str,
        text: &str,
        now: SystemTime,
    ) -> bool {
        let key = Key { client: cut(client).into(), input: Arc::clone(input), kind };
        if let Some(listed) = self.listed.get_mut(&key) {
            listed.requests += 1;
            listed.last = now;
            if listed.text != text {
                text.clone_into(&mut listed.text);
            }
            return false;
        }
        if self.listed.len() >= MAX_LISTED {
            self.drop_oldest();
        }
        self.listed.insert(key, Listed { requests: 1, first: now, last: now, text: text.to_owned() });
        true
    }

    fn drop_oldest(&mut self) {
        let oldest = self.listed.iter().min_by_key(|(_, listed)| listed.last).map(|(key, _)| key.clone());
        if let Some(listed) = oldest.and_then(|key| self.listed.remove(&key)) {
            self.unlisted += listed.requests;
        }
    }

    /// A list, the newest first, and how many requests are in none.
    pub(super) fn to_json(&self) -> (Vec<Value>, u64) {
        let mut all: Vec<_> = self.listed.iter().collect();
        sorting::by_key(&mut all, |(_, listed)| std::cmp::Reverse(listed.last));
        let shown = all.into_iter().map(|(key, listed)| {
            json!({
                "client": *key.client,
                "input": *key.input,
                "kind": key.kind,
                "requests": listed.requests,
                "first": time(listed.first),
                "last": time(listed.last),
                "text": listed.text,
            })
        });
        (shown.collect(), self.unlisted)
    }
}

pub(super) fn time(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}

/// The name without what is beyond the limit.
pub(super) fn cut(name: &str) -> &str {
    let end = (0..=MAX_NAME.min(name.len())).rev().find(|at| name.is_char_boundary(*at));
    name.get(..end.unwrap_or(0)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn equal_findings_are_counted_and_the_last_text_is_kept() {
        let mut found = Found::default();
        let input: Arc<str> = "x".into();
        found.add("a", &input, "SHIFTED", "one", at(1));
        found.add("a", &input, "SHIFTED", "two", at(2));
        found.add("a", &input, "NOT_FINITE", "three", at(0));
        let (shown, unlisted) = found.to_json();
        assert_eq!((shown.len(), unlisted), (2, 0));
        assert_eq!((&shown[0]["requests"], &shown[0]["text"]), (&json!(2), &json!("two")));
        assert_eq!(
            (&shown[0]["first"], &shown[0]["last"]),
            (&json!("1970-01-01T00:00:01Z"), &json!("1970-01-01T00:00:02Z"))
        );
    }

    #[test]
    fn invented_names_replace_the_oldest_and_are_cut() {
        let mut found = Found::default();
        let input: Arc<str> = "x".into();
        for number in 0..MAX_LISTED as u64 + 10 {
            found.add(&format!("{number}{}", "é".repeat(100)), &input, "SHIFTED", "", at(number));
        }
        let (shown, unlisted) = found.to_json();
        assert_eq!((shown.len(), unlisted), (MAX_LISTED, 10));
        let name = shown[0]["client"].as_str().unwrap();
        assert!(name.starts_with("265") && name.len() <= MAX_NAME, "{name}");
    }
}
