//! The keys of `rules` and `aliases`: taken from the registry of repairs, so that a new rule needs
//! no line here.
use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

use super::cursor::Cursor;
use super::format::{Format, Kind, Row, Scalar, Tree};
use super::problem::{Problem, list};
use super::scalars::{Element, OnOff, Text, Words};
use super::table::Keys;
use super::yaml::{Entry, Value};
use crate::repair::policy::{InputPolicy, Literal, Policy};
use crate::repair::{InputKey, InputValue, LATER, REPAIRS, Repair, RuleSet, Switch};
use crate::spelling::nearest;

/// Rules switched by name.
pub(super) struct Rules {
    /// Whether rules of tier 2 may be switched on here.
    pub opt_in: bool,
}

impl Format<Policy> for Rules {
    fn read(&self, at: &Cursor<'_>, to: &mut Policy) {
        for entry in at.entries() {
            match Repair::find(&entry.key) {
                Some(rule) => self.read_rule(rule, entry, at, to),
                None => at.push(unknown(at, entry)),
            }
        }
    }

    fn print(&self, policy: &Policy, base: &Policy) -> Option<Tree> {
        let standard = RuleSet::default();
        let mut entries = Vec::new();
        for rule in REPAIRS {
            let tree = match rule.switch {
                Switch::On | Switch::Off => {
                    let on = policy.rules.contains(rule);
                    let said = on != base.rules.contains(rule) || on != standard.contains(rule);
                    said.then(|| OnOff.write(&on))
                }
                Switch::Inputs if policy.drop_extra.is_empty() => {
                    (!base.drop_extra.is_empty()).then(|| OnOff.write(&false))
                }
                Switch::Inputs => {
                    Some(Tree::List(policy.drop_extra.iter().map(|name| Text("input").write(name)).collect()))
                }
                // Printed under keys of their own.
                Switch::Policy | Switch::Input(_) | Switch::Elsewhere(_) => None,
            };
            entries.extend(tree.map(|tree| (rule.name.to_owned(), tree)));
        }
        (!entries.is_empty()).then_some(Tree::Map(entries))
    }

    fn describe(&self, _: &Policy) -> Kind {
        let rules = REPAIRS.iter().filter(|rule| self.takes(rule));
        let properties: serde_json::Map<String, Json> = rules
            .map(|rule| {
                let mut schema = if rule.switch == Switch::Inputs { inputs_schema() } else { OnOff.schema() };
                schema["description"] = rule.when.into();
                (rule.name.to_owned(), schema)
            })
            .collect();
        Kind::Value(json!({
            "title": "rule: `on`, `off`", "type": "object", "properties": properties, "additionalProperties": false
        }))
    }
}

impl Rules {
    fn takes(&self, rule: &Repair) -> bool {
        match rule.switch {
            Switch::Off | Switch::Policy => true,
            Switch::On | Switch::Inputs => self.opt_in,
            Switch::Input(_) | Switch::Elsewhere(_) => false,
        }
    }

    fn read_rule(&self, rule: &Repair, entry: &Entry, at: &Cursor<'_>, to: &mut Policy) {
        let name = rule.name;
        let problem = |text: &str| Problem::at(entry.place, at.path_of(name), text);
        if let Some(spelling) = rule.switch.spelling() {
            let problem = problem("this rule takes a value, not a switch");
            at.push(problem.hint(format!("in a signature, write `{spelling}`")));
            return;
        }
        if !self.takes(rule) {
            let problem =
                problem("not allowed in `defaults`: rules of tier 2 assume something about one model");
            at.push(problem.hint(format!("write it as `models.MODEL.rules.{name}`")));
            return;
        }
        let cursor = at.child(entry);
        match (rule.switch, &entry.node.value) {
            (Switch::Inputs, Value::List(items)) => {
                let names = items.iter().filter_map(|item| cursor.item(item).scalar(&Text("input")));
                to.drop_extra = names.collect();
            }
            (Switch::Inputs, Value::Scalar { text, .. }) if OnOff.parse(text) == Ok(false) => {
                to.drop_extra.clear();
            }
            (Switch::Inputs, _) => {
                let text = format!("expected a list of inputs, got {}", entry.node.describe());
                cursor.report(Problem::text(text).hint("name the inputs to drop: `drop_extra: [user_id]`"));
            }
            _ => {
                if let Some(on) = cursor.scalar(&OnOff) {
                    to.rules.set(rule, on);
                }
            }
        }
    }
}

