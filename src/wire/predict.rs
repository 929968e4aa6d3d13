//! Scans a `tensorflow.serving.PredictRequest`: reads everything but the tensor values, and locates
//! those.
use std::cell::Cell;
use std::collections::HashMap;
use std::ops::Range;

use smallvec::SmallVec;

use super::model_spec::ModelSpec;
use super::rope::Rope;
use super::scan::{Reader, Wire, WireError, text};
use super::tensor::TensorView;

/// Maximum number of inputs in a request, far above any real signature. It limits the memory that a
/// hostile message can use.
const MAX_INPUTS: usize = 16_384;
/// After so many inputs the rest are counted before memory is taken for them.
const COUNTED: usize = 1024;
/// Maximum number of names in `output_filter`.
const MAX_FILTERS: usize = 16_384;
/// Up to this many inputs, comparing all pairs is cheaper than a hash table.
const FEW: usize = 16;

/// One entry of the `inputs` map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputView {
    pub key: String,
    /// The field of the map entry, including its tag.
    pub entry: Range<usize>,
    pub tensor: TensorView,
}

/// A scanned request. It borrows nothing: its ranges are positions in the rope that was scanned.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PredictView {
    pub model_spec: ModelSpec,
    /// The `model_spec` fields, including their tags.
    pub(super) spec_fields: SmallVec<[Range<usize>; 1]>,
    /// In the order of the message. Of several entries with the same key the last one, as protobuf
    /// reads a map.
    pub inputs: SmallVec<[InputView; 2]>,
    /// Entries that a later one with the same key replaces.
    pub(super) shadowed: SmallVec<[Range<usize>; 0]>,
    pub output_filter: Vec<String>,
    /// Whether the message itself has fields that are not read here.
    other_fields: bool,
}

impl PredictView {
    /// Scans a request in one pass. No tensor value is decoded, and nothing is allocated for a
    /// length before the bytes are known to be there.
    ///
    /// # Errors
    /// The first position at which the bytes are not a `PredictRequest`.
    pub fn scan(message: &Rope) -> Result<Self, WireError> {
        let mut view = Self::default();
        view.fill(Reader::new(message))?;
        Ok(view)
    }

    /// Like [`PredictView::scan`], but reads about `fuel` fields at most.
    ///
    /// # Errors
    /// [`WireError::Unfinished`] if there are more fields.
    pub fn scan_within(message: &Rope, fuel: usize) -> Result<Self, WireError> {
        let mut view = Self::default();
        view.fill_within(message, fuel)?;
        Ok(view)
    }

    /// [`PredictView::scan_within`] into an empty view, which need not be moved then.
    ///
    /// # Errors
    /// As for [`PredictView::scan_within`].
    pub(crate) fn fill_within(&mut self, message: &Rope, fuel: usize) -> Result<(), WireError> {
        self.fill(Reader::limited(message, &Cell::new(fuel)))
    }

    /// Bytes that the view takes beside the message.
    pub fn heap_size(&self) -> usize {
        let filters = self.output_filter.iter().map(|name| name.len() + size_of::<String>());
        let ranges = (self.spec_fields.len() + self.shadowed.len()) * size_of::<Range<usize>>();
        let spilled = if self.inputs.spilled() { self.inputs.len() * size_of::<InputView>() } else { 0 };
        let each = self.inputs.iter().map(|input| input.key.len() + input.tensor.heap_size());
        self.model_spec.heap_size() + filters.sum::<usize>() + ranges + spilled + each.sum::<usize>()
    }

