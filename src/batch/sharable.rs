//! Whether the requests of a signature may share runs, and why a request does not.
use crate::signature::{Signature, TensorInfo};
use crate::tensor::{Class, DataType};

/// Why a request does not share a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bypass {
    // The signature.
    UnknownRank,
    FixedBatch,
    NoRows,
    OutputWithoutRows,
    Dtype,
    // The request.
    NotConforming,
    MissingInput,
    Encoding,
    RowsDiffer,
    ZeroRows,
    TooLarge,
    OptedOut,
    // What was learned.
    NotBatchable,
}

/// The rows of every run, if the signature declares them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fixed {
    Any,
    Rows(u64),
}

/// The largest batch that the rule `pad_static_batch` fills.
const MAX_PADDED_ROWS: i64 = 65_536;

/// Whether requests for this signature may share runs at all. `pad_static_batch`: that rule is on.
///
/// # Errors
/// Why they may not.
pub(crate) fn sharable(signature: &Signature, pad_static_batch: bool) -> Result<Fixed, Bypass> {
    let mut declared = None;
    for info in &signature.inputs {
        let Some(rows) = declared_rows(info, pad_static_batch)? else { continue };
        if *declared.get_or_insert(rows) != rows {
            return Err(Bypass::FixedBatch);
        }
    }
    let declared = declared.ok_or(Bypass::NoRows)?;
    if !signature.outputs.iter().any(|output| output_has_rows(output, declared)) {
        return Err(Bypass::OutputWithoutRows);
    }
    Ok(u64::try_from(declared).map_or(Fixed::Any, Fixed::Rows))
}

/// Dim 0 of an input as it is declared; `None` for a scalar, which has no rows.
///
/// # Errors
/// The input cannot be joined with that of another request.
pub(crate) fn declared_rows(info: &TensorInfo, pad_static_batch: bool) -> Result<Option<i64>, Bypass> {
    // Sparse and composite inputs have an unknown rank, too.
    let dims = info.shape.dims().ok_or(Bypass::UnknownRank)?;
    if !joins(info.dtype) {
        return Err(Bypass::Dtype);
    }
    match dims.first().copied() {
        Some(fixed) if fixed != -1 && !(pad_static_batch && (2..=MAX_PADDED_ROWS).contains(&fixed)) => {
            Err(Bypass::FixedBatch)
        }
        rows => Ok(rows),
    }
}

/// Whether an output has the rows of the inputs, whose dim 0 is `declared`.
pub(super) fn output_has_rows(output: &TensorInfo, declared: i64) -> bool {
    let rows = output.shape.dims().and_then(|dims| dims.first());
    rows.is_some_and(|rows| *rows == -1 || *rows == declared)
}

/// Whether tensors of the dtype can be joined: strings, and elements of whole bytes. Those below a
/// byte have one meaning in `tensor_content` and several in the lists.
fn joins(dtype: DataType) -> bool {
    let narrow = matches!(
        dtype,
        DataType::INT4 | DataType::UINT4 | DataType::INT2 | DataType::UINT2 | DataType::FLOAT4_E2M1FN
    );
    dtype.info().is_some_and(|info| info.class != Class::Handle) && !narrow
}

impl Bypass {
    #[cfg_attr(not(test), expect(dead_code, reason = "docs/metrics.md lists all words"))]
    pub(crate) const ALL: [Self; 13] = [
        Self::UnknownRank,
        Self::FixedBatch,
        Self::NoRows,
        Self::OutputWithoutRows,
        Self::Dtype,
        Self::NotConforming,
        Self::MissingInput,
        Self::Encoding,
        Self::RowsDiffer,
        Self::ZeroRows,
        Self::TooLarge,
        Self::OptedOut,
        Self::NotBatchable,
    ];