fn unknown(at: &Cursor<'_>, entry: &Entry) -> Problem {
    let name = entry.key.as_str();
    if LATER.iter().any(|(later, _)| *later == name) {
        return Problem::at(entry.place, at.path_of(name), "this rule is not available yet");
    }
    let names = REPAIRS.iter().map(|rule| rule.name).chain(LATER.iter().map(|(name, _)| *name));
    let hint = match nearest(name, names) {
        Some(near) => format!("did you mean `{near}`?"),
        None => {
            let switched = |rule: &&&Repair| rule.switch.spelling().is_none();
            let known: Vec<&str> = REPAIRS.iter().filter(switched).map(|rule| rule.name).collect();
            format!("known rules: {}", list(&known, "and"))
        }
    };
    Problem::at(entry.place, &at.path, format!("unknown rule `{name}`")).hint(hint)
}

fn inputs_schema() -> Json {
    json!({"anyOf": [{"type": "array", "items": {"type": "string"}}, {"enum": ["off", false]}]})
}

/// The keys of an input that rules declare.
pub(super) struct InputKeys;

impl InputKeys {
    fn all() -> impl Iterator<Item = &'static InputKey> {
        REPAIRS.iter().filter_map(|rule| match rule.switch {
            Switch::Input(key) => Some(key),
            _ => None,
        })
    }
}

impl Keys<InputPolicy> for InputKeys {
    fn names(&self) -> Vec<&'static str> {
        Self::all().map(|key| key.name).collect()
    }

    fn set(&self, name: &str, at: &Cursor<'_>, to: &mut InputPolicy) {
        let Some(key) = Self::all().find(|key| key.name == name) else { return };
        let value = match key.value {
            InputValue::Words(words) => at.scalar(&Words(words)).map(|word| Literal::Text(word.to_owned())),
            InputValue::OnOff => at.scalar(&OnOff).map(Literal::Bool),
            InputValue::Element => at.scalar(&Element),
        };
        to.values.extend(value.map(|value| (key.name, value)));
    }

    fn entries(&self, input: &InputPolicy, _: &InputPolicy) -> Vec<(String, Tree)> {
        let entry = |key: &InputKey| {
            let tree = match (key.value, input.value(key)?) {
                (InputValue::OnOff, Literal::Bool(on)) => OnOff.write(on),
                (InputValue::Words(_), Literal::Text(word)) => Tree::Text(word.clone()),
                (_, value) => Element.write(value),
            };
            Some((key.name.to_owned(), tree))
        };
        Self::all().filter_map(entry).collect()
    }

    fn rows(&self, _: &InputPolicy) -> Vec<Row> {
        let row = |key: &'static InputKey| {
            let schema = match key.value {
                InputValue::Words(words) => Words(words).schema(),
                InputValue::OnOff => OnOff.schema(),
                InputValue::Element => Element.schema(),
            };
            Row { name: key.name, help: key.help, default: None, kind: Kind::Value(schema) }
        };
        Self::all().map(row).collect()
    }
}

/// A rule that has a key of its own, beside its name under `rules`.
pub(super) struct RuleKey(pub &'static str);

impl Format<Policy> for RuleKey {
    fn read(&self, at: &Cursor<'_>, to: &mut Policy) {
        if let (Some(rule), Some(on)) = (Repair::find(self.0), at.scalar(&OnOff)) {
            to.rules.set(rule, on);
        }
    }

    fn print(&self, policy: &Policy, _: &Policy) -> Option<Tree> {
        Repair::find(self.0).map(|rule| OnOff.write(&policy.rules.contains(rule)))
    }

    fn describe(&self, _: &Policy) -> Kind {
        Kind::Value(OnOff.schema())
    }
}

/// Sent names and the declared inputs that they mean.
pub(super) struct Aliases;

impl Format<BTreeMap<String, String>> for Aliases {
    fn read(&self, at: &Cursor<'_>, to: &mut BTreeMap<String, String>) {
        for entry in at.entries() {
            let sent = &entry.key;
            let cursor = at.child(entry);
            let Some(declared) = cursor.scalar(&Text("input")) else { continue };
            if *sent == declared {
                at.push(Problem::at(entry.place, cursor.path, "an input cannot be an alias of itself"));
            } else {
                to.insert(sent.clone(), declared);
            }
        }
    }

    fn print(&self, value: &BTreeMap<String, String>, _: &BTreeMap<String, String>) -> Option<Tree> {
        let entry = |(sent, declared): (&String, &String)| (sent.clone(), Text("input").write(declared));
        (!value.is_empty()).then(|| Tree::Map(value.iter().map(entry).collect()))
    }

    fn describe(&self, _: &BTreeMap<String, String>) -> Kind {
        Kind::Value(json!({
            "title": "sent: declared", "type": "object", "additionalProperties": {"type": "string"}
        }))
    }
}