    fn fill(&mut self, mut reader: Reader<'_>) -> Result<(), WireError> {
        while let Some(field) = reader.next_field()? {
            match field.number {
                1 => {
                    field.expect(Wire::Bytes)?;
                    self.model_spec.merge(reader.inner(&field), field.payload.clone())?;
                    self.spec_fields.push(field.span);
                }
                2 => {
                    field.expect(Wire::Bytes)?;
                    if self.inputs.len() == COUNTED {
                        self.inputs.reserve_exact(1 + count_inputs(reader.clone())?);
                    }
                    let inner = reader.inner(&field);
                    self.inputs.push(entry(inner, field.span)?);
                }
                3 => {
                    field.expect(Wire::Bytes)?;
                    if self.output_filter.len() == MAX_FILTERS {
                        let what = "output_filter entries";
                        return Err(WireError::TooMany { at: field.span.start, what, limit: MAX_FILTERS });
                    }
                    self.output_filter.push(text(&reader, &field)?);
                }
                _ => self.other_fields = true,
            }
        }
        self.drop_shadowed();
        Ok(())
    }

    /// The model spec of a message that cannot be scanned, as far as it can be read. Empty if it
    /// comes after the error. Reads about `fuel` fields at most.
    ///
    /// # Errors
    /// [`WireError::Unfinished`] if there are more fields.
    pub fn salvage_model_spec(message: &Rope, fuel: usize) -> Result<ModelSpec, WireError> {
        let mut spec = ModelSpec::default();
        let fuel = Cell::new(fuel);
        let mut reader = Reader::limited(message, &fuel);
        loop {
            let read = match reader.next_field() {
                Ok(Some(field)) if field.number == 1 => field
                    .expect(Wire::Bytes)
                    .and_then(|()| spec.merge(reader.inner(&field), field.payload.clone())),
                Ok(Some(_)) => continue,
                Ok(None) => return Ok(spec),
                Err(error) => Err(error),
            };
            match read {
                Ok(()) => {}
                Err(error @ WireError::Unfinished { .. }) => return Err(error),
                Err(_) => return Ok(spec),
            }
        }
    }

    /// The `model_spec` fields of the message, as they were sent.
    pub(crate) fn spec_fields(&self, message: &Rope) -> Rope {
        let mut fields = Rope::new();
        for span in &self.spec_fields {
            fields.push_slice(message, span.clone());
        }
        fields
    }

    /// Whether a message that is built from what was read here says the same: it has no unknown
    /// fields outside of the tensors' own, and no entry replaces another.
    pub(crate) fn is_complete(&self) -> bool {
        let complete = |input: &InputView| !input.tensor.other_fields;
        !self.other_fields
            && !self.model_spec.other_fields
            && self.shadowed.is_empty()
            && self.inputs.iter().all(complete)
    }

    pub fn input(&self, key: &str) -> Option<&InputView> {
        self.inputs.iter().find(|input| input.key == key)
    }

    fn drop_shadowed(&mut self) {
        let mut last: HashMap<&str, usize> = HashMap::new();
        let few = self.inputs.len() <= FEW;
        if few {
            let repeated = (1..self.inputs.len())
                .any(|at| self.inputs[..at].iter().any(|early| early.key == self.inputs[at].key));
            if !repeated {
                return;
            }
        }
        for (at, input) in self.inputs.iter().enumerate() {
            last.insert(&input.key, at);
        }
        if last.len() == self.inputs.len() {
            return;
        }
        let keep: Vec<bool> =
            self.inputs.iter().enumerate().map(|(at, input)| last[input.key.as_str()] == at).collect();
        let mut at = 0;
        let shadowed = &mut self.shadowed;
        self.inputs.retain(|input| {
            at += 1;
            if !keep[at - 1] {
                shadowed.push(input.entry.clone());
            }
            keep[at - 1]
        });
    }
}

/// Counts the inputs that follow the first [`COUNTED`] and one more.
fn count_inputs(mut rest: Reader<'_>) -> Result<usize, WireError> {
    let mut count = 0;
    while let Some(field) = rest.next_field()? {
        if field.number == 2 {
            count += 1;
            if COUNTED + 1 + count > MAX_INPUTS {
                return Err(WireError::TooMany { at: field.span.start, what: "inputs", limit: MAX_INPUTS });
            }
        }
    }
    Ok(count)
}

