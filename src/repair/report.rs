//! Renders a verdict as text, for refusals, repair metadata, dry runs, logs and the command line.
use std::borrow::Cow;

use super::problem::Problem;
use super::{Action, Change, Outcome, Step, ValueChange, Verdict};
use crate::tensor::Exactness;
use crate::wire::PredictView;

/// Maximum number of characters of a name; longer ones are cut.
const MAX_NAME: usize = 128;

/// Who reads a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    /// The client that sent the request: it is told the values that are wrong.
    Client,
    /// Readers of logs and of the status page. They see no tensor value.
    Operator,
}

/// The gRPC message of a refusal: the model, the signature, and every problem.
pub fn refusal(model: &str, signature: &str, problems: &[Problem], reader: Reader) -> String {
    let text = |problem: &Problem| match reader {
        Reader::Client => problem.for_client().to_string(),
        Reader::Operator => problem.to_string(),
    };
    let all: Vec<String> = problems.iter().map(text).collect();
    let text = format!("model '{}' signature '{}': {}", ascii(model), ascii(signature), all.join("; "));
    one_line(&text)
}

/// One `tfs-sidecar-repair` value: `input_tensor;add_batch_dim;[128]->[1,128]`.
pub fn repair_entry(step: &Step) -> String {
    let mut text = String::with_capacity(64);
    for part in [&*ascii(&step.input), ";", step.rule.name, ";"] {
        text.push_str(part);
    }
    write_change(&mut text, step);
    text
}

/// A change as `old->new`, with shapes as `[1,2]`, dtypes and inputs by name, and ` lossy` after a
/// cast that may round.
pub fn change(step: &Step) -> String {
    let mut text = String::with_capacity(32);
    write_change(&mut text, step);
    text
}

/// Without the formatting machinery: every repaired request has a few.
fn write_change(text: &mut String, step: &Step) {
    let mut from_to = |old: &str, new: &str| {
        for part in [old, "->", new] {
            text.push_str(part);
        }
    };
    match &step.change {
        Change::ModelName { old, new } | Change::SignatureName { old, new } | Change::Key { old, new } => {
            from_to(&ascii(old), &ascii(new));
        }
        Change::Rows { old, new } => from_to(&old.to_string(), &new.to_string()),
        Change::Added { descriptor, .. } => from_to("", &format!("{}{}", descriptor.dtype, descriptor.shape)),
        Change::Dropped { key } => from_to(&ascii(key), ""),
        Change::Text { old, new } => from_to(old, new),
        Change::Tensor { before, after, values } => {
            let transform = match values {
                Some(ValueChange::Transform(made)) => Some(&made.transform),
                _ => None,
            };
            let lossy = matches!(values, Some(ValueChange::Cast(Exactness::Round)))
                || transform.is_some() && step.rule.lossy;
            if before.dtype != after.dtype {
                from_to(&before.dtype.name(), &after.dtype.name());
            } else if before.shape != after.shape {
                for (between, shape) in [("", &before.shape), ("->", &after.shape)] {
                    text.push_str(between);
                    // A string takes any text.
                    shape.write_to(text).ok();
                }
                return;
            } else if let Some(transform) = transform {
                text.push_str(&transform.to_string());
            } else {
                from_to(&before.encoding.to_string(), &after.encoding.to_string());
            }
            if lossy {
                text.push_str(" lossy");
            }
        }
    }
}

/// Explains a verdict on several lines: what was sent, what would be repaired, and the result.
pub fn explain(verdict: &Verdict, view: &PredictView) -> String {
    let mut lines = Vec::new();
    match &verdict.signature {
        Some(signature) => {
            lines.push(format!("signature '{}', mode {}", ascii(&signature.name), verdict.mode));
        }
        None => lines.push(format!(
            "signature '{}', mode {}",
            ascii(view.model_spec.effective_signature()),
            verdict.mode
        )),
    }
    for info in verdict.signature.iter().flat_map(|signature| &signature.inputs) {
        lines.push(format!("  takes  {}: {} {}", ascii(&info.alias), info.dtype, info.shape));
    }
    for input in &view.inputs {
        lines.push(format!("  sent   {}: {} {}", ascii(&input.key), input.tensor.dtype, input.tensor.shape));
    }
    for step in &verdict.plan.steps {
        let input = if step.input.is_empty() { "request" } else { &step.input };
        lines.push(format!(
            "  repair {}: {} {}, for {}",
            ascii(input),
            step.rule.name,
            change(step),
            one_line(&step.fixes.to_string())
        ));
    }
    for warning in &verdict.warnings {
        lines.push(format!("  warning {}", warning.text));
    }
    for problem in &verdict.problems {
        lines.push(format!("  problem {}", one_line(&problem.for_client().to_string())));
    }
    lines.push(match (verdict.action, verdict.outcome) {
        (Action::Forward, Outcome::Conforming) => "conforms: forwarded byte for byte".to_owned(),
        (Action::Forward, _) => "passed: forwarded byte for byte, although it does not conform".to_owned(),
        (Action::Apply, _) => format!("repaired: forwarded with {} change(s)", verdict.plan.steps.len()),
        (Action::Refuse, _) => {
            format!("refused: {}", verdict.problems.first().map_or("", |problem| problem.reason.as_str()))
        }
    });
    lines.join("\n") + "\n"
}

/// A name from a client, made safe for headers and logs: printable ASCII of limited length.
pub fn ascii(name: &str) -> Cow<'_, str> {
    // Nearly all names need no change.
    if name.len() <= MAX_NAME && name.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        return Cow::Borrowed(name);
    }
    let short: String = name.chars().take(MAX_NAME).collect();
    let cut = if short.len() < name.len() { "..." } else { "" };
    Cow::Owned(one_line(&short) + cut)
}

/// The text as one line of printable ASCII, with everything else escaped. Old Go clients turn a
/// status message with a newline into INTERNAL.
pub fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            ' '..='~' => line.push(char),
            _ => line.extend(char.escape_default()),
        }
    }
    line
}
