//! Cuts and joins `tensorflow.serving.PredictResponse` messages by rows.
use std::collections::HashMap;

use super::emit::{self, map_entry_of};
use super::model_spec::{ModelSpec, VersionChoice};
use super::predict::{InputView, entry};
use super::rope::Rope;
use super::rows::{self, RowsError};
use super::scan::{Reader, Wire, WireError};

/// Maximum number of outputs in a response. The messages come from TF Serving, so this only guards
/// against a broken server.
const MAX_OUTPUTS: usize = 16_384;

/// A scanned response.
#[derive(Debug, Clone, Default)]
pub struct ReplyView {
    pub outputs: Vec<InputView>,
}

impl ReplyView {
    /// Scans a response.
    ///
    /// # Errors
    /// If the bytes are not a `PredictResponse`.
    pub fn scan(message: &Rope) -> Result<Self, WireError> {
        let mut view = Self::default();
        let mut reader = Reader::new(message);
        while let Some(field) = reader.next_field()? {
            if field.number == 1 {
                field.expect(Wire::Bytes)?;
                if view.outputs.len() == MAX_OUTPUTS {
                    return Err(WireError::TooMany {
                        at: field.span.start,
                        what: "outputs",
                        limit: MAX_OUTPUTS,
                    });
                }
                let inner = reader.inner(&field);
                view.outputs.push(entry(inner, field.span)?);
            }
        }
        Ok(view)
    }

    /// Of several outputs with one key the first.
    fn by_key(&self) -> HashMap<&str, &InputView> {
        self.outputs.iter().rev().map(|output| (output.key.as_str(), output)).collect()
    }
}

/// The version that answered, if the response names it.
///
/// # Errors
/// If the bytes are not a `PredictResponse`.
pub(crate) fn version(message: &Rope) -> Result<Option<i64>, WireError> {
    let (mut spec, mut reader) = (ModelSpec::default(), Reader::new(message));
    while let Some(field) = reader.next_field()? {
        if field.number == 2 {
            field.expect(Wire::Bytes)?;
            spec.merge(reader.inner(&field), field.payload.clone())?;
        }
    }
    Ok(match spec.version {
        VersionChoice::Version(version) => Some(version),
        VersionChoice::Latest | VersionChoice::Label(_) => None,
    })
}

/// The first `rows` rows of a response that has `of` rows.
///
/// # Errors
/// If an output does not have `of` rows, or cannot be cut.
pub fn cut(message: &Rope, rows: i64, of: i64) -> Result<Rope, RowsError> {
    let view = ReplyView::scan(message)?;
    let mut cuts = Vec::with_capacity(view.outputs.len());
    for output in &view.outputs {
        expect_rows(output, of)?;
        let piece = rows::take(message, &output.tensor, &(0..rows as u64))?;
        let edit = rows::join(&output.tensor, rows, vec![piece]);
        cuts.push((output.entry.clone(), map_entry_of(message, output, &edit, 1)));
    }
    Ok(emit::splice(message, 0..message.len(), cuts))
}

/// Joins responses for consecutive rows. `parts` are the messages, each with the number of rows
/// that was sent. The model spec is that of the first.
///
/// # Errors
/// If the outputs of the responses differ, or an output does not have the expected number of rows.
pub fn join(parts: &[(Rope, i64)]) -> Result<Rope, RowsError> {
    let Some((first, _)) = parts.first() else { return Ok(Rope::new()) };
    let views: Vec<ReplyView> =
        parts.iter().map(|(message, _)| ReplyView::scan(message)).collect::<Result<_, _>>()?;
    let by_key: Vec<HashMap<&str, &InputView>> = views.iter().map(ReplyView::by_key).collect();
    let mut cuts = Vec::new();
    let total = parts.iter().map(|(_, rows)| rows).sum();
    for output in &views[0].outputs {
        let mut pieces = Vec::with_capacity(parts.len());
        for (((message, rows), view), by_key) in parts.iter().zip(&views).zip(&by_key) {
            let same = *by_key.get(output.key.as_str()).ok_or(RowsError::Outputs)?;
            let alike = same.tensor.dtype == output.tensor.dtype
                && same.tensor.shape.get(1..) == output.tensor.shape.get(1..);
            if !alike || view.outputs.len() != views[0].outputs.len() {
                return Err(RowsError::Outputs);
            }
            expect_rows(same, *rows)?;
            pieces.push(rows::take(message, &same.tensor, &(0..*rows as u64))?);
        }
        let edit = rows::join(&output.tensor, total, pieces);
        cuts.push((output.entry.clone(), map_entry_of(first, output, &edit, 1)));
    }
    Ok(emit::splice(first, 0..first.len(), cuts))
}

fn expect_rows(output: &InputView, expected: i64) -> Result<(), RowsError> {
    let found = rows::rows_of(&output.tensor)?;
    if found == expected { Ok(()) } else { Err(RowsError::Count { expected, found }) }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::proto::tensorflow::serving::{ModelSpec, PredictResponse};
    use crate::proto::tensorflow::{TensorProto, TensorShapeProto, tensor_shape_proto::Dim};

    fn reply(values: &[f32]) -> PredictResponse {
        let dim = |size| Dim { size, name: String::new() };
        let shape = TensorShapeProto { dim: vec![dim(values.len() as i64), dim(1)], unknown_rank: false };
        let tensor = TensorProto {
            dtype: 1,
            tensor_shape: Some(shape),
            float_val: values.to_vec(),
            ..TensorProto::default()
        };
        let spec = ModelSpec { name: "m".into(), ..ModelSpec::default() };
        PredictResponse { outputs: [("y".to_owned(), tensor)].into(), model_spec: Some(spec) }
    }

    fn rope(values: &[f32]) -> Rope {
        Rope::from(reply(values).encode_to_vec())
    }

    #[test]
    fn responses_are_joined_in_order_and_cut_back() {
        let joined = join(&[(rope(&[1.0, 2.0]), 2), (rope(&[3.0]), 1)]).unwrap();
        assert_eq!(PredictResponse::decode(joined.to_bytes()).unwrap(), reply(&[1.0, 2.0, 3.0]));
        let back = cut(&joined, 2, 3).unwrap();
        assert_eq!(PredictResponse::decode(back.to_bytes()).unwrap(), reply(&[1.0, 2.0]));
    }

    #[test]
    fn an_output_with_unexpected_rows_is_an_error() {
        assert_eq!(join(&[(rope(&[1.0]), 2)]), Err(RowsError::Count { expected: 2, found: 1 }));
        assert_eq!(cut(&rope(&[1.0]), 1, 4), Err(RowsError::Count { expected: 4, found: 1 }));
    }
}
