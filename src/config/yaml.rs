//! The configuration file as a tree, and what is wrong with its YAML as problems.
use super::problem::Problem;
use crate::yaml::Fault;
pub(super) use crate::yaml::{Entry, Node, Value};

/// Aliases may multiply a document; no configuration has this many keys and values.
const MAX_NODES: usize = 200_000;

/// Parses one document. Duplicate keys are reported, and the first one counts.
///
/// # Errors
/// A syntax error, which ends parsing: one problem with its line and column.
pub(super) fn parse(text: &str, problems: &mut Vec<Problem>) -> Result<Node, Problem> {
    let mut faults = Vec::new();
    let parsed = crate::yaml::parse(text, MAX_NODES, &mut faults);
    problems.extend(faults.into_iter().map(problem));
    parsed.map_err(problem)
}

fn problem(fault: Fault) -> Problem {
    Problem::at(fault.place, fault.key, fault.text)
}
