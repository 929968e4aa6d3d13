//! `tensorflow.serving.ModelSpec` in a request: model, version and signature.
use std::fmt;
use std::ops::Range;

use smallvec::SmallVec;

use super::scan::{Reader, Wire, WireError, text};

/// The signature that TF Serving uses when a request names none (`kDefaultServingSignatureDefKey`).
pub const DEFAULT_SIGNATURE: &str = "serving_default";

/// Maximum number of `model_spec` fields in a message, and of signature names in them. Encoders
/// write one; each takes memory.
const MAX_FIELDS: usize = 64;

/// The requested version (the oneof `version_choice`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum VersionChoice {
    /// No version given: TF Serving uses the highest one that it serves.
    #[default]
    Latest,
    Version(i64),
    Label(String),
}

/// The merged content of a request's `model_spec` fields.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ModelSpec {
    /// Whether the request has the field. TF Serving distinguishes a missing spec from an empty
    /// one.
    pub present: bool,
    pub name: String,
    /// The name in the message, if the configuration gives the model another.
    pub renamed_from: Option<Box<str>>,
    pub version: VersionChoice,
    /// Empty means `serving_default`.
    pub signature_name: String,
    /// The payloads of the `model_spec` fields and the `signature_name` fields in them, for
    /// rewriting.
    pub(super) payloads: SmallVec<[Range<usize>; 1]>,
    pub(super) signature_fields: SmallVec<[Range<usize>; 1]>,
    /// Whether it has fields that are not read.
    pub(super) other_fields: bool,
}

impl ModelSpec {
    /// A spec that was not read from a message.
    pub(crate) fn of(name: String, version: VersionChoice) -> Self {
        Self { present: true, name, version, ..Self::default() }
    }

    /// The same for a signature.
    pub(crate) fn for_signature(mut self, name: &str) -> Self {
        name.clone_into(&mut self.signature_name);
        self
    }

    /// Gives the model another name, and keeps the one in the message.
    pub(crate) fn rename(&mut self, new: &str) {
        let sent = std::mem::replace(&mut self.name, new.to_owned());
        self.renamed_from.get_or_insert(sent.into_boxed_str());
    }

    /// The model's name in the message.
    pub(crate) fn sent_name(&self) -> &str {
        self.renamed_from.as_deref().unwrap_or(&self.name)
    }

    /// The signature that TF Serving will use (`predict_util.cc`: an empty name is
    /// `serving_default`).
    pub fn effective_signature(&self) -> &str {
        if self.signature_name.is_empty() { DEFAULT_SIGNATURE } else { &self.signature_name }
    }

    /// Bytes on the heap.
    pub(super) fn heap_size(&self) -> usize {
        let ranges = self.payloads.len() + self.signature_fields.len();
        self.name.len() + self.signature_name.len() + ranges * size_of::<Range<usize>>()
    }

    /// Reads one `model_spec` field. A later one is merged into an earlier one, as in protobuf.
    pub(super) fn merge(&mut self, mut reader: Reader<'_>, payload: Range<usize>) -> Result<(), WireError> {
        self.present = true;
        let too_many = |what| WireError::TooMany { at: payload.start, what, limit: MAX_FIELDS };
        if self.payloads.len() == MAX_FIELDS {
            return Err(too_many("model specs"));
        }
        self.payloads.push(payload.clone());
        while let Some(field) = reader.next_field()? {
            match field.number {
                1 => {
                    field.expect(Wire::Bytes)?;
                    self.name = text(&reader, &field)?;
                }
                2 => {
                    field.expect(Wire::Bytes)?;
                    let inner = reader.inner(&field);
                    let version = match self.version {
                        VersionChoice::Version(version) => version,
                        VersionChoice::Latest | VersionChoice::Label(_) => 0,
                    };
                    self.version = VersionChoice::Version(int64_value(inner, version)?);
                }
                3 => {
                    field.expect(Wire::Bytes)?;
                    self.signature_name = text(&reader, &field)?;
                    if self.signature_fields.len() == MAX_FIELDS {
                        return Err(too_many("signature names"));
                    }
                    self.signature_fields.push(field.span);
                }
                4 => {
                    field.expect(Wire::Bytes)?;
                    self.version = VersionChoice::Label(text(&reader, &field)?);
                }
                _ => self.other_fields = true,
            }
        }
        Ok(())
    }
}

/// The same text as TF Serving's for a servable: `Latest(m)`, `Specific(m, 3)`.
impl fmt::Display for ModelSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.version {
            VersionChoice::Latest => write!(f, "Latest({})", self.name),
            VersionChoice::Version(version) => write!(f, "Specific({}, {version})", self.name),
            VersionChoice::Label(label) => write!(f, "Label({}, {label})", self.name),
        }
    }
}

/// A `google.protobuf.Int64Value`. If it has no value, the result is `before`, as when messages are
/// merged.
fn int64_value(mut reader: Reader<'_>, before: i64) -> Result<i64, WireError> {
    let mut value = before;
    while let Some(field) = reader.next_field()? {
        if field.number == 1 {
            field.expect(Wire::Varint)?;
            value = field.varint as i64;
        }
    }
    Ok(value)
}
