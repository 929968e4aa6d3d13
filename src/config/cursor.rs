//! A node of the file while it is read: its path, its place, and where its problems go.
use std::cell::RefCell;

use super::format::Scalar;
use super::problem::Problem;
use super::yaml::{Entry, Node, Value};

pub(super) struct Cursor<'a> {
    /// The keys that lead here, such as `models.churn.mode`.
    pub path: String,
    pub node: &'a Node,
    pub problems: &'a RefCell<Vec<Problem>>,
}

impl<'a> Cursor<'a> {
    /// The cursor at the value of a key of this mapping.
    pub(super) fn child(&self, entry: &'a Entry) -> Self {
        Self { path: self.path_of(&entry.key), node: &entry.node, problems: self.problems }
    }

    /// The cursor at an item of this list.
    pub(super) fn item(&self, node: &'a Node) -> Self {
        Self { path: self.path.clone(), node, problems: self.problems }
    }

    pub(super) fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    pub(super) fn push(&self, problem: Problem) {
        self.problems.borrow_mut().push(problem);
    }

    /// A problem of this node.
    pub(super) fn report(&self, problem: Problem) {
        self.push(Problem { key: self.path.clone(), place: Some(self.node.place), ..problem });
    }

    pub(super) fn scalar<S: Scalar>(&self, format: &S) -> Option<S::Value> {
        self.parse(|text, plain| if plain { format.parse(text) } else { format.parse_quoted(text) })
    }

    /// Parses a scalar from its text and whether it stands without quotes.
    pub(super) fn parse<V>(&self, parse: impl FnOnce(&str, bool) -> Result<V, Problem>) -> Option<V> {
        let parsed = match &self.node.value {
            Value::Scalar { text, plain } => parse(text, *plain),
            _ => Err(Problem::text(format!("expected a single value, got {}", self.node.describe()))),
        };
        parsed.map_err(|problem| self.report(problem)).ok()
    }

    /// The entries of a mapping; none when nothing is written here.
    pub(super) fn entries(&self) -> &'a [Entry] {
        match &self.node.value {
            Value::Map(entries) => entries,
            Value::Nothing => &[],
            Value::Scalar { .. } | Value::List(_) => {
                let text = format!("expected `key: value` lines, got {}", self.node.describe());
                self.report(Problem::text(text));
                &[]
            }
        }
    }

    /// What is written under a key; `None` when the key is absent or has no value.
    pub(super) fn get(&self, key: &str) -> Option<&'a Entry> {
        let Value::Map(entries) = &self.node.value else { return None };
        entries.iter().find(|entry| entry.key == key && entry.node.value != Value::Nothing)
    }
}
