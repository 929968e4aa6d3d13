//! One mapping of the file: how its keys are read, each mistake reported with its path and place,
//! and the rest read on.
use std::cell::RefCell;
use std::fmt::Display;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::problem::{Place, Problem, any_of};
use super::yaml::{Entry, Node, Value};
use crate::spelling::nearest;

/// A key of a section: the table is what is accepted, what is documented and where a misspelt key
/// is compared.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(not(test), expect(dead_code, reason = "docs/config.md is written from these texts by a test"))]
pub(super) struct Key {
    pub name: &'static str,
    /// What may stand there, for people.
    pub takes: &'static str,
    pub default: &'static str,
    pub help: &'static str,
}

pub(super) const fn key(
    name: &'static str,
    takes: &'static str,
    default: &'static str,
    help: &'static str,
) -> Key {
    Key { name, takes, default, help }
}

/// A mapping of the file that is being read.
pub(super) struct Section<'a> {
    pub path: String,
    pub place: Place,
    pub entries: &'a [Entry],
    keys: &'static [Key],
    pub problems: &'a RefCell<Vec<Problem>>,
}

impl<'a> Section<'a> {
    /// `None` when there is nothing or no mapping. Keys that are not in the table are reported
    /// here.
    pub(super) fn open(
        node: &'a Node,
        path: String,
        keys: &'static [Key],
        problems: &'a RefCell<Vec<Problem>>,
    ) -> Option<Self> {
        let section = Self::free(node, path, problems)?;
        let section = Self { keys, ..section };
        for entry in section.entries {
            if !keys.iter().any(|key| key.name == entry.key) {
                let known: Vec<&str> = keys.iter().map(|key| key.name).collect();
                let hint = match nearest(&entry.key, known.iter().copied()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("this section takes {}", any_of(&known).replace(" or ", " and ")),
                };
                section.push(
                    Problem::at(
                        entry.place,
                        section.at(&entry.key),
                        "expected a known key, found an unknown one",
                    )
                    .hint(hint),
                );
            }
        }
        Some(section)
    }

    /// A mapping whose keys are names of models, signatures, inputs or rules.
    pub(super) fn free(node: &'a Node, path: String, problems: &'a RefCell<Vec<Problem>>) -> Option<Self> {
        match &node.value {
            Value::Nothing => None,
            Value::Map(entries) => Some(Self { path, place: node.place, entries, keys: &[], problems }),
            Value::Scalar { .. } | Value::List(_) => {
                let text = format!("expected `key: value` lines, found {}", node.found());
                problems.borrow_mut().push(Problem::at(node.place, path, text));
                None
            }
        }
    }

    pub(super) fn push(&self, problem: Problem) {
        self.problems.borrow_mut().push(problem);
    }

    /// A problem of the section as a whole.
    pub(super) fn problem(&self, text: &str) {
        self.push(Problem::at(self.place, &self.path, text));
    }

    /// The path of a key in this section.
    pub(super) fn at(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// What stands under a key of the table; `None` when it is absent or empty.
    pub(super) fn get(&self, name: &str) -> Option<&'a Node> {
        debug_assert!(
            self.keys.iter().any(|key| key.name == name),
            "`{name}` is not in the table of its section"
        );
        let entry = self.entries.iter().find(|entry| entry.key == name)?;
        (entry.node.value != Value::Nothing).then_some(&entry.node)
    }

    pub(super) fn section(&self, name: &str, keys: &'static [Key]) -> Option<Section<'a>> {
        Section::open(self.get(name)?, self.at(name), keys, self.problems)
    }

    pub(super) fn named(&self, name: &str) -> Option<Section<'a>> {
        Section::free(self.get(name)?, self.at(name), self.problems)
    }

    /// Reads a scalar into `to`.
    pub(super) fn value<T>(&self, name: &str, to: &mut T, parse: impl FnOnce(&str) -> Result<T, String>) {
        if let Some(node) = self.get(name)
            && let Some(value) = self.scalar(&self.at(name), node, parse)
        {
            *to = value;
        }
    }

    pub(super) fn scalar<T>(
        &self,
        path: &str,
        node: &Node,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let result = match &node.value {
            Value::Scalar { text, .. } => parse(text),
            _ => Err(format!("expected one value, found {}", node.found())),
        };
        result.map_err(|text| self.push(Problem::at(node.place, path, text))).ok()
    }

    pub(super) fn parsed<T: FromStr<Err: Display>>(&self, name: &str, to: &mut T) {
        self.value(name, to, |text| text.parse().map_err(|error: <T as FromStr>::Err| error.to_string()));
    }

    pub(super) fn choice<T: Copy>(&self, name: &str, to: &mut T, choices: &[(&'static str, T)]) {
        let Some(node) = self.get(name) else { return };
        let Value::Scalar { text, .. } = &node.value else {
            self.scalar::<T>(&self.at(name), node, |_| Err(String::new()));
            return;
        };
        match choose(text, choices) {
            Ok(value) => *to = value,
            Err(problem) => self.push(Problem { key: self.at(name), place: Some(node.place), ..problem }),
        }
    }
}

/// One of a few words; the problem has no key yet.
pub(super) fn choose<T: Copy>(text: &str, choices: &[(&'static str, T)]) -> Result<T, Problem> {
    if let Some((_, value)) = choices.iter().find(|(name, _)| *name == text) {
        return Ok(*value);
    }
    let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
    let problem = Problem::new("", format!("expected {}, found `{text}`", any_of(&names)));
    Err(match nearest(text, names) {
        Some(near) => problem.hint(format!("did you mean `{near}`?")),
        None => problem,
    })
}

/// `on` and `off`, with or without quotes, and the other words that people use for them.
pub(super) fn switch(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "on" | "true" | "yes" => Ok(true),
        "off" | "false" | "no" => Ok(false),
        _ => Err(format!("expected `on` or `off`, found `{text}`")),
    }
}

pub(super) fn number<T: TryFrom<u64>>(text: &str, least: u64, most: u64) -> Result<T, String> {
    let wrong = || format!("expected a whole number from {least} to {most}, found `{text}`");
    let number: u64 = text.replace('_', "").parse().map_err(|_| wrong())?;
    if !(least..=most).contains(&number) {
        return Err(wrong());
    }
    T::try_from(number).map_err(|_| wrong())
}

/// `512MiB`, `1GB` or a plain number of bytes.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let parsed = text.replace('_', "").parse::<bytesize::ByteSize>();
    parsed.map(|size| size.as_u64()).map_err(|_| format!("expected a size such as `512MiB`, found `{text}`"))
}

pub(super) fn at_most(bytes: u64, most: u64, text: &str) -> Result<u64, String> {
    match bytes {
        0 => Err(format!("expected a size above zero, found `{text}`")),
        _ if bytes > most => Err(format!("expected at most {most} bytes, found `{text}`")),
        _ => Ok(bytes),
    }
}

/// `50ms`, `1s`, `1m 30s`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|_| format!("expected a time with its unit such as `50ms` or `5s`, found `{text}`"))
}

pub(super) fn above_zero(time: Duration, text: &str) -> Result<Duration, String> {
    if time.is_zero() { Err(format!("expected a time above zero, found `{text}`")) } else { Ok(time) }
}

/// A file name, always wanted.
#[expect(clippy::unnecessary_wraps, reason = "it is one of the readers of a section, which may fail")]
pub(super) fn path(text: &str) -> Result<Option<PathBuf>, String> {
    Ok(Some(PathBuf::from(text)))
}
