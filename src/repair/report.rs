//! A verdict in words: the one renderer of refusals, of the repair metadata, of dry runs, logs and the command line.
use super::problem::Problem;
use super::{Change, Step, ValueChange};
use crate::tensor::Exactness;

/// Longest name that is printed whole.
const MAX_NAME: usize = 128;

/// The gRPC message of a refusal: the model, the signature, and every problem.
pub fn refusal(model: &str, signature: &str, problems: &[Problem]) -> String {
    let all: Vec<String> = problems.iter().map(ToString::to_string).collect();
    let text = format!("model '{}' signature '{}': {}", ascii(model), ascii(signature), all.join("; "));
    one_line(&text)
}

/// One `tfs-sidecar-repair` value: `input_tensor;add_batch_dim;[128]->[1,128]`.
pub fn repair_entry(step: &Step) -> String {
    format!("{};{};{}", ascii(&step.input), step.rule.name, change(step))
}

/// `old->new`: shapes as `[1,2]`, dtypes by name, names bare, and ` lossy` after a cast that may round.
pub fn change(step: &Step) -> String {
    match &step.change {
        Change::SignatureName { old, new } | Change::Key { old, new } => {
            format!("{}->{}", ascii(old), ascii(new))
        }
        Change::Added { head, .. } => format!("->{}{}", head.dtype, head.shape),
        Change::Dropped { key } => format!("{}->", ascii(key)),
        Change::Tensor { before, after, values } => {
            let lossy =
                if matches!(values, Some(ValueChange::Cast(Exactness::Round))) { " lossy" } else { "" };
            if before.dtype != after.dtype {
                format!("{}->{}{lossy}", before.dtype, after.dtype)
            } else if before.shape != after.shape {
                format!("{}->{}", before.shape, after.shape)
            } else {
                format!("{}->{}{lossy}", before.carried, after.carried)
            }
        }
    }
}

/// A name that came from a client, fit for a header and a log: printable ASCII, cut where it is long.
pub fn ascii(name: &str) -> String {
    let short: String = name.chars().take(MAX_NAME).collect();
    let cut = if short.len() < name.len() { "..." } else { "" };
    one_line(&short) + cut
}

/// Printable ASCII on one line; everything else is escaped. Old Go clients turn a newline in a message into INTERNAL.
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
