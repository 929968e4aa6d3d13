//! The keys of the configuration that rules declare in their own files, and what is set there.
use std::collections::{BTreeMap, BTreeSet};

use super::policy::Literal;
use super::transform::{Transforms, When};

/// A key that a rule declares: its name, what it is for, and which values it takes.
#[derive(Debug, PartialEq, Eq)]
pub struct RuleKey {
    pub name: &'static str,
    pub help: &'static str,
    /// A value, for messages and docs.
    pub sample: &'static str,
    pub value: ValueKind,
}

/// What the value of a [`RuleKey`] may be, and which [`RuleValue`] holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueKind {
    /// One of these, as [`Literal::Text`].
    Words(&'static [&'static str]),
    /// `on` or `off`, as [`Literal::Bool`].
    OnOff,
    /// An element of a tensor, as a [`Literal`].
    Element,
    /// The name of an input, as [`Literal::Text`].
    Input,
    /// A list of inputs, as [`RuleValue::Inputs`].
    Inputs,
    /// Sent names with the declared inputs that they mean, as [`RuleValue::Renames`].
    Renames,
    /// A list of transforms, as [`RuleValue::Transforms`].
    Transforms,
    /// A mapping with keys of its own, as [`RuleValue::Section`].
    Section { keys: &'static [&'static RuleKey], required: &'static [&'static str] },
}

/// The keys of an input that say how its content is transformed.
pub static TRANSFORM: RuleKey = RuleKey {
    name: "transform",
    help: "What is done to the content of the input, in requests that need it; see [preprocessing.md](preprocessing.md#transforms). The order is: decode and relabel, transpose, change numbers.",
    sample: "[{scale: {factor: 0.00392156862745098}}]",
    value: ValueKind::Transforms,
};
pub static WHEN: RuleKey = RuleKey {
    name: "when",
    help: "Which requests are transformed. `raw`: only those whose values match the `raw` side of the profile and not the other; the rest passes as it is, with a warning if it matches neither.",
    sample: RAW,
    value: ValueKind::Words(&[ALWAYS, RAW]),
};
const ALWAYS: &str = "always";
const RAW: &str = "raw";

/// What is set for a [`RuleKey`].
#[derive(Debug, Clone, PartialEq)]
pub enum RuleValue {
    Literal(Literal),
    Inputs(BTreeSet<String>),
    Renames(BTreeMap<String, String>),
    Section(RuleValues),
    Transforms(Transforms),
}

/// The values of some keys.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RuleValues(BTreeMap<&'static str, RuleValue>);

impl RuleValues {
    pub fn get(&self, key: &RuleKey) -> Option<&RuleValue> {
        self.0.get(key.name)
    }

    pub fn set(&mut self, key: &RuleKey, value: RuleValue) {
        self.0.insert(key.name, value);
    }

    pub fn remove(&mut self, key: &RuleKey) {
        self.0.remove(key.name);
    }

    pub fn literal(&self, key: &RuleKey) -> Option<&Literal> {
        match self.get(key)? {
            RuleValue::Literal(value) => Some(value),
            _ => None,
        }
    }

    /// A word, or the name of an input.
    pub fn text(&self, key: &RuleKey) -> Option<&str> {
        match self.literal(key)? {
            Literal::Text(text) => Some(text),
            _ => None,
        }
    }

    pub fn is_on(&self, key: &RuleKey) -> bool {
        self.literal(key) == Some(&Literal::Bool(true))
    }

    pub fn inputs(&self, key: &RuleKey) -> impl Iterator<Item = &String> + Clone {
        let inputs = match self.get(key) {
            Some(RuleValue::Inputs(inputs)) => Some(inputs),
            _ => None,
        };
        inputs.into_iter().flatten()
    }

    pub fn has_input(&self, key: &RuleKey, name: &str) -> bool {
        matches!(self.get(key), Some(RuleValue::Inputs(inputs)) if inputs.contains(name))
    }

    pub fn renames(&self, key: &RuleKey) -> impl Iterator<Item = (&String, &String)> {
        let renames = match self.get(key) {
            Some(RuleValue::Renames(renames)) => Some(renames),
            _ => None,
        };
        renames.into_iter().flatten()
    }

    /// The declared input that a sent name means.
    pub fn renamed(&self, key: &RuleKey, sent: &str) -> Option<&String> {
        match self.get(key)? {
            RuleValue::Renames(renames) => renames.get(sent),
            _ => None,
        }
    }

    /// The declared transforms of an input.
    pub fn transforms(&self) -> Option<&Transforms> {
        match self.0.get(TRANSFORM.name)? {
            RuleValue::Transforms(transforms) => Some(transforms),
            _ => None,
        }
    }

    pub(super) fn transforms_mut(&mut self) -> Option<&mut Transforms> {
        match self.0.get_mut(TRANSFORM.name)? {
            RuleValue::Transforms(transforms) => Some(transforms),
            _ => None,
        }
    }

    /// Which requests are transformed.
    pub fn when(&self) -> When {
        if self.text(&WHEN) == Some(RAW) { When::Raw } else { When::Always }
    }

    pub fn section(&self, key: &RuleKey) -> Option<&Self> {
        match self.get(key)? {
            RuleValue::Section(values) => Some(values),
            _ => None,
        }
    }
}

impl<const N: usize> From<[(&RuleKey, RuleValue); N]> for RuleValues {
    fn from(values: [(&RuleKey, RuleValue); N]) -> Self {
        Self(values.into_iter().map(|(key, value)| (key.name, value)).collect())
    }
}

impl From<Literal> for RuleValue {
    fn from(value: Literal) -> Self {
        Self::Literal(value)
    }
}