pub(super) fn entry(mut reader: Reader<'_>, span: Range<usize>) -> Result<InputView, WireError> {
    let mut input = InputView { key: String::new(), entry: span, tensor: TensorView::default() };
    while let Some(field) = reader.next_field()? {
        match field.number {
            1 => {
                field.expect(Wire::Bytes)?;
                input.key = text(&reader, &field)?;
            }
            2 => {
                field.expect(Wire::Bytes)?;
                input.tensor.merge(reader.inner(&field))?;
            }
            _ => input.tensor.other_fields = true,
        }
    }
    Ok(input)
}

#[cfg(test)]
pub(super) mod tests {
    use bytes::Bytes;
    use prost::Message as _;

    use super::*;
    use crate::proto::tensorflow::serving::{ModelSpec as ProtoSpec, PredictRequest};
    use crate::proto::tensorflow::{TensorProto, TensorShapeProto, tensor_shape_proto::Dim};
    use crate::tensor::{DataType, ValueList};
    use crate::wire::VersionChoice;

    pub(in crate::wire) fn request() -> PredictRequest {
        let dims = |sizes: &[i64]| TensorShapeProto {
            dim: sizes.iter().map(|size| Dim { size: *size, name: String::new() }).collect(),
            unknown_rank: false,
        };
        let content = TensorProto {
            dtype: 1,
            tensor_shape: Some(dims(&[2, 3])),
            tensor_content: Bytes::from(vec![1; 24]),
            ..TensorProto::default()
        };
        let list = TensorProto {
            dtype: 9,
            tensor_shape: Some(dims(&[3])),
            int64_val: vec![1, -1, 300],
            ..TensorProto::default()
        };
        PredictRequest {
            model_spec: Some(ProtoSpec {
                name: "m".into(),
                signature_name: "s".into(),
                version_choice: None,
            }),
            inputs: [("x".to_owned(), content), ("ids".to_owned(), list)].into(),
            output_filter: vec!["y".into()],
            ..PredictRequest::default()
        }
    }

    #[test]
    fn a_scan_reads_the_message_and_locates_the_values() {
        let bytes = Bytes::from(request().encode_to_vec());
        for cut in [1, 2, 3, 7, 1000] {
            let rope: Rope = bytes.chunks(cut).map(Bytes::copy_from_slice).collect();
            let view = PredictView::scan(&rope).unwrap();
            assert_eq!((view.model_spec.name.as_str(), view.model_spec.effective_signature()), ("m", "s"));
            assert_eq!(view.model_spec.version, VersionChoice::Latest);
            assert_eq!(view.output_filter, ["y"]);
            let x = view.input("x").unwrap();
            assert_eq!((x.tensor.dtype, x.tensor.shape.to_string()), (DataType::FLOAT, "[2,3]".to_owned()));
            assert_eq!(rope.slice(x.tensor.content.clone().unwrap()).to_bytes(), vec![1; 24]);
            let ids = view.input("ids").unwrap();
            assert_eq!(ids.tensor.lists().as_slice(), [(ValueList::Int64, 3)]);
        }
    }

    #[test]
    fn the_last_of_two_entries_with_the_same_key_counts() {
        let mut one = request();
        one.inputs.retain(|key, _| key == "x");
        let mut two = one.clone();
        two.inputs.get_mut("x").unwrap().dtype = 2;
        let mut bytes = one.encode_to_vec();
        bytes.extend(two.encode_to_vec());
        let view = PredictView::scan(&Rope::from(bytes)).unwrap();
        assert_eq!((view.inputs.len(), view.shadowed.len()), (1, 1));
        assert_eq!(view.inputs[0].tensor.dtype, DataType::DOUBLE);
    }