    /// The label in metrics.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::UnknownRank => "unknown_rank",
            Self::FixedBatch => "fixed_batch",
            Self::NoRows => "no_rows",
            Self::OutputWithoutRows => "output_without_rows",
            Self::Dtype => "dtype",
            Self::NotConforming => "not_conforming",
            Self::MissingInput => "missing_input",
            Self::Encoding => "encoding",
            Self::RowsDiffer => "rows_differ",
            Self::ZeroRows => "zero_rows",
            Self::TooLarge => "too_large",
            Self::OptedOut => "opted_out",
            Self::NotBatchable => "not_batchable",
        }
    }

    /// The reason in plain English, for the page and `explain`.
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::UnknownRank => "an input has an unknown rank",
            Self::FixedBatch => "an input has a fixed dim 0",
            Self::NoRows => "no input has rows",
            Self::OutputWithoutRows => "an output does not have the rows of the inputs",
            Self::Dtype => "an input has a dtype that cannot be joined",
            Self::NotConforming => "the request does not conform to the signature",
            Self::MissingInput => "an input was not sent",
            Self::Encoding => "the request has unknown fields or an unusual encoding",
            Self::RowsDiffer => "the inputs have different numbers of rows",
            Self::ZeroRows => "the request has no rows",
            Self::TooLarge => "the values are too large to be expanded",
            Self::OptedOut => "the client sent `tfs-sidecar-no-batch: 1`",
            Self::NotBatchable => "answers of shared runs were wrong, so the signature is not batched",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repair::notation;
    use crate::signature::DEFAULT_SIGNATURE;

    fn check(signature: &str, pad: bool) -> Result<Fixed, Bypass> {
        let signatures = notation::signature(signature).unwrap();
        sharable(signatures.get(DEFAULT_SIGNATURE).unwrap(), pad)
    }

    #[test]
    fn a_signature_is_sharable_if_all_its_inputs_have_rows_or_are_scalars() {
        for signature in [
            "x:float[-1,128] -> y:float[-1,10]",
            "x:string[-1] rate:float[] -> y:float[-1]",
            "x:half[-1,-1,3] mask:bool[-1,-1] -> y:int64[-1,5] mean:float[]",
            "x:qint8[-1] -> y:float[-1]",
        ] {
            assert_eq!(check(signature, false), Ok(Fixed::Any), "{signature}");
        }
    }

    #[test]
    fn each_reason_against_a_signature_is_found() {
        for (signature, reason) in [
            ("x:float[-1,2] z:float -> y:float[-1]", Bypass::UnknownRank),
            ("x:float[4,2] -> y:float[4]", Bypass::FixedBatch),
            ("x:float[-1,2] z:float[3] -> y:float[-1]", Bypass::FixedBatch),
            ("rate:float[] -> y:float[-1]", Bypass::NoRows),
            ("-> y:float[-1]", Bypass::NoRows),
            ("x:float[-1,2] -> y:float[]", Bypass::OutputWithoutRows),
            ("x:float[-1,2] -> y:float[4]", Bypass::OutputWithoutRows),
            ("x:float[-1,2] -> y:float", Bypass::OutputWithoutRows),
            ("x:float[-1,2]", Bypass::OutputWithoutRows),
            ("x:resource[-1] -> y:float[-1]", Bypass::Dtype),
            ("x:int4[-1] -> y:float[-1]", Bypass::Dtype),
        ] {
            assert_eq!(check(signature, false), Err(reason), "{signature}");
        }
    }

    #[test]
    fn a_fixed_batch_is_sharable_where_short_requests_are_padded() {
        assert_eq!(check("x:float[4,2] rate:float[] -> y:float[4]", true), Ok(Fixed::Rows(4)));
        assert_eq!(check("x:float[4,2] -> y:float[-1]", true), Ok(Fixed::Rows(4)));
        assert_eq!(check("x:float[-1,2] -> y:float[-1]", true), Ok(Fixed::Any));
        assert_eq!(check("x:float[4,2] z:float[3] -> y:float[4]", true), Err(Bypass::FixedBatch));
        assert_eq!(check("x:float[4,2] z:float[-1] -> y:float[4]", true), Err(Bypass::FixedBatch));
        assert_eq!(check("x:float[1,2] -> y:float[1]", true), Err(Bypass::FixedBatch));
        assert_eq!(check("x:float[65537] -> y:float[65537]", true), Err(Bypass::FixedBatch));
        assert_eq!(check("x:float[4,2] -> y:float[8]", true), Err(Bypass::OutputWithoutRows));
    }

    #[test]
    fn every_reason_has_its_own_label_and_text() {
        let mut seen = std::collections::HashSet::new();
        for bypass in Bypass::ALL {
            assert!(seen.insert(bypass.as_str()) && seen.insert(bypass.text()), "{bypass:?}");
            assert!(bypass.as_str().bytes().all(|byte| byte == b'_' || byte.is_ascii_lowercase()));
        }
    }
}
