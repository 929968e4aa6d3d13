//! The line that a client has to change, in the language that its user agent tells.
mod action;
mod dotnet;
mod go;
mod java;
mod language;
mod node;
mod python;
mod rest;
mod text;

pub use language::Language;

use self::action::Action;
use crate::signature::TensorInfo;

/// What a client sends wrong, as far as the line to change depends on it.
#[derive(Debug, Clone, Copy)]
pub struct Mistake<'a> {
    /// The rule of a repair or the reason of a refusal or warning: `add_batch_dim`,
    /// `DTYPE_MISMATCH`.
    pub kind: &'a str,
    /// The input as the metrics name it; empty for the whole request.
    pub input: &'a str,
    /// The change of a repair: `[128]->[1,128]`, `double->float lossy`. Empty for a refusal.
    pub change: &'a str,
    /// The input in the signature, if it has one.
    pub declared: Option<&'a TensorInfo>,
}

/// What to change, as one line: code where one line of code is certain to be right, otherwise a
/// sentence. In code, `x` is the value of the input (a NumPy array in Python). Empty for a kind
/// that is neither a rule nor a reason.
pub fn line(mistake: &Mistake<'_>, language: Language) -> String {
    let Some(action) = Action::of(mistake) else { return String::new() };
    let code = match language {
        Language::Python => python::line(&action),
        Language::Go => go::line(&action),
        Language::Java => java::line(&action),
        Language::Node => node::line(&action),
        Language::Dotnet => dotnet::line(&action),
        Language::Rest => rest::line(&action),
        Language::Other => None,
    };
    code.unwrap_or_else(|| text::line(&action))
}

/// A string literal of the languages here. Names come from models and clients, and must not end
/// it.
fn quoted(name: &str) -> String {
    let name = crate::repair::report::ascii(name);
    let mut literal = String::with_capacity(name.len() + 2);
    literal.push('"');
    for char in name.chars() {
        if matches!(char, '"' | '\\') {
            literal.push('\\');
        }
        literal.push(char);
    }
    literal.push('"');
    literal
}

/// Joins the sizes of a shape, each put into `{}` of the pattern. A size that is not known is
/// called `rows`.
fn sizes(dims: &[i64], before: &str, after: &str, between: &str) -> String {
    let size = |dim: &i64| match dim {
        dim if *dim < 0 => format!("{before}rows{after}"),
        dim => format!("{before}{dim}{after}"),
    };
    dims.iter().map(size).collect::<Vec<_>>().join(between)
}

/// `float_val` as `FloatVal`, `DT_FLOAT` as `DtFloat`.
fn pascal(name: &str) -> String {
    let word = |word: &str| {
        let mut chars = word.chars();
        let first = chars.next().map(|first| first.to_ascii_uppercase());
        first.into_iter().chain(chars.map(|char| char.to_ascii_lowercase())).collect::<String>()
    };
    name.split('_').map(word).collect()
}

#[cfg(test)]
mod tests;
