//! STUB of the renderer.
use super::{Problem, Step};

pub fn refusal_message(model: &str, signature: &str, problems: &[Problem]) -> String {
    let texts: Vec<String> = problems.iter().map(|problem| format!("{} ({})", problem.text, problem.reason.as_str())).collect();
    format!("model '{model}' signature '{signature}': {}", texts.join("; "))
}

pub fn repair_header(step: &Step) -> String {
    format!("{};{};{}", step.input, step.rule.name, step.change)
}
