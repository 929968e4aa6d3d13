//! Requests with rows of their own, what the stub computes from each row, and the check of it.
use crate::meaning::{self, Tensor};
use crate::payloads::{OUTPUT, Values, tensor};
use crate::proto::{FLOAT, Fields, Message, UINT8, model_spec, shape};

/// The values of a row that the stub computes.
pub const OUTPUTS: usize = 10;
/// By how much a value may differ from the reference, relative to its size and absolutely.
const TOLERANCE: f32 = 1e-3;

/// A Predict whose rows differ from those of every other request.
pub struct Rows {
    template: Vec<u8>,
    /// Where the values begin in the template.
    from: usize,
    /// Values of a row.
    width: usize,
    /// Bytes of a value.
    size: usize,
    count: usize,
    client: u64,
    sequence: u64,
}

impl Rows {
    /// Rows of `FLOAT` or `UINT8`. `dims` are those of one row.
    pub fn new(dtype: u64, model: &str, input: &str, dims: &[i64], count: usize, client: u64) -> Self {
        let size = if dtype == UINT8 { 1 } else { 4 };
        let width = dims.iter().product::<i64>() as usize;
        let all = [&[count as i64], dims].concat();
        let mut fixed = Random::new(client, u64::MAX, 0);
        let values = (0..width * count).flat_map(|_| fixed.value(size)).collect();
        let spec = model_spec(model, None).bytes(3, b"serving_default");
        let tensor = tensor(dtype, &all, Values::Content(values));
        let template = Message::new().bytes(1, &spec.0).entry(2, input, &tensor).framed();
        let from = template.len() - size * width * count;
        Self { template, from, width, size, count, client, sequence: 0 }
    }

    /// The framed request, with the first values of each row changed since the last one.
    pub fn request(&mut self) -> Vec<u8> {
        self.sequence += 1;
        let mut body = self.template.clone();
        for row in 0..self.count {
            let mut random = Random::new(self.client, self.sequence, row as u64);
            let at = self.from + self.size * self.width * row;
            for value in body[at..at + self.size * self.width.min(OUTPUTS)].chunks_exact_mut(self.size) {
                value.copy_from_slice(&random.value(self.size).collect::<Vec<_>>());
            }
        }
        body
    }

    /// Whether an answer holds what the stub computes from this request's rows, and nothing else.
    pub fn answered(&self, request: &[u8], answer: &[u8]) -> bool {
        let expected = values(&request[self.from..], self.width);
        outputs(answer).is_some_and(|tensor| {
            tensor.dims == [self.count as i64, OUTPUTS as i64] && tensor.values == expected
        })
    }
}

/// Ten values for each row: the i-th and the i-th last together, so that every client can check its
/// own.
fn values(values: &[u8], width: usize) -> Vec<u8> {
    let float = |row: &[u8], at: usize| {
        row.get(4 * at..).and_then(|rest| rest.first_chunk()).map_or(0.0, |bytes| f32::from_le_bytes(*bytes))
    };
    values
        .chunks_exact(4 * width)
        .flat_map(|row| (0..OUTPUTS).map(move |at| float(row, at) + float(row, width - 1 - at)))
        .flat_map(f32::to_le_bytes)
        .collect()
}

/// The model and the input of a framed Predict. `None` if it is not one input of floats with rows
/// of the model's dims (of which the first is that of the rows).
pub fn parse(request: &[u8], dims: impl Fn(&str) -> Option<Vec<i64>>) -> Option<(String, Tensor)> {
    let mut request = meaning::request(request.get(5..)?)?;
    let model = std::str::from_utf8(request.name).ok()?.to_owned();
    let (_, input) = request.inputs.pop_first()?;
    let declared = dims(&model)?;
    let (&rows, inner) = input.dims.split_first()?;
    let size = input.dims.iter().product::<i64>();
    let whole = rows > 0 && *inner == declared[1..] && input.values.len() as i64 == 4 * size;
    (request.inputs.is_empty() && input.dtype == FLOAT && whole).then_some((model, input))
}

/// What the stub computes from an input that [`parse`] accepted.
pub fn compute(input: &Tensor) -> Vec<u8> {
    values(&input.values, input.dims[1..].iter().product::<i64>() as usize)
}

/// The framed answer with the values of all rows.
pub fn answer(model: &str, rows: u64, values: Vec<u8>) -> Vec<u8> {
    let output = tensor(FLOAT, &[rows as i64, OUTPUTS as i64], Values::FloatVal(values));
    let spec = model_spec(model, Some(1)).bytes(3, b"serving_default");
    Message::new().entry(1, OUTPUT, &output).bytes(2, &spec.0).framed()
}

/// The only output of a framed answer.
pub fn outputs(answer: &[u8]) -> Option<Tensor> {
    let mut found = None;
    for (field, value) in Fields::of(answer.get(5..)?) {
        if field == 1 {
            let (_, tensor) = Fields::of(value.bytes()?).find(|(field, _)| *field == 2)?;
            if found.replace(meaning::tensor(tensor.bytes()?)?).is_some() {
                return None;
            }
        }
    }
    found
}

