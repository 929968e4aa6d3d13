//! Reads a value as a tensor: its shape, and TF Serving's refusal if it is none.
use super::base64;
use super::echo::echo;
use super::refusal::{Code, Refusal};
use crate::rest::json::{Event, Kind, Number, Walk};
use crate::tensor::DataType;

/// TF Serving recurses over the levels of a tensor: 16000 were seen to work, and 20000 end the
/// process. None of them is served: a tensor has at most 254 dimensions.
const MAX_LEVELS: usize = 16_000;

/// A value that is a tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Filled {
    pub(super) shape: Vec<u64>,
    /// How many elements it has. Less than the shape's product if a dimension is 0.
    pub(super) size: u64,
}

/// Reads the next value of a walk as a tensor (`GetDenseTensorShape` and `FillTensorProto` in
/// `json_tensor.cc`). After an error the walk is at the end of the value or inside it.
pub(super) fn fill(document: &[u8], walk: &mut Walk<'_>, dtype: DataType) -> Result<Filled, Refusal> {
    let mut fill = Fill { document, dtype, ..Fill::default() };
    loop {
        match walk.peek() {
            Kind::Array => {
                fill.open()?;
                walk.step();
            }
            Kind::End => {
                fill.close();
                if walk.step() == Event::End {
                    break;
                }
            }
            kind => fill.leaf(walk, kind),
        }
        if fill.open.is_empty() {
            break;
        }
    }
    match fill.error {
        Some(refusal) => Err(refusal),
        None => Ok(Filled { shape: fill.shape, size: fill.size }),
    }
}

/// TF Serving takes the shape from the first element of each level, and checks an array's size
/// before its elements. A single pass learns the size at the end of the array, so that an error of
/// an array replaces those of its elements.
#[derive(Debug, Default)]
struct Fill<'a> {
    document: &'a [u8],
    dtype: DataType,
    /// The elements read of each open array.
    open: Vec<u64>,
    /// The size of the first array of each level, 0 until it is closed.
    shape: Vec<u64>,
    /// How many of the sizes in `shape`, counted from the last level, are known.
    closed: usize,
    /// The number of levels, known from the first leaf or empty array on.
    rank: Option<usize>,
    size: u64,
    error: Option<Refusal>,
    /// The open arrays that the place of `error` is in.
    around: usize,
}

impl Fill<'_> {
    fn fail(&mut self, level: usize, refusal: Refusal) {
        self.around = level;
        self.error = Some(refusal);
    }

    fn count(&mut self) {
        if let Some(count) = self.open.last_mut() {
            *count += 1;
        }
    }

    fn open(&mut self) -> Result<(), Refusal> {
        self.count();
        let level = self.open.len();
        match self.rank {
            None if level >= MAX_LEVELS => {
                return Err(Refusal::invalid(format!(
                    "arrays are nested more than {MAX_LEVELS} levels deep (a tensor has at most 254 dimensions)"
                )));
            }
            None => self.shape.push(0),
            Some(rank) if level >= rank && self.error.is_none() => {
                let text = format!("Encountered list at unexpected level: {level} expected < {rank}");
                self.fail(level, Refusal::invalid(text));
            }
            Some(_) => {}
        }
        self.open.push(0);
        Ok(())
    }

    fn close(&mut self) {
        let Some(size) = self.open.pop() else { return };
        let level = self.open.len();
        let rank = *self.rank.get_or_insert(level + 1);
        if level >= rank {
            return;
        }
        let Some(expected) = self.shape.get_mut(level) else { return };
        if level + self.closed < rank {
            self.closed = rank - level;
            *expected = size;
        } else if *expected != size && (self.error.is_none() || level < self.around) {
            let text = format!(
                "Encountered list at unexpected size: {size} at level: {level} expected size: {expected}"
            );
            self.fail(level, Refusal::invalid(text));
        }
        self.around = self.around.min(level);
    }

    fn leaf(&mut self, walk: &mut Walk<'_>, kind: Kind) {
        self.count();
        let level = self.open.len();
        let rank = *self.rank.get_or_insert(level);
        if self.error.is_some() {
            walk.skip();
            return;
        }
        let at = walk.offset();
        let checked = if level == rank {
            self.check(walk, kind)
        } else {
            walk.skip();
            let place = format!(
                " found at incorrect level: {} in the JSON DOM. Expected at level: {rank}",
                level + 1
            );
            Err(Refusal::joined([b"JSON Value: ", &echo(self.document, at), place.as_bytes()]))
        };
        match checked {
            Ok(()) => self.size += 1,
            Err(refusal) => self.fail(level, refusal),
        }
    }

    /// Steps over a value that is no array, and checks it against the dtype.
    fn check(&self, walk: &mut Walk<'_>, kind: Kind) -> Result<(), Refusal> {
        let at = walk.offset();
        let quote = || echo(self.document, at);
        if kind == Kind::Object && self.dtype == DataType::STRING {
            let text = base64::object(*walk);
            walk.skip();
            let Some(text) = text else {
                let problem = b" not formatted correctly for base64 data";
                return Err(Refusal::joined([b"JSON Value: ", &quote(), problem]));
            };
            return base64::check(text);
        }
        let event = if kind == Kind::Object {
            walk.skip();
            Event::StartObject
        } else {
            walk.step()
        };
        let name = self.dtype.name();
        match accepts(self.dtype, event) {
            Some(true) => Ok(()),
            None if kind != Kind::Object => {
                let refusal = Refusal::joined([
                    b"Conversion of JSON Value: ",
                    &quote(),
                    b" to type: ",
                    name.as_bytes(),
                ]);
                Err(Refusal { code: Code::Unimplemented, ..refusal })
            }
            _ => Err(Refusal::joined([
                b"JSON Value: ",
                &quote(),
                b" Type: ",
                kind.name().as_bytes(),
                b" is not of expected type: ",
                name.as_bytes(),
            ])),
        }
    }
}

/// Whether a value can be an element of this dtype; `None` for dtypes that JSON cannot express
/// (`AddValueToTensor` in `json_tensor.cc`). Narrow integers are read as int32, and wrap later.
fn accepts(dtype: DataType, event: Event<'_>) -> Option<bool> {
    let number = if let Event::Number(number) = event { Some(number) } else { None };
    Some(match dtype {
        DataType::FLOAT | DataType::DOUBLE => number.is_some(),
        DataType::INT32 | DataType::INT16 | DataType::INT8 | DataType::UINT8 => {
            number.and_then(Number::to_i64).is_some_and(|value| i32::try_from(value).is_ok())
        }
        DataType::INT64 => number.and_then(Number::to_i64).is_some(),
        DataType::UINT32 => matches!(number, Some(Number::Unsigned(value)) if u32::try_from(value).is_ok()),
        DataType::UINT64 => matches!(number, Some(Number::Unsigned(_))),
        DataType::STRING => matches!(event, Event::String(_)),
        DataType::BOOL => matches!(event, Event::Bool(_)),
        _ => return None,
    })
}
