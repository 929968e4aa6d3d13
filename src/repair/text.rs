//! What the reader of a text format, such as JSON, found in a request before it was a message.
use super::policy::Policy;
use super::problem::{Place, Problem, Weight};
use super::reason::Reason;
use super::rules::{BOOL_NUMBERS, INTEGRAL_FLOATS, LIST_OF_ONE, NAMES_AT_TOP, STRING_NUMBERS};
use super::warning::Warning;
use super::{Change, Repair, Step};
use crate::signature::Signature;
use crate::tensor::Shape;
use crate::wire::PredictView;

/// Findings about the text of a request. They are part of its verdict.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TextFindings {
    /// What was read in the only right way, although TF Serving would not have read it.
    pub steps: Vec<Step>,
    pub problems: Vec<Problem>,
    pub warnings: Vec<Warning>,
    pub rows: Option<TextRows>,
}

/// The rows that the text itself has: one for each element of a list. The answer has as many, so no
/// repair may change them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TextRows {
    pub count: i64,
    /// The elements are bare values of one input, so the whole list can be meant as one row.
    pub is_plain: bool,
}

/// How a text was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// A whole float for an integer.
    IntegralFloat,
    /// 0 or 1 for a bool, or a bool for a number.
    BoolNumber,
    /// An object instead of a list of one.
    ListOfOne,
    /// The names of inputs in the body itself.
    NamesAtTop,
    /// A number in a string.
    StringNumber,
}

/// What the reader may do under a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowed {
    pub string_numbers: bool,
    pub bool_numbers: bool,
}

impl Allowed {
    /// Whole floats are always read as integers: JSON has one type of numbers.
    pub fn by(policy: &Policy) -> Self {
        Self {
            string_numbers: policy.rules.contains(&STRING_NUMBERS),
            bool_numbers: policy.rules.contains(&BOOL_NUMBERS),
        }
    }
}

impl Reading {
    fn rule(self) -> &'static Repair {
        match self {
            Self::IntegralFloat => &INTEGRAL_FLOATS,
            Self::BoolNumber => &BOOL_NUMBERS,
            Self::ListOfOne => &LIST_OF_ONE,
            Self::NamesAtTop => &NAMES_AT_TOP,
            Self::StringNumber => &STRING_NUMBERS,
        }
    }

    /// Whether the policy allows it.
    fn is_allowed(self, policy: &Policy) -> bool {
        self == Self::IntegralFloat || policy.rules.contains(self.rule())
    }

    fn change(self) -> Change {
        let (old, new) = match self {
            Self::IntegralFloat => ("1.0", "1"),
            Self::BoolNumber => ("true", "1"),
            Self::ListOfOne => ("{...}", "[{...}]"),
            Self::NamesAtTop => ("{...}", "{inputs:{...}}"),
            Self::StringNumber => ("string", "number"),
        };
        Change::Text { old, new }
    }
}

impl TextFindings {
    /// Adds a reading: a step, or the problem `fixes` if the policy does not allow it.
    pub fn add(&mut self, reading: Reading, input: &str, fixes: Problem, policy: &Policy) {
        let rule = reading.rule();
        if !reading.is_allowed(policy) {
            self.problems.push(fixes.switch(Some(rule)));
            return;
        }
        if self.steps.iter().any(|step| step.rule == rule && step.input == input) {
            return;
        }
        let change = reading.change();
        self.steps.push(Step { rule, input: input.to_owned(), index: None, change, fixes });
    }

    /// Forgives the shapes of tensors without elements. JSON cannot say the shape of an empty batch,
    /// and TF Serving answers many.
    pub(super) fn forgive_empty(view: &PredictView, problems: &mut Vec<Problem>) {
        let is_empty = |input: &str| view.input(input).is_some_and(|input| input.tensor.shape.contains(&0));
        problems.retain(|problem| {
            let is_shape = matches!(
                problem.reason,
                Reason::RankTooLow | Reason::RankTooHigh | Reason::DimMismatch | Reason::ShapeMismatch
            );
            !is_shape || problem.weight != Weight::Plain || !is_empty(&problem.input)
        });
    }

    /// Makes a problem of each step that would change the number of rows of the text. A list of
    /// scalars for a declared scalar is no problem: TF Serving's REST API has no other way to send
    /// one in rows, and models take it.
    pub(super) fn keep_rows(
        &self,
        signature: &Signature,
        steps: &mut Vec<Step>,
        problems: &mut Vec<Problem>,
    ) {
        let Some(TextRows { count, is_plain }) = self.rows else { return };
        let is_scalar = |input: &str| {
            signature.input(input).and_then(|info| info.shape.dims()).is_some_and(<[i64]>::is_empty)
        };
        problems.retain(|problem| problem.reason != Reason::RankTooHigh || !is_scalar(&problem.input));
        steps.retain(|step| {
            let Change::Tensor { before, after, .. } = &step.change else { return true };
            let rows = |shape: &Shape| shape.first().copied();
            let whole = is_plain && before.shape.len() == 1 && rows(&after.shape) == Some(1);
            let keeps = rows(&before.shape) != Some(count) || rows(&after.shape) == Some(count) || whole;
            if !keeps && !is_scalar(&step.input) {
                problems.push(step.fixes.clone());
            }
            keeps
        });
    }
}

/// A problem with a place in the text. `value` is told only to the client.
pub fn problem(reason: Reason, input: &str, what: &str, value: Option<&str>, place: Place) -> Problem {
    let problem = match value {
        Some(value) => Problem::of_value(reason, input, value, what),
        None => Problem::new(reason, input, what),
    };
    Problem { place: Some(Box::new(place)), ..problem }
}
