//! Makes one request of the parts of several.
use super::part::Part;
use crate::signature::Signature;
use crate::wire::Rope;

/// The `PredictRequest` with the rows of all parts in their order, filled to `rows` with copies of
/// the last row. All parts have the same key.
pub(crate) fn join(_signature: &Signature, _parts: &[&Part], _rows: u64) -> Rope {
    Rope::new()
}
