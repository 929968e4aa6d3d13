//! A number that stands for missing values, and a feature that is stuck at one value.
use super::{Form, Hypothesis, Suspects, spread};
use crate::profile::finding::{Detail, Mistake};

/// The share of values that may be missing; where more have the same value, it is stuck.
const MOST_MISSING: f64 = 0.6;
const STUCK: f64 = 0.95;

pub(super) fn propose(suspects: &Suspects<'_>, all: &mut Vec<Hypothesis>) {
    let mut add = |mistake, least: f64, most: f64| {
        let shares = least..=most;
        let coded = suspects.coded.iter().filter(|(_, _, share)| shares.contains(share));
        let features: Vec<usize> = coded.clone().map(|(at, ..)| *at).collect();
        // It must explain every feature that has excluded values.
        if features.is_empty() || !suspects.outside.iter().all(|at| features.binary_search(at).is_ok()) {
            return;
        }
        let tried = spread(&features);
        let code =
            |at: &usize| coded.clone().find(|(known, ..)| known == at).map_or(f64::NAN, |(_, code, _)| *code);
        let codes: Vec<f64> = tried.iter().map(code).collect();
        let (detail, form) = match mistake {
            Mistake::Constant => (Detail::None, Form::Constant(codes)),
            _ => (Detail::Code(name(&codes)), Form::Code(codes)),
        };
        all.push(Hypothesis { mistake, detail, features: tried, form });
    };
    add(Mistake::MissingCoded, 0.0, MOST_MISSING);
    add(Mistake::Constant, STUCK, 1.0);
}

/// The code in words, of which operators learn only the common ones.
fn name(codes: &[f64]) -> &'static str {
    let all = |code: f64| codes.iter().all(|known| *known == code);
    match () {
        () if codes.iter().all(|code| code.is_nan()) => "NaN",
        () if all(0.0) => "0",
        () if all(-1.0) => "-1",
        () if all(-999.0) => "-999",
        () if all(-9999.0) => "-9999",
        () => "a fixed number",
    }
}
