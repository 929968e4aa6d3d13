//! Logarithms: not taken, or taken once too often.
use super::{Form, Function, Hypothesis, Suspects};
use crate::profile::finding::{Detail, Mistake};

pub(super) fn propose(suspects: &Suspects<'_>, features: &[usize], all: &mut Vec<Hypothesis>) {
    let positive = |at: &usize| suspects.checks.features[*at].min >= 0.0;
    let mut add = |mistake, name, function| {
        let (detail, form) = (Detail::Function(name), Form::Function(function));
        all.push(Hypothesis { mistake, detail, features: features.to_vec(), form });
    };
    add(Mistake::LogNotTaken, "log", Function::Ln);
    add(Mistake::LogNotTaken, "log1p", Function::Ln1p);
    // What a logarithm was taken of is positive.
    if features.iter().all(positive) {
        add(Mistake::LogTakenTwice, "log", Function::Exp);
        add(Mistake::LogTakenTwice, "log1p", Function::ExpM1);
    }
}
