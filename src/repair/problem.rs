//! A problem of a request, and the text of it.
use std::borrow::Cow;
use std::fmt;

use super::Repair;
use super::reason::Reason;
use crate::signature::TensorInfo;
use crate::tensor::{PartialShape, Shape};
use crate::wire::WireError;

/// Something that is wrong with a request. `Display` gives one line of ASCII: `input 'x': rank 1
/// [100], expected rank 2 [-1,100] (RANK_TOO_LOW; hint)`. It has no tensor value, so it may be
/// logged; [`Problem::for_client`] has the values too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub reason: Reason,
    /// The input's alias, or the sent key if no alias is known. Empty for the whole request.
    pub input: String,
    /// What was sent and what was expected.
    pub what: String,
    /// The value that `what` is about. Only the client is told, which sent it.
    pub value: Option<Box<str>>,
    /// What to do about it; empty if `what` makes it clear.
    pub hint: String,
    /// A rule that would fix it if the operator switched it on.
    pub switch: Option<&'static Repair>,
    pub weight: Weight,
    /// Where it is in a request that was a text.
    pub place: Option<Box<Place>>,
}

/// A place in the text of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// JSON pointer, such as `/instances/3/age`; empty for the whole text.
    pub pointer: String,
    /// Bytes before it.
    pub offset: usize,
}

/// Whether modes treat a problem specially.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Weight {
    #[default]
    Plain,
    /// Refused in every mode but `off`: it is known to hang or crash TF Serving.
    Shield,
}

impl Problem {
    pub fn new(reason: Reason, input: &str, what: impl Into<String>) -> Self {
        Self {
            reason,
            input: input.to_owned(),
            what: what.into(),
            value: None,
            hint: String::new(),
            switch: None,
            weight: Weight::Plain,
            place: None,
        }
    }

    /// A problem of one value. `what` goes on after it: `at index 1 is out of range for int32`.
    pub(super) fn of_value(reason: Reason, input: &str, value: &str, what: impl Into<String>) -> Self {
        Self { value: Some(value.into()), ..Self::new(reason, input, what) }
    }

    /// The text for the client that sent the request.
    pub fn for_client(&self) -> ForClient<'_> {
        ForClient { problem: self, with_fix: true }
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }

    #[must_use]
    pub fn switch(mut self, rule: Option<&'static Repair>) -> Self {
        self.switch = rule;
        self
    }

    #[must_use]
    pub fn weight(mut self, weight: Weight) -> Self {
        self.weight = weight;
        self
    }

    pub fn malformed(error: &WireError) -> Self {
        Self::new(Reason::Malformed, "", error.to_string())
    }

    /// The problem of a shape that does not fit. `sent` is concrete.
    pub fn shape(info: &TensorInfo, sent: &Shape) -> Self {
        let PartialShape::Known(declared) = &info.shape else {
            // With unknown rank, only an input that the policy declares a scalar is checked.
            return Self::new(
                Reason::RankTooHigh,
                &info.alias,
                format!("rank {} {sent}, expected a scalar", sent.rank()),
            );
        };
        let (have, want) = (sent.rank(), declared.rank());
        if have != want {
            let reason = if have < want { Reason::RankTooLow } else { Reason::RankTooHigh };
            return Self::new(
                reason,
                &info.alias,
                format!("rank {have} {sent}, expected rank {want} {declared}"),
            );
        }
        let differ: Vec<usize> =
            (0..want).filter(|axis| declared[*axis] >= 0 && declared[*axis] != sent[*axis]).collect();
        match differ.as_slice() {
            // A vector of one value is no batch.
            [0] if declared[0] > 1 || (declared[0] == 1 && want > 1) => {
                let what =
                    format!("{} rows in {sent}, expected exactly {} in {declared}", sent[0], declared[0]);
                Self::new(Reason::StaticBatch, &info.alias, what).hint(match declared[0] {
                    1 => "the model takes one row a call: send each row in a call of its own".to_owned(),
                    rows => format!("the model was exported for batches of {rows}"),
                })
            }
            [axis] => {
                let what = format!(
                    "dimension {axis} is {} in {sent}, expected {} in {declared}",
                    sent[*axis], declared[*axis]
                );
                Self::new(Reason::DimMismatch, &info.alias, what)
            }
            _ => Self::new(Reason::ShapeMismatch, &info.alias, format!("shape {sent}, expected {declared}")),
        }
    }

    fn write(&self, f: &mut fmt::Formatter<'_>, value: Option<&str>, with_fix: bool) -> fmt::Result {
        if !self.input.is_empty() {
            write!(f, "input '{}': ", self.input)?;
        }
        if self.value.is_some() {
            f.write_str("value ")?;
        }
        if let Some(value) = value {
            write!(f, "{value} ")?;
        }
        write!(f, "{} ({}", self.what, self.reason)?;
        if let Some(fix) = self.fix().filter(|_| with_fix) {
            write!(f, "; {fix}")?;
        }
        f.write_str(")")
    }

    /// What to do about it: the hint, and the rule that would fix it.
    pub fn fix(&self) -> Option<Cow<'_, str>> {
        let Some(rule) = self.switch else {
            return (!self.hint.is_empty()).then_some(Cow::Borrowed(&self.hint));
        };
        let between = if self.hint.is_empty() { "" } else { "; " };
        Some(format!("{}{between}the operator can switch on `{}`", self.hint, rule.name).into())
    }
}

/// A problem as its client may see it, with the values.
#[derive(Debug, Clone, Copy)]
pub struct ForClient<'a> {
    problem: &'a Problem,
    with_fix: bool,
}

impl ForClient<'_> {
    /// The text alone, where what to do is said elsewhere.
    #[must_use]
    pub fn without_fix(self) -> Self {
        Self { with_fix: false, ..self }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, None, true)
    }
}

impl fmt::Display for ForClient<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.problem.write(f, self.problem.value.as_deref(), self.with_fix)
    }
}
