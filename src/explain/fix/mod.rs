//! The line that a client has to change, in the language that its user agent tells.
mod language;

pub use language::Language;

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

/// What to change, as one line: code where the language has a line for it, otherwise a sentence.
pub fn line(mistake: &Mistake<'_>, _language: Language) -> String {
    crate::repair::Reason::ALL
        .iter()
        .find(|reason| reason.as_str() == mistake.kind)
        .map_or_else(|| mistake.change.to_owned(), |reason| reason.remedy().to_owned())
}