/// Whether the floats of an answer are those of the reference. They may differ by `tolerance` of
/// the largest value, or by [`TOLERANCE`].
pub fn close(values: &[u8], reference: &[u8], tolerance: Option<f32>) -> bool {
    let floats = |bytes: &[u8]| -> Vec<f32> {
        bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
    };
    let same_length = values.len() == reference.len();
    let (values, reference) = (floats(values), floats(reference));
    let largest = reference.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
    same_length
        && values.into_iter().zip(reference).all(|(value, wanted)| {
            let allowed = tolerance.map_or(TOLERANCE * (1.0 + wanted.abs()), |share| share * largest);
            (value - wanted).abs() <= allowed
        })
}

/// A dtype by its name.
pub fn dtype(name: &str) -> Option<u64> {
    match name {
        "float" => Some(FLOAT),
        "uint8" => Some(UINT8),
        _ => None,
    }
}

/// The signature of a model with one input and one output, both with a free number of rows.
pub fn signature(input: &str, dims: &[i64], output: &str) -> Message {
    let info = |name: &str, dims: &[i64]| {
        Message::new().bytes(1, name.as_bytes()).varint(2, FLOAT).bytes(3, &shape(dims).0)
    };
    Message::new()
        .entry(1, input, &info("serving_default_input_tensor:0", dims))
        .entry(2, output, &info("StatefulPartitionedCall:0", &[-1, OUTPUTS as i64]))
        .bytes(3, b"tensorflow/serving/predict")
}

/// Numbers that depend on a client, its request and the row.
struct Random(u64);

impl Random {
    fn new(client: u64, sequence: u64, row: u64) -> Self {
        Self(client << 40 ^ sequence << 12 ^ row)
    }

    /// A float, or a byte.
    fn value(&mut self, size: usize) -> impl Iterator<Item = u8> + use<> {
        let float = self.float();
        let bytes = if size == 1 { [(float * 256.0) as u8; 4] } else { float.to_le_bytes() };
        bytes.into_iter().take(size)
    }

    /// A multiple of 2^-24 below 1.
    fn float(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ mixed >> 31) >> 40) as f32 / 16_777_216.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(request: &[u8]) -> Option<(String, i64, Vec<u8>)> {
        let (model, input) = parse(request, |model| (model == "m").then(|| vec![-1, 128]))?;
        let rows = input.dims[0];
        Some((model.clone(), rows, answer(&model, rows as u64, compute(&input))))
    }

    #[test]
    fn the_answer_to_a_request_fits_only_that_request() {
        let mut mine = Rows::new(FLOAT, "m", "x", &[128], 3, 1);
        let mut other = Rows::new(FLOAT, "m", "x", &[128], 3, 2);
        let (first, second, foreign) = (mine.request(), mine.request(), other.request());
        let (model, rows, answer) = run(&first).unwrap();
        assert_eq!((model.as_str(), rows), ("m", 3));
        assert!(mine.answered(&first, &answer));
        assert!(!mine.answered(&second, &answer));
        assert!(!mine.answered(&foreign, &answer));
        assert!(!mine.answered(&first, &run(&foreign).unwrap().2));
    }

    #[test]
    fn rows_of_bytes_have_one_byte_for_each_value() {
        let body = Rows::new(UINT8, "m", "x", &[4, 3], 2, 1).request();
        let content = body.len() - 24;
        assert_eq!(body[content - 2..content], [4 << 3 | 2, 24]);
        assert!(body[content..].iter().any(|byte| *byte != body[content]));
        assert_ne!(body, Rows::new(UINT8, "m", "x", &[4, 3], 2, 2).request());
    }

    #[test]
    fn swapped_rows_are_noticed() {
        let mut rows = Rows::new(FLOAT, "m", "x", &[128], 2, 1);
        let request = rows.request();
        let mut swapped = request.clone();
        swapped[rows.from..].rotate_left(4 * 128);
        assert!(!rows.answered(&request, &run(&swapped).unwrap().2));
    }

    #[test]
    fn a_request_without_whole_rows_has_no_answer() {
        let mut rows = Rows::new(FLOAT, "m", "x", &[127], 1, 1);
        assert!(run(&rows.request()).is_none());
        assert!(run(&Rows::new(FLOAT, "other", "x", &[128], 1, 1).request()).is_none());
        let [_, cut @ ..] = &Rows::new(FLOAT, "m", "x", &[128], 1, 1).request()[..] else { unreachable!() };
        assert!(run(cut).is_none());
    }

    #[test]
    fn a_reference_allows_for_rounding_only() {
        let bytes = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>();
        assert!(close(&bytes(&[1.0, 100.0]), &bytes(&[1.0005, 100.05]), None));
        assert!(!close(&bytes(&[1.0, 100.0]), &bytes(&[1.01, 100.0]), None));
        assert!(!close(&bytes(&[1.0]), &bytes(&[1.0, 1.0]), None));
        assert!(close(&bytes(&[0.05, 100.0]), &bytes(&[0.0, 100.0]), Some(1e-3)));
        assert!(!close(&bytes(&[0.2, 100.0]), &bytes(&[0.0, 100.0]), Some(1e-3)));
        assert!(!close(&bytes(&[f32::NAN]), &bytes(&[1.0]), None));
    }
}
