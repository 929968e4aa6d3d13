//! A value of the file while it is read: the keys that lead to it, and where its problems go.
use std::cell::RefCell;

use super::{MAX_PROBLEMS, Problem};
use crate::sorting;
use crate::spelling::nearest;
use crate::yaml::{Entry, Fault, Node, Place, Value};

/// The problems that were found. When there are too many, further ones are only counted.
#[derive(Default)]
pub(super) struct Found(RefCell<Vec<Problem>>);

#[derive(Clone, Copy)]
enum Step<'a> {
    Root,
    Key(&'a str),
    Item(usize),
}

#[derive(Clone, Copy)]
pub(super) struct At<'a> {
    pub node: &'a Node,
    up: Option<&'a At<'a>>,
    step: Step<'a>,
    found: &'a Found,
}

impl Found {
    pub(super) fn push(&self, key: String, place: Place, text: String) {
        let mut list = self.0.borrow_mut();
        if list.len() < MAX_PROBLEMS {
            list.push(Problem { key, place, text });
        }
    }

    pub(super) fn fault(&self, fault: Fault) {
        self.push(fault.key, fault.place, fault.text);
    }

    /// In the order of the file.
    pub(super) fn into_list(self) -> Vec<Problem> {
        let mut list = self.0.into_inner();
        sorting::by_key(&mut list, |problem| problem.place);
        list
    }
}

impl<'a> At<'a> {
    pub(super) fn root(node: &'a Node, found: &'a Found) -> Self {
        Self { node, up: None, step: Step::Root, found }
    }

    fn path(&self) -> String {
        let mut steps = Vec::new();
        let mut at = Some(self);
        while let Some(here) = at {
            steps.push(here.step);
            at = here.up;
        }
        let mut path = String::new();
        for step in steps.iter().rev() {
            match step {
                Step::Root => {}
                Step::Key(key) => {
                    path += if path.is_empty() { "" } else { "." };
                    path += key;
                }
                Step::Item(index) => path.extend(["[", &index.to_string(), "]"]),
            }
        }
        path
    }

    pub(super) fn report(&self, text: impl Into<String>) {
        self.found.push(self.path(), self.node.place, text.into());
    }

    fn at_entry(&'a self, entry: &'a Entry) -> Self {
        At { node: &entry.node, up: Some(self), step: Step::Key(&entry.key), found: self.found }
    }

    /// The entries of a mapping.
    pub(super) fn entries(&'a self) -> impl Iterator<Item = (&'a str, At<'a>)> {
        let entries: &[Entry] = match &self.node.value {
            Value::Map(entries) => entries,
            Value::Nothing => &[],
            Value::Scalar { .. } | Value::List(_) => {
                self.report(format!("expected `key: value` lines, got {}", self.node.describe()));
                &[]
            }
        };
        entries.iter().map(|entry| (entry.key.as_str(), self.at_entry(entry)))
    }

    /// Reports the keys that are not in the list, each with the one that is nearest to it.
    pub(super) fn only(&self, known: &[&str]) {
        for (key, at) in self.entries() {
            if !known.contains(&key) {
                let hint = nearest(key, known.iter().copied());
                let hint = hint.map_or_else(String::new, |near| format!(" (did you mean `{near}`?)"));
                at.report(format!("unknown key{hint}"));
            }
        }
    }

    /// The value of a key; `None` if it is absent or nothing is written there.
    pub(super) fn get(&'a self, key: &str) -> Option<Self> {
        let Value::Map(entries) = &self.node.value else { return None };
        let entry = entries.iter().find(|entry| entry.key == key && entry.node.value != Value::Nothing)?;
        Some(self.at_entry(entry))
    }

    pub(super) fn need(&'a self, key: &str) -> Option<Self> {
        let found = self.get(key);
        if found.is_none() {
            self.report(format!("the key `{key}` is missing"));
        }
        found
    }

    /// The items of a list of at most `max`.
    pub(super) fn items(&'a self, max: usize) -> Vec<Self> {
        let items: &[Node] = match &self.node.value {
            Value::List(items) if items.len() > max => {
                self.report(format!("{} items (limit {max})", items.len()));
                &[]
            }
            Value::List(items) => items,
            _ => {
                self.report(format!("expected a list, got {}", self.node.describe()));
                &[]
            }
        };
        let at = |(index, node)| At { node, up: Some(self), step: Step::Item(index), found: self.found };
        items.iter().enumerate().map(at).collect()
    }

    /// A text of at most `max` bytes.
    pub(super) fn text(&self, max: usize) -> Option<&'a str> {
        match &self.node.value {
            Value::Scalar { text, .. } if text.len() > max => {
                self.report(format!("{} bytes (limit {max})", text.len()));
                None
            }
            Value::Scalar { text, .. } => Some(text),
            _ => {
                self.report(format!("expected a single value, got {}", self.node.describe()));
                None
            }
        }
    }

    /// A number, also `.nan` and `.inf`.
    pub(super) fn number(&self) -> Option<f64> {
        let Value::Scalar { text, plain: true } = &self.node.value else {
            self.report(format!("expected a number, got {}", self.node.describe()));
            return None;
        };
        let digits = text.trim_start_matches(['-', '+']);
        let parsed = match digits {
            ".nan" | ".NaN" | ".NAN" => Some(f64::NAN),
            ".inf" | ".Inf" | ".INF" if text.starts_with('-') => Some(f64::NEG_INFINITY),
            ".inf" | ".Inf" | ".INF" => Some(f64::INFINITY),
            // Rust also reads the words `inf` and `nan`, which are texts in YAML.
            _ if digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') => text.parse().ok(),
            _ => None,
        };
        if parsed.is_none() {
            self.report(format!("expected a number, got `{text}`"));
        }
        parsed
    }

    pub(super) fn finite(&self) -> Option<f64> {
        let number = self.number()?;
        if number.is_finite() {
            return Some(number);
        }
        self.report(format!("expected a finite number, got {}", self.node.describe()));
        None
    }

    /// A number from 0 to 1.
    pub(super) fn share(&self) -> Option<f64> {
        let number = self.number()?;
        if (0.0..=1.0).contains(&number) {
            return Some(number);
        }
        self.report(format!("expected a share from 0 to 1, got {}", self.node.describe()));
        None
    }

    pub(super) fn count(&self) -> Option<u64> {
        let text = self.text(32)?;
        let parsed = text.parse().ok();
        if parsed.is_none() {
            self.report(format!("expected a whole number, got `{text}`"));
        }
        parsed
    }

    /// One of a few words.
    pub(super) fn choice<V: Copy>(&self, choices: &[(V, &str)]) -> Option<V> {
        let text = self.text(64)?;
        let found = choices.iter().find(|(_, name)| *name == text).map(|(value, _)| *value);
        if found.is_none() {
            let names: Vec<String> = choices.iter().map(|(_, name)| format!("`{name}`")).collect();
            self.report(format!("expected {}, got `{text}`", names.join(" or ")));
        }
        found
    }
}
