//! Watches a share of the answers: NaN and infinite values, and one answer for different requests.
use super::evidence::{Distinct, hash};
use super::finding::{Finding, Kind, Value};

/// Different requests that must have had one answer before it is called constant.
pub const CONSTANT_AFTER: u32 = 64;

/// What is known of the answers in one output.
#[derive(Debug, Clone)]
pub struct AnswerWatch {
    requests: Distinct,
    answer: Option<u64>,
    /// Different requests in a row that had `answer`.
    same: u32,
}

impl Default for AnswerWatch {
    fn default() -> Self {
        Self { requests: Distinct::new(), answer: None, same: 0 }
    }
}

impl AnswerWatch {
    /// Adds an answer. `request` is a hash of the request's values, such as [`hash_values`];
    /// `values` are numbers of one output. `floats` says whether the output is of a float dtype: a
    /// label may well be the same for all requests, and is not called constant.
    pub fn add(&mut self, request: u64, values: &[f64], floats: bool, out: &mut Vec<Finding>) {
        if let Some(value) = values.iter().find(|value| !value.is_finite()) {
            let count = values.iter().filter(|value| !value.is_finite()).count() as u32;
            out.push(finding(Kind::AnswerNotFinite, count, *value));
        }
        if !floats || values.is_empty() {
            return;
        }
        let answer = hash(values);
        if self.answer != Some(answer) {
            *self = Self { answer: Some(answer), ..Self::default() };
        }
        if self.requests.insert(request) {
            self.same += 1;
        }
        if self.same >= CONSTANT_AFTER {
            out.push(finding(Kind::AnswerConstant, self.same, values[0]));
        }
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + self.requests.bytes()
    }
}

/// A hash of the values of a request, by which different requests are told apart.
pub fn hash_values(values: &[f64]) -> u64 {
    hash(values)
}

fn finding(kind: Kind, count: u32, value: f64) -> Finding {
    Finding { kind, feature: None, name: String::new(), count, value: Value::Number(value), range: None }
}
