//! The keys that rules declare in their own files: read, printed and described by their kind.
use serde_json::json;

use super::cursor::Cursor;
use super::format::{Kind, Row, Scalar, Section, Tree};
use super::problem::Problem;
use super::scalars::{Element, OnOff, Text, Words};
use super::table::{Keys, Reload, check_names, complete};
use super::transforms;
use super::yaml::Value;
use crate::repair::policy::Literal;
use crate::repair::{REPAIRS, RuleKey, RuleValue, RuleValues, Switch, ValueKind};

const NAME: Text = Text("input");

/// The keys of a mapping that rules declare.
pub(super) struct RuleKeys<T: 'static> {
    /// The key of a rule that belongs into this mapping.
    pub of: fn(Switch) -> Option<&'static RuleKey>,
    /// Keys that several rules share.
    pub shared: &'static [&'static RuleKey],
    pub get: fn(&T) -> &RuleValues,
    pub get_mut: fn(&mut T) -> &mut RuleValues,
}

impl<T> RuleKeys<T> {
    fn all(&self) -> impl Iterator<Item = &'static RuleKey> {
        let own = REPAIRS.iter().filter_map(|rule| (self.of)(rule.switch));
        own.chain(self.shared.iter().copied())
    }
}

impl<T> Keys<T> for RuleKeys<T> {
    fn names(&self) -> Vec<&'static str> {
        self.all().map(|key| key.name).collect()
    }

    fn set(&self, name: &str, at: &Cursor<'_>, to: &mut T) {
        if let Some(key) = self.all().find(|key| key.name == name)
            && let Some(value) = read(key, at)
        {
            (self.get_mut)(to).set(key, value);
        }
    }

    fn entries(&self, value: &T, _: &T) -> Vec<(String, Tree)> {
        let values = (self.get)(value);
        self.all().filter_map(|key| Some((key.name.to_owned(), write(key, values.get(key)?)))).collect()
    }

    fn rows(&self, _: &T) -> Vec<Row> {
        self.all().map(row).collect()
    }
}

/// Reads the value of a key; reports what is wrong with it.
pub(super) fn read(key: &RuleKey, at: &Cursor<'_>) -> Option<RuleValue> {
    match key.value {
        ValueKind::Words(words) => at.scalar(&Words(words)).map(|word| Literal::Text(word.to_owned()).into()),
        ValueKind::OnOff => at.scalar(&OnOff).map(|on| Literal::Bool(on).into()),
        ValueKind::Element => at.scalar(&Element).map(RuleValue::from),
        ValueKind::Input => at.scalar(&NAME).map(|name| Literal::Text(name).into()),
        ValueKind::Inputs => {
            let Value::List(items) = &at.node.value else {
                let text = format!("expected a list of inputs, got {}", at.node.describe());
                at.report(Problem::text(text).hint(format!("write `{}: {}`", key.name, key.sample)));
                return None;
            };
            let names = items.iter().filter_map(|item| at.item(item).scalar(&NAME));
            Some(RuleValue::Inputs(names.collect()))
        }
        ValueKind::Renames => Some(renames(at)),
        ValueKind::Transforms => transforms::read(at).map(RuleValue::Transforms),
        ValueKind::Section { keys, required } => section(keys, required, at),
    }
}

fn renames(at: &Cursor<'_>) -> RuleValue {
    let rename = |entry| {
        let cursor = at.child(entry);
        let declared = cursor.scalar(&NAME)?;
        if entry.key == declared {
            at.push(Problem::at(entry.place, cursor.path, "an input cannot be an alias of itself"));
            return None;
        }
        Some((entry.key.clone(), declared))
    };
    RuleValue::Renames(at.entries().iter().filter_map(rename).collect())
}

fn section(keys: &[&'static RuleKey], required: &[&'static str], at: &Cursor<'_>) -> Option<RuleValue> {
    let names: Vec<&str> = keys.iter().map(|key| key.name).collect();
    let mut values = RuleValues::default();
    if !check_names(at, &names) {
        return None;
    }
    for key in keys {
        if let Some(entry) = at.get(key.name)
            && let Some(value) = read(key, &at.child(entry))
        {
            values.set(key, value);
        }
    }
    complete(at, required, &[]).then_some(RuleValue::Section(values))
}

/// The value as the file writes it.
pub(super) fn write(key: &RuleKey, value: &RuleValue) -> Tree {
    match (key.value, value) {
        (ValueKind::OnOff, RuleValue::Literal(Literal::Bool(on))) => OnOff.write(on),
        (ValueKind::Words(_) | ValueKind::Input, RuleValue::Literal(Literal::Text(text))) => NAME.write(text),
        (_, RuleValue::Literal(value)) => Element.write(value),
        (_, RuleValue::Inputs(names)) => Tree::List(names.iter().map(|name| NAME.write(name)).collect()),
        (_, RuleValue::Renames(names)) => {
            Tree::Map(names.iter().map(|(sent, declared)| (sent.clone(), NAME.write(declared))).collect())
        }
        (ValueKind::Section { keys, .. }, RuleValue::Section(values)) => {
            let entry = |key: &&RuleKey| Some((key.name.to_owned(), write(key, values.get(key)?)));
            Tree::Map(keys.iter().filter_map(entry).collect())
        }
        (_, RuleValue::Transforms(all)) => transforms::write(all),
        // Nothing else is ever set for such a key.
        (_, RuleValue::Section(_)) => Tree::Map(Vec::new()),
    }
}

/// What the value may be, for the reference and the JSON Schema.
pub(super) fn kind(key: &'static RuleKey) -> Kind {
    Kind::Value(match key.value {
        ValueKind::Words(words) => Words(words).schema(),
        ValueKind::OnOff => OnOff.schema(),
        ValueKind::Element => Element.schema(),
        ValueKind::Input => NAME.schema(),
        ValueKind::Inputs => json!({"type": "array", "items": {"type": "string"}}),
        ValueKind::Renames => {
            json!({"title": "sent: declared", "type": "object", "additionalProperties": {"type": "string"}})
        }
        ValueKind::Transforms => transforms::schema(),
        ValueKind::Section { keys, required } => {
            let rows = keys.iter().copied().map(row).collect();
            return Kind::Section(Section { rows, required, together: &[] });
        }
    })
}

fn row(key: &'static RuleKey) -> Row {
    Row { name: key.name, help: key.help, default: None, reload: Reload::Live, kind: kind(key) }
}
