//! What every kind of value can do: be read from the file, be printed back, and be described.
use std::collections::BTreeMap;

use serde::{Serialize, Serializer};
use serde_json::{Value as Json, json};

use super::cursor::Cursor;
use super::problem::Problem;
use super::scalars::{Number, Text};
use super::table::Reload;
use super::yaml::Value;

/// How something of type `V`, a single value or a whole mapping, is written in the file.
pub(super) trait Format<V>: Sync {
    /// Reads a node into `to`. Problems go to the cursor's list and leave `to` as it was.
    fn read(&self, at: &Cursor<'_>, to: &mut V);
    /// What reads back as `value` when read over `base`; `None` to leave the key out.
    fn print(&self, value: &V, base: &V) -> Option<Tree>;
    /// What the file may say, for the reference and the JSON Schema.
    fn describe(&self, default: &V) -> Kind;
    /// Copies what the format reads and prints. Only fields of a type can.
    fn copy(&self, _from: &V, _to: &mut V) {}
}

/// A format that is one scalar.
pub(super) trait Scalar: Sync {
    type Value;
    /// The problem has no key and no place yet.
    fn parse(&self, text: &str) -> Result<Self::Value, Problem>;
    /// Quotes rarely make a difference.
    fn parse_quoted(&self, text: &str) -> Result<Self::Value, Problem> {
        self.parse(text)
    }
    fn write(&self, value: &Self::Value) -> Tree;
    /// The `title` is what the reference shows where there is no `enum`.
    fn schema(&self) -> Json;
}

impl<S: Scalar> Format<S::Value> for S {
    fn read(&self, at: &Cursor<'_>, to: &mut S::Value) {
        if let Some(value) = at.scalar(self) {
            *to = value;
        }
    }

    fn print(&self, value: &S::Value, _: &S::Value) -> Option<Tree> {
        Some(self.write(value))
    }

    fn describe(&self, _: &S::Value) -> Kind {
        Kind::Value(self.schema())
    }
}

/// A scalar without a default.
pub(super) struct Maybe<S>(pub S);

impl<S: Scalar> Format<Option<S::Value>> for Maybe<S> {
    fn read(&self, at: &Cursor<'_>, to: &mut Option<S::Value>) {
        if let Some(value) = at.scalar(&self.0) {
            *to = Some(value);
        }
    }

    fn print(&self, value: &Option<S::Value>, _: &Option<S::Value>) -> Option<Tree> {
        value.as_ref().map(|value| self.0.write(value))
    }

