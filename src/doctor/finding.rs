//! What the doctor finds, and how it is shown: as text and as JSON.
use std::borrow::Cow;
use std::fmt::Write as _;

use serde_json::{Value, json};

pub use crate::explain::Actor;
use crate::repair::report::one_line;
use crate::sorting;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Ok,
    Warn,
    /// The version does not load, or requests fail.
    Fail,
}

impl Level {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// Most texts are constants.
pub type Text = Cow<'static, str>;

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub level: Level,
    /// What was checked: `files`, `ops`, `signatures`, `warmup`, `live`.
    pub check: &'static str,
    /// What is so, in one line.
    pub what: Text,
    /// The file, node or input that shows it, and what follows from it; may be empty.
    pub why: Text,
    /// What to do; empty if nothing is.
    pub action: Text,
    /// Who has to do it.
    pub who: Actor,
}

impl Finding {
    pub fn new(level: Level, check: &'static str, what: impl Into<Text>) -> Self {
        let who = Actor::Exporter;
        Self { level, check, what: what.into(), why: "".into(), action: "".into(), who }
    }

    pub fn why(mut self, why: impl Into<Text>) -> Self {
        self.why = why.into();
        self
    }

    pub fn act(mut self, who: Actor, action: impl Into<Text>) -> Self {
        (self.who, self.action) = (who, action.into());
        self
    }

    /// `{"level", "check", "what", "why", "action", "who"}`.
    pub fn to_json(&self) -> Value {
        json!({
            "level": self.level.as_str(),
            "check": self.check,
            "what": self.what,
            "why": self.why,
            "action": self.action,
            "who": self.who.to_string(),
        })
    }
}

/// The worst level of several findings; `Ok` if there are none.
pub fn worst(findings: &[Finding]) -> Level {
    findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok)
}

/// The findings as text, the worst first. What models and servers say is on one line of ASCII, so
/// that it cannot control a terminal.
pub fn text(findings: &[Finding]) -> String {
    let mut sorted: Vec<&Finding> = findings.iter().collect();
    sorting::by_key(&mut sorted, |finding| std::cmp::Reverse(finding.level));
    let mut text = String::new();
    for finding in sorted {
        let line = one_line(&finding.what);
        writeln!(text, "{:<4}  {}: {line}", finding.level.as_str(), finding.check).ok();
        if !finding.why.is_empty() {
            writeln!(text, "      why: {}", one_line(&finding.why)).ok();
        }
        if !finding.action.is_empty() {
            writeln!(text, "      do ({}): {}", finding.who, one_line(&finding.action)).ok();
        }
    }
    text
}
