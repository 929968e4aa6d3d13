//! The log of the sidecar, read while it is written: the access log by client, and panics.
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::support::process::OnLine;
use crate::tally::Key;

/// How the names of our own clients begin.
const NAMES: [&str; 3] = ["honest-", "leaving-", "unscaled-"];

/// What was logged so far.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    /// Lines of the access log about requests of our clients.
    pub(crate) requests: BTreeMap<Key, u64>,
    /// Those that ended before their model was known, by code: the counters have them without it.
    pub(crate) nameless: BTreeMap<String, u64>,
    /// Lines of the access log about the others.
    pub(crate) others: u64,
    pub(crate) panics: Vec<String>,
}

/// A reader for [`crate::support::process::Process::with_log`], and what it has read.
pub(crate) fn reader() -> (OnLine, Arc<Mutex<Lines>>) {
    let lines = Arc::<Mutex<Lines>>::default();
    let read = Arc::clone(&lines);
    (Box::new(move |line| read.lock().unwrap().read(line)), lines)
}

impl Lines {
    /// All lines of the access log.
    pub(crate) fn total(&self) -> u64 {
        self.requests.values().sum::<u64>() + self.others
    }

    /// Takes a line; whether it is one of many, which are not kept.
    fn read(&mut self, line: &str) -> bool {
        if line.contains("panic") {
            self.panics.push(line.to_owned());
            return false;
        }
        let Ok(line) = serde_json::from_str::<Value>(line) else { return false };
        let text = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
        match text("target").as_str() {
            "tfs_sidecar::access" => {}
            "tfs_sidecar::event" => return true,
            _ => return false,
        }
        let (client, code, outcome) = (text("client"), text("code"), text("outcome"));
        if NAMES.iter().any(|name| client.starts_with(name)) {
            if text("model") == "__unknown__" {
                *self.nameless.entry(code.clone()).or_default() += 1;
            }
            // A client cannot tell the outcomes of other failures apart.
            let outcome = match (code.as_str(), outcome.as_str()) {
                ("OK", _) | ("INVALID_ARGUMENT", "rejected") => outcome,
                ("INVALID_ARGUMENT", _) => "forwarded".to_owned(),
                _ => String::new(),
            };
            *self.requests.entry((client, code, outcome)).or_default() += 1;
        } else {
            self.others += 1;
        }
        true
    }
}
