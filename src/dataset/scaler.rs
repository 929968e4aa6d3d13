//! Reads a scaler that scikit-learn or Keras has fitted, written as JSON.
use serde_json::{Map, Value};

use super::Fault;
use crate::profile::{MAX_FEATURES, Scaler};

/// Bytes of a file.
const MAX_FILE: usize = 4 << 20;
/// What the Normalization layer of Keras puts in place of a smaller deviation
/// (`keras.config.epsilon`).
const EPSILON: f64 = 1e-7;

/// Reads `{"kind": "standard", "mean": [...], "scale": [...]}` and the other kinds.
///
/// # Errors
/// If it is no such object, or the numbers do not fit together.
pub fn read_scaler(text: &str) -> Result<Scaler, Fault> {
    if text.len() > MAX_FILE {
        return Err(Fault::new(format!("the file has {} bytes (limit {MAX_FILE})", text.len())));
    }
    let value: Value =
        serde_json::from_str(text).map_err(|error| Fault::new(format!("invalid JSON: {error}")))?;
    let Value::Object(keys) = &value else {
        return Err(Fault::new("expected an object with the key `kind`"));
    };
    let (known, scaler) = match keys.get("kind").and_then(Value::as_str) {
        Some("standard") => {
            let (mean, scale) = (optional(keys, "mean", 0.0)?, optional(keys, "scale", 1.0)?);
            (&["mean", "scale"][..], Scaler::Standard { mean, scale: nonzero(scale) })
        }
        Some("normalization") => {
            let (mean, variance) = (numbers(keys, "mean")?, numbers(keys, "variance")?);
            if variance.iter().any(|value| *value < 0.0) {
                return Err(Fault::new("`variance` has a negative number"));
            }
            let scale = variance.iter().map(|variance| variance.sqrt().max(EPSILON)).collect();
            (&["mean", "variance"][..], Scaler::Standard { mean, scale })
        }
        Some("min_max") => {
            let (min, max) = (numbers(keys, "min")?, numbers(keys, "max")?);
            let to = if keys.contains_key("to") { numbers(keys, "to")? } else { vec![0.0, 1.0] };
            let [low, high] = to.as_slice() else {
                return Err(Fault::new("expected two numbers in `to`"));
            };
            (&["min", "max", "to"][..], Scaler::MinMax { min, max, to: (*low, *high) })
        }
        Some("robust") => {
            let (center, scale) = (optional(keys, "center", 0.0)?, optional(keys, "scale", 1.0)?);
            (&["center", "scale"][..], Scaler::Robust { center, scale: nonzero(scale) })
        }
        _ => {
            return Err(Fault::new(
                "expected `kind` to be `standard`, `min_max`, `robust` or `normalization`",
            ));
        }
    };
    if let Some(unknown) = keys.keys().find(|key| *key != "kind" && !known.contains(&key.as_str())) {
        return Err(Fault::new(format!("unknown key `{}`", unknown.escape_debug())));
    }
    scaler.check()?;
    Ok(scaler)
}

/// scikit-learn itself divides by 1 where a scale is 0 (`_handle_zeros_in_scale`).
fn nonzero(scale: Vec<f64>) -> Vec<f64> {
    scale.into_iter().map(|scale| if scale == 0.0 { 1.0 } else { scale }).collect()
}

/// A list that scikit-learn does not have when a step is turned off, as with `with_mean=False`.
fn optional(keys: &Map<String, Value>, key: &str, off: f64) -> Result<Vec<f64>, Fault> {
    match keys.get(key) {
        Some(Value::Null) => Ok(vec![off]),
        _ => numbers(keys, key),
    }
}

fn numbers(keys: &Map<String, Value>, key: &str) -> Result<Vec<f64>, Fault> {
    let wrong = || Fault::new(format!("expected a list of 1 to {MAX_FEATURES} numbers in `{key}`"));
    match keys.get(key) {
        Some(Value::Array(items)) if (1..=MAX_FEATURES).contains(&items.len()) => {
            items.iter().map(Value::as_f64).collect::<Option<_>>().ok_or_else(wrong)
        }
        Some(Value::Number(number)) => Ok(vec![number.as_f64().ok_or_else(wrong)?]),
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_read() {
        for (text, expected) in [
            (
                r#"{"kind": "standard", "mean": [1, 2], "scale": [3, 0]}"#,
                Scaler::Standard { mean: vec![1.0, 2.0], scale: vec![3.0, 1.0] },
            ),
            (
                r#"{"kind": "standard", "mean": null, "scale": [3]}"#,
                Scaler::Standard { mean: vec![0.0], scale: vec![3.0] },
            ),
            (
                r#"{"kind": "min_max", "min": [0], "max": [255], "to": [-1, 1]}"#,
                Scaler::MinMax { min: vec![0.0], max: vec![255.0], to: (-1.0, 1.0) },
            ),
            (
                r#"{"kind": "robust", "center": [5], "scale": null}"#,
                Scaler::Robust { center: vec![5.0], scale: vec![1.0] },
            ),
            (
                r#"{"kind": "normalization", "mean": 4, "variance": [9, 0]}"#,
                Scaler::Standard { mean: vec![4.0], scale: vec![3.0, EPSILON] },
            ),
        ] {
            assert_eq!(read_scaler(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn a_mistake_is_named() {
        for (text, expected) in [
            ("[]", "expected an object"),
            (r#"{"kind": "log"}"#, "expected `kind` to be"),
            (r#"{"kind": "standard", "mean": [1, 2], "scale": [1, 2, 3]}"#, "2 numbers and 3"),
            (r#"{"kind": "standard", "mean": ["x"], "scale": [1]}"#, "numbers in `mean`"),
            (r#"{"kind": "standard", "mean": [1], "scale": [1], "var": [1]}"#, "unknown key `var`"),
            (r#"{"kind": "normalization", "mean": [1], "variance": [-1]}"#, "negative"),
            (r#"{"kind""#, "invalid JSON"),
        ] {
            assert!(read_scaler(text).unwrap_err().text.contains(expected), "{text}");
        }
    }
}