    #[test]
    fn a_scan_stops_at_the_limit_of_its_work() {
        let scan = |message: &Rope, fuel| PredictView::scan_within(message, fuel).map(drop);
        let stopped = |message: &Rope, fuel| matches!(scan(message, fuel), Err(WireError::Unfinished { .. }));
        let rope = Rope::from(request().encode_to_vec());
        assert_eq!(PredictView::scan_within(&rope, 100), PredictView::scan(&rope));
        assert!(stopped(&rope, 3));
        let unknown_fields = [0x78, 1].repeat(1000);
        let group: Vec<u8> = [&[0x7b][..], &[0x08, 1].repeat(1000), &[0x7c]].concat();
        let long_name = [&[0x1a, 0x80, 0x80, 0x04][..], &vec![b'n'; 65_536]].concat();
        let list = prost::Message::encode_to_vec(&TensorProto {
            int_val: vec![1; 65_536],
            ..TensorProto::default()
        });
        let values = PredictRequest {
            inputs: [("x".to_owned(), TensorProto::decode(&list[..]).unwrap())].into(),
            ..PredictRequest::default()
        };
        for message in [unknown_fields, group, long_name, values.encode_to_vec()] {
            let message = Rope::from(message);
            assert!(stopped(&message, 500));
            assert_eq!(scan(&message, 1010), Ok(()));
        }
    }

    #[test]
    fn a_view_knows_its_size() {
        let one = PredictView::scan(&Rope::from(request().encode_to_vec())).unwrap();
        assert!(one.heap_size() < 100, "{}", one.heap_size());
        // The smallest inputs, each with a key of its own.
        let many: Vec<u8> = (0..10_000_u16)
            .flat_map(|at| [&[0x12, 6, 0x0a, 4][..], format!("{at:04}").as_bytes()].concat())
            .collect();
        let many = PredictView::scan(&Rope::from(many)).unwrap();
        assert!(many.heap_size() >= 10_000 * size_of::<InputView>(), "{}", many.heap_size());
        let runs: Vec<u8> = [[0x38, 1], [0x18, 1]].concat().repeat(100);
        let runs = [&[0x12, 0x93, 3, 0x12, 0x90, 3][..], &runs].concat();
        let runs = PredictView::scan(&Rope::from(runs)).unwrap();
        assert!(runs.heap_size() > 100, "{}", runs.heap_size());
    }

    #[test]
    fn a_truncated_message_does_not_panic() {
        let bytes = request().encode_to_vec();
        for end in 0..bytes.len() {
            let _ = PredictView::scan(&Rope::from(bytes[..end].to_vec()));
        }
        assert!(PredictView::scan(&Rope::from(bytes[..bytes.len() - 1].to_vec())).is_err());
    }

    #[test]
    fn a_tensor_of_many_alternating_fields_is_refused() {
        let mut tensor = Vec::new();
        for _ in 0..1000 {
            tensor.extend([0x2d, 0, 0, 0, 0, 0x38, 1]);
        }
        let mut entry = vec![0x12];
        prost::encoding::encode_varint(tensor.len() as u64, &mut entry);
        entry.extend(tensor);
        let mut message = vec![0x12];
        prost::encoding::encode_varint(entry.len() as u64, &mut message);
        message.extend(entry);
        let error = PredictView::scan(&Rope::from(message)).unwrap_err();
        assert!(matches!(error, WireError::TooMany { .. }), "{error}");
    }

    #[test]
    fn too_many_inputs_are_refused_before_memory_is_taken_for_them() {
        let input = |at: usize| [&[0x12, 7, 0x0a, 5][..], format!("{at:05}").as_bytes()].concat();
        let scan = |count| {
            let mut view = PredictView::default();
            let outcome =
                view.fill(Reader::new(&Rope::from((0..count).flat_map(input).collect::<Vec<u8>>())));
            (outcome, view.inputs.len(), view.inputs.capacity())
        };
        assert_eq!(scan(MAX_INPUTS), (Ok(()), MAX_INPUTS, MAX_INPUTS));
        let (outcome, _, capacity) = scan(MAX_INPUTS + 1);
        let at = MAX_INPUTS * input(0).len();
        assert_eq!(outcome, Err(WireError::TooMany { at, what: "inputs", limit: MAX_INPUTS }));
        assert_eq!(capacity, COUNTED);
    }
}
