//! The keys of `rules`: taken from the registry of repairs, so that a new rule needs no line here.
use serde_json::{Value as Json, json};

use super::cursor::Cursor;
use super::format::{Format, Kind, Scalar, Tree};
use super::problem::{Problem, list};
use super::rule_keys;
use super::scalars::OnOff;
use super::schema;
use super::yaml::{Entry, Value};
use crate::repair::policy::Policy;
use crate::repair::{REPAIRS, Repair, RuleSet, Switch};
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
                Switch::Rules(key) => match policy.values.get(key) {
                    Some(value) => Some(rule_keys::write(key, value)),
                    None => base.values.get(key).map(|_| OnOff.write(&false)),
                },
                // Printed under keys of their own.
                Switch::Policy
                | Switch::Input(_)
                | Switch::Signature(_)
                | Switch::Transform(_)
                | Switch::Top(_) => None,
            };
            entries.extend(tree.map(|tree| (rule.name.to_owned(), tree)));
        }
        (!entries.is_empty()).then_some(Tree::Map(entries))
    }

    fn describe(&self, _: &Policy) -> Kind {
        let rules = REPAIRS.iter().filter(|rule| self.takes(rule));
        let properties: serde_json::Map<String, Json> = rules
            .map(|rule| {
                let mut schema = match rule.switch {
                    Switch::Rules(key) => {
                        json!({"anyOf": [schema::of(&rule_keys::kind(key)), {"enum": ["off", false]}]})
                    }
                    _ => OnOff.schema(),
                };
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
            Switch::On | Switch::Rules(_) => self.opt_in,
            Switch::Input(_) | Switch::Signature(_) | Switch::Transform(_) | Switch::Top(_) => false,
        }
    }

    fn read_rule(&self, rule: &Repair, entry: &Entry, at: &Cursor<'_>, to: &mut Policy) {
        let name = rule.name;
        let problem = |text: &str| Problem::at(entry.place, at.path_of(name), text);
        if let Some(spelling) = rule.switch.spelling() {
            let problem = problem("this rule takes a value, not a switch");
            let place = if rule.switch.is_of_signature() { "in a signature" } else { "at the top" };
            at.push(problem.hint(format!("{place}, write `{spelling}`")));
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
            (Switch::Rules(key), Value::Scalar { text, .. }) if OnOff.parse(text) == Ok(false) => {
                to.values.remove(key);
            }
            (Switch::Rules(key), _) => {
                if let Some(value) = rule_keys::read(key, &cursor) {
                    to.values.set(key, value);
                }
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
    let hint = match nearest(name, REPAIRS.iter().map(|rule| rule.name)) {
        Some(near) => format!("did you mean `{near}`?"),
        None => {
            let switched = |rule: &&&Repair| rule.switch.spelling().is_none();
            let known: Vec<&str> = REPAIRS.iter().filter(switched).map(|rule| rule.name).collect();
            format!("known rules: {}", list(&known, "and"))
        }
    };
    Problem::at(entry.place, &at.path, format!("unknown rule `{name}`")).hint(hint)
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
