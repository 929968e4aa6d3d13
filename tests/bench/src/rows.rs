//! Requests with rows of their own, what the stub computes from each row, and the check of it.
use crate::meaning::{self, Tensor};
use crate::payloads::{OUTPUT, Values, tensor};
use crate::proto::{FLOAT, Fields, Message, model_spec, shape};

/// The values of a row that the stub computes.
pub const OUTPUTS: usize = 10;

/// A Predict whose rows differ from those of every other request.
pub struct Rows {
    template: Vec<u8>,
    /// Where the values begin in the template.
    from: usize,
    /// Values of a row.
    width: usize,
    count: usize,
    client: u64,
    sequence: u64,
}

impl Rows {
    /// `dims` are those of one row.
    pub fn new(model: &str, input: &str, dims: &[i64], count: usize, client: u64) -> Self {
        let width = dims.iter().product::<i64>() as usize;
        let all = [&[count as i64], dims].concat();
        let mut fixed = Random::new(client, u64::MAX, 0);
        let values = (0..width * count).flat_map(|_| fixed.float().to_le_bytes()).collect();
        let spec = model_spec(model, None).bytes(3, b"serving_default");
        let tensor = tensor(FLOAT, &all, Values::Content(values));
        let template = Message::new().bytes(1, &spec.0).entry(2, input, &tensor).framed();
        let from = template.len() - 4 * width * count;
        Self { template, from, width, count, client, sequence: 0 }
    }

    /// The framed request, with the first values of each row changed since the last one.
    pub fn request(&mut self) -> Vec<u8> {
        self.sequence += 1;
        let mut body = self.template.clone();
        for row in 0..self.count {
            let mut random = Random::new(self.client, self.sequence, row as u64);
            let at = self.from + 4 * self.width * row;
            for value in body[at..at + 4 * self.width.min(OUTPUTS)].chunks_exact_mut(4) {
                value.copy_from_slice(&random.float().to_le_bytes());
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
        let mut mine = Rows::new("m", "x", &[128], 3, 1);
        let mut other = Rows::new("m", "x", &[128], 3, 2);
        let (first, second, foreign) = (mine.request(), mine.request(), other.request());
        let (model, rows, answer) = run(&first).unwrap();
        assert_eq!((model.as_str(), rows), ("m", 3));
        assert!(mine.answered(&first, &answer));
        assert!(!mine.answered(&second, &answer));
        assert!(!mine.answered(&foreign, &answer));
        assert!(!mine.answered(&first, &run(&foreign).unwrap().2));
    }

    #[test]
    fn swapped_rows_are_noticed() {
        let mut rows = Rows::new("m", "x", &[128], 2, 1);
        let request = rows.request();
        let mut swapped = request.clone();
        swapped[rows.from..].rotate_left(4 * 128);
        assert!(!rows.answered(&request, &run(&swapped).unwrap().2));
    }

    #[test]
    fn a_request_without_whole_rows_has_no_answer() {
        let mut rows = Rows::new("m", "x", &[127], 1, 1);
        assert!(run(&rows.request()).is_none());
        assert!(run(&Rows::new("other", "x", &[128], 1, 1).request()).is_none());
        let [_, cut @ ..] = &Rows::new("m", "x", &[128], 1, 1).request()[..] else { unreachable!() };
        assert!(run(cut).is_none());
    }
}
