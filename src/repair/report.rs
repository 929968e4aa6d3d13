//! STUB of the renderer.
use super::{Problem, Step};

pub fn refusal_message(model: &str, signature: &str, problems: &[Problem]) -> String {
    let texts: Vec<String> = problems.iter().map(|problem| problem.to_string()).collect();
    format!("model '{model}' signature '{signature}': {}", texts.join("; "))
}

pub fn repair_header(step: &Step) -> String {
    format!("{};{};{}", step.input, step.rule.name, step.change)
}
