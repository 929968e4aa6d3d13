//! What one request brings to a run, and which requests fit together.
use std::hash::{BuildHasher, Hash as _, Hasher as _};

use smallvec::SmallVec;

use crate::signature::Signature;
use crate::tensor::{DataType, Shape};
use crate::wire::{PredictView, Rope, VersionChoice};

/// Why a request does not share a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bypass {
    /// The client asked for it.
    OptedOut,
    /// Batching was switched off, because shared runs went wrong.
    NotBatchable,
    /// Something in the message cannot be joined.
    Encoding,
    /// An input or a fetched output of the signature has a fixed dim 0 or an unknown rank.
    Signature,
}

/// The rows of every run, if the signature declares them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fixed {
    Any,
    Rows(u64),
}

/// What a request brings to a run. Shares the memory of its message.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub rows: u64,
    /// The field `model_spec` as it was sent.
    pub model_spec: Rope,
    /// The fields `output_filter` as they were sent.
    pub output_filter: Rope,
    /// By alias, sorted.
    pub inputs: SmallVec<[InputPart; 2]>,
}

#[derive(Debug, Clone)]
pub(crate) struct InputPart {
    /// The index in the signature's inputs.
    pub index: usize,
    pub dtype: DataType,
    /// Without the rows; the whole shape of a scalar.
    pub shape: Shape,
    /// Bytes of `tensor_content`, or fields of `string_val`.
    pub values: Rope,
}

/// Whether requests for this signature may share runs at all.
pub(crate) fn sharable(_signature: &Signature, _pad_static_batch: bool) -> Result<Fixed, Bypass> {
    Err(Bypass::Signature)
}

impl Part {
    /// What a request that conforms to the signature brings.
    ///
    /// # Errors
    /// Why it cannot share a run.
    pub(crate) fn of(_signature: &Signature, _message: &Rope, _view: &PredictView) -> Result<Self, Bypass> {
        Err(Bypass::Signature)
    }
}

/// Bytes that [`Part::of`] will allocate for values.
pub(crate) fn expansion(_signature: &Signature, _view: &PredictView) -> u64 {
    0
}

/// Requests with equal keys may share a run. `metadata` is what else must be equal.
pub(crate) fn key(
    hashers: &[impl BuildHasher; 2],
    version: &VersionChoice,
    part: &Part,
    metadata: &[(&[u8], &[u8])],
) -> u128 {
    let mut state = hashers[0].build_hasher();
    format!("{version:?}").hash(&mut state);
    part.rows.hash(&mut state);
    metadata.hash(&mut state);
    u128::from(state.finish())
}

impl Bypass {
    /// Why, in words.
    pub(crate) const fn text(self) -> &'static str {
        self.as_str()
    }

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::OptedOut => "opted_out",
            Self::NotBatchable => "not_batchable",
            Self::Encoding => "encoding",
            Self::Signature => "signature",
        }
    }
}