    fn describe(&self, _: &Option<S::Value>) -> Kind {
        Kind::Value(self.0.schema())
    }
}

/// A list of texts, or one text; what they are, in a word.
pub(super) struct Texts(pub &'static str);

impl Format<Vec<String>> for Texts {
    fn read(&self, at: &Cursor<'_>, to: &mut Vec<String>) {
        let text = Text(self.0);
        *to = match &at.node.value {
            Value::List(items) => items.iter().filter_map(|item| at.item(item).scalar(&text)).collect(),
            _ => at.scalar(&text).into_iter().collect(),
        };
    }

    fn print(&self, value: &Vec<String>, _: &Vec<String>) -> Option<Tree> {
        let text = Text(self.0);
        (!value.is_empty()).then(|| Tree::List(value.iter().map(|value| text.write(value)).collect()))
    }

    fn describe(&self, _: &Vec<String>) -> Kind {
        Kind::Value(json!({"title": self.0, "type": ["string", "array"], "items": {"type": "string"}}))
    }
}

/// Names with the names that they stand for.
pub(super) struct Renames;

impl Format<BTreeMap<String, String>> for Renames {
    fn read(&self, at: &Cursor<'_>, to: &mut BTreeMap<String, String>) {
        let text = Text("name");
        let read = at.entries().iter().filter_map(|entry| {
            let cursor = at.child(entry);
            let name = cursor.scalar(&text)?;
            if at.get(&name).is_some() {
                cursor.report(Problem::text(format!("`{name}` is renamed too: one name leads to one other")));
                return None;
            }
            Some((entry.key.clone(), name))
        });
        *to = read.collect();
    }

    fn print(&self, value: &BTreeMap<String, String>, _: &BTreeMap<String, String>) -> Option<Tree> {
        let entry = |(old, new): (&String, &String)| (old.clone(), Text("name").write(new));
        (!value.is_empty()).then(|| Tree::Map(value.iter().map(entry).collect()))
    }

    fn describe(&self, _: &BTreeMap<String, String>) -> Kind {
        Kind::Value(
            json!({"title": "old: new", "type": "object", "additionalProperties": {"type": "string"}}),
        )
    }
}

/// A number of which 0 means "not set".
pub(super) struct UnlessZero<S>(pub S);

impl<S: Scalar<Value = u64>> Format<u64> for UnlessZero<S> {
    fn read(&self, at: &Cursor<'_>, to: &mut u64) {
        Format::read(&self.0, at, to);
    }

    fn print(&self, value: &u64, _: &u64) -> Option<Tree> {
        (*value != 0).then(|| self.0.write(value))
    }

    fn describe(&self, _: &u64) -> Kind {
        Kind::Value(self.0.schema())
    }
}

/// A list of whole numbers, or one number. They are kept in ascending order.
pub(super) struct Numbers(pub Number<u64>);

impl Format<Vec<u64>> for Numbers {
    fn read(&self, at: &Cursor<'_>, to: &mut Vec<u64>) {
        *to = match &at.node.value {
            Value::List(items) => items.iter().filter_map(|item| at.item(item).scalar(&self.0)).collect(),
            _ => at.scalar(&self.0).into_iter().collect(),
        };
        to.sort_unstable();
        to.dedup();
    }

    fn print(&self, value: &Vec<u64>, _: &Vec<u64>) -> Option<Tree> {
        (!value.is_empty()).then(|| Tree::List(value.iter().map(|value| self.0.write(value)).collect()))
    }

    fn describe(&self, _: &Vec<u64>) -> Kind {
        Kind::Value(json!({"title": "numbers", "type": ["integer", "array"], "items": self.0.schema()}))
    }
}

/// What stands under a key, for the reference and the JSON Schema.
#[derive(Debug, Clone)]
pub(super) enum Kind {
    /// A value, as its JSON Schema.
    Value(Json),
    /// A mapping of fixed keys.
    Section(Section),
    /// A mapping whose keys are names; `name` stands for any of them.
    Named { name: &'static str, each: Box<Kind> },
}

#[derive(Debug, Clone)]
pub(super) struct Section {
    pub rows: Vec<Row>,
    pub required: &'static [&'static str],
    /// Keys of which either all or none are set.
    pub together: &'static [&'static str],
}

/// A key as the reference and the JSON Schema show it.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub name: &'static str,
    pub help: &'static str,
    pub default: Option<DefaultValue>,
    pub reload: Reload,
    pub kind: Kind,
}

#[derive(Debug, Clone)]
pub(super) enum DefaultValue {
    Printed(Tree),
    /// A default that depends on the machine, in words.
    Words(&'static str),
}

/// YAML to print.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Tree {
    Text(String),
    /// Always in quotes: without them `5` or `true` would not read back as text.
    Quoted(String),
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    List(Vec<Tree>),
    Map(Vec<(String, Tree)>),
}

impl Serialize for Tree {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => serializer.serialize_str(text),
            Self::Quoted(text) => serde_saphyr::DoubleQuoted(text).serialize(serializer),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Unsigned(value) => serializer.serialize_u64(*value),
            Self::Signed(value) => serializer.serialize_i64(*value),
            Self::Float(value) => serializer.serialize_f64(*value),
            Self::List(items) => serializer.collect_seq(items),
            Self::Map(entries) => serializer.collect_map(entries.iter().map(|(key, value)| (key, value))),
        }
    }
}
