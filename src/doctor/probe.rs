//! Requests that show faults which only a run shows: the smallest that a signature allows.
use super::finding::{Actor, Level};
use crate::explain::{Context, explain};
use crate::signature::{Signature, TensorInfo};
use crate::tensor::{DataType, Shape, ValueList};
use crate::wire::{Rope, emit};

/// Bytes of the values of one input, which are zeros.
const MAX_INPUT: u64 = 64 << 20;

/// A request of one row of zeros, or of empty strings.
///
/// # Errors
/// Why there is none, in words.
pub fn zeros(model: &str, version: Option<i64>, signature: &Signature) -> Result<Rope, String> {
    // `ModelSpec.name` and `signature_name`.
    let mut spec = emit::field(1, Rope::from(model.as_bytes().to_vec()));
    spec.append(emit::field(3, Rope::from(signature.name.as_bytes().to_vec())));
    let mut request = emit::field(1, spec);
    for info in signature.inputs.iter().filter(|info| !info.has_default) {
        request.append(emit::map_entry(info.alias.as_bytes(), tensor(info)?));
    }
    Ok(version.map_or_else(|| request.clone(), |version| emit::pinned(&request, version)))
}

/// What an error of TensorFlow to a request of zeros says about the model: zeros may be values that
/// it refuses, and then nothing is wrong.
pub fn judge(message: &str, is_invalid_argument: bool) -> Level {
    let actor = explain(message, &Context::default()).map(|meaning| meaning.row.actor);
    let is_values = actor == Some(Actor::Client) || actor.is_none() && is_invalid_argument;
    if is_values { Level::Warn } else { Level::Fail }
}

fn tensor(info: &TensorInfo) -> Result<Rope, String> {
    let name = &info.alias;
    if info.tensor_name.is_empty() {
        return Err(format!("input `{name}` is sparse or composite"));
    }
    // A dimension that may be anything is 1; an unknown rank is 1.
    let dims: Vec<i64> =
        info.shape.dims().map_or(vec![1], |dims| dims.iter().map(|dim| (*dim).max(-1).abs()).collect());
    let too_large = || format!("input `{name}` has more than {MAX_INPUT} bytes");
    let count =
        dims.iter().try_fold(1_u64, |count, dim| count.checked_mul(*dim as u64)).ok_or_else(too_large)?;
    let size = info.dtype.size().map_or(2, |size| size as u64);
    if count.checked_mul(size).is_none_or(|bytes| bytes > MAX_INPUT) {
        return Err(too_large());
    }
    let values = match info.dtype.size() {
        Some(size) => emit::content(Rope::from(vec![0; count as usize * size])),
        // Each string is a field of its own.
        None if info.dtype == DataType::STRING => {
            Rope::from(emit::list(ValueList::String, Rope::new()).to_bytes().repeat(count as usize))
        }
        None => return Err(format!("input `{name}` is {}, which has no values", info.dtype)),
    };
    let shape: Shape = dims.into_iter().collect();
    Ok(Rope::from(emit::new_tensor(info.dtype, &shape, &values)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::warmup::conforms;
    use crate::repair::notation;

    #[test]
    fn a_request_of_zeros_conforms_to_its_signature() {
        for text in ["x=x:0:float[-1,3] n=n:0:int64[] -> y:float[-1]", "s=s:0:string[-1,-1] b=b:0:bool[2]"] {
            let signatures = notation::signature(text).unwrap();
            let signature = signatures.get("serving_default").unwrap();
            let request = zeros("m", Some(3), signature).unwrap();
            assert_eq!(conforms(&request, &signatures), Ok("serving_default".to_owned()), "{text}");
        }
    }

    #[test]
    fn zeros_are_not_the_fault_of_the_model() {
        assert_eq!(judge("indices[1] = 0 is not in [1, 10)", true), Level::Warn);
        assert_eq!(judge("something about values", true), Level::Warn);
        assert_eq!(judge("something else", false), Level::Fail);
        assert_eq!(judge("Op type not registered 'Foo' in binary", false), Level::Fail);
        assert_eq!(judge("Could not find variable w.", false), Level::Fail);
    }

    #[test]
    fn what_cannot_be_sent_is_said() {
        let error = |text: &str| {
            let signatures = notation::signature(text).unwrap();
            zeros("m", None, signatures.get("serving_default").unwrap()).unwrap_err()
        };
        assert!(error("x=x:0:float[9000000000000,900000000]").contains("bytes"));
        assert!(error("x=x:0:resource[]").contains("no values"));
    }
}
