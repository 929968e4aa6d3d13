//! Arrays and their separators, as RapidJSON's `PrettyWriter` lays them out: one value a line, or
//! all of an array on one line.
use smallvec::SmallVec;

use super::out::Out;
use super::strings;
use super::values::{Numbers, Strings};
use super::{Refusal, digits::ROOM};

/// How arrays are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lines {
    /// `[1.0, 2.0]`
    One,
    /// A line for each value.
    Many,
}

/// What is between two values of an array.
#[derive(Debug)]
pub(super) enum Separator {
    Short { bytes: [u8; ROOM], length: usize },
    Long(Vec<u8>),
}

impl Separator {
    fn new(lines: Lines, level: usize) -> Self {
        let text = match lines {
            Lines::One => ", ".to_owned(),
            Lines::Many => format!(",\n{:1$}", "", 4 * level),
        };
        let mut bytes = [0; ROOM];
        match bytes.get_mut(..text.len()) {
            Some(short) => {
                short.copy_from_slice(text.as_bytes());
                Self::Short { bytes, length: text.len() }
            }
            None => Self::Long(text.into_bytes()),
        }
    }

    pub(super) fn put(&self, out: &mut Out) -> Result<(), Refusal> {
        match self {
            Self::Short { bytes, length } => out.put(&bytes[..*length]),
            Self::Long(bytes) => out.put(bytes),
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Short { length, .. } => *length,
            Self::Long(bytes) => bytes.len(),
        }
    }
}

/// The values of an output and what each becomes.
#[derive(Debug)]
pub(super) enum Values<'a> {
    Numbers(Numbers<'a>),
    Strings(Strings<'a>),
    /// Strings of an output whose name ends in `_bytes`.
    Base64(Strings<'a>),
}

/// Writes arrays of the same shape, one after the other, from the values of an output.
#[derive(Debug)]
pub(super) struct Writer<'a> {
    pub(super) values: Values<'a>,
    /// The sizes from the outermost array to the innermost, up to the first that is 0. Complex
    /// numbers are an array of two more.
    dims: SmallVec<[usize; 6]>,
    lines: Lines,
    /// The arrays and objects around the values.
    level: usize,
    between: Separator,
    /// Whether a string was not UTF-8.
    pub(super) replaced: bool,
}

impl<'a> Writer<'a> {
    pub(super) fn new(values: Values<'a>, dims: &[usize], lines: Lines, level: usize) -> Self {
        let mut dims: SmallVec<[usize; 6]> = SmallVec::from_slice(dims);
        if matches!(&values, Values::Numbers(numbers) if numbers.lanes > 1) {
            dims.push(2);
        }
        if let Some(empty) = dims.iter().position(|size| *size == 0) {
            dims.truncate(empty + 1);
        }
        let between = Separator::new(lines, level + dims.len());
        Self { values, dims, lines, level, between, replaced: false }
    }

    pub(super) fn lines(&self) -> Lines {
        self.lines
    }

    /// The length of the text that the values probably have, without those that are not sent.
    pub(super) fn expected_length(&self) -> usize {
        match &self.values {
            Values::Numbers(numbers) => {
                // Every array of the innermost kind has brackets and a separator.
                let brackets = numbers.sent() / self.dims.last().copied().unwrap_or(1).max(1);
                let each = numbers.expected_length() + self.between.len();
                numbers
                    .sent()
                    .saturating_mul(each)
                    .saturating_add(brackets.saturating_mul(2 * self.between.len()))
            }
            Values::Strings(strings) | Values::Base64(strings) => strings.sent_bytes().saturating_mul(2),
        }
    }

    /// The length that the next value has at least.
    pub(super) fn least_length(&self) -> u128 {
        let (mut arrays, mut all) = (1_u128, 0_u128);
        for size in &self.dims {
            all = all.saturating_add(arrays.saturating_mul(2));
            arrays = arrays.saturating_mul(*size as u128);
        }
        all.saturating_add(arrays.saturating_mul(1 + self.between.len() as u128))
    }

    /// Writes the next value. `outer` closes the outermost array of several lines even if the
    /// others are on one.
    pub(super) fn write(&mut self, out: &mut Out, outer: Lines) -> Result<(), Refusal> {
        let Some((&innermost, arrays)) = self.dims.split_last() else { return self.run(out, 1) };
        let arrays: SmallVec<[usize; 6]> = SmallVec::from_slice(arrays);
        let mut counters: SmallVec<[usize; 6]> = SmallVec::from_elem(0, arrays.len());
        let mut opened = 0;
        loop {
            while opened <= arrays.len() {
                out.put(b"[")?;
                opened += 1;
                if self.lines == Lines::Many && (innermost > 0 || opened <= arrays.len()) {
                    out.line(self.level + opened)?;
                }
            }
            self.run(out, innermost)?;
            loop {
                opened -= 1;
                let lines = if opened == 0 { outer } else { self.lines };
                if lines == Lines::Many && (innermost > 0 || opened < arrays.len()) {
                    out.line(self.level + opened)?;
                }
                out.put(b"]")?;
                let Some(counter) = opened.checked_sub(1) else { return Ok(()) };
                counters[counter] += 1;
                if counters[counter] < arrays[counter] {
                    break;
                }
                counters[counter] = 0;
            }
            match self.lines {
                Lines::One => out.put(b", ")?,
                Lines::Many => {
                    out.put(b",")?;
                    out.line(self.level + opened)?;
                }
            }
        }
    }

    /// Writes the next values with separators.
    fn run(&mut self, out: &mut Out, count: usize) -> Result<(), Refusal> {
        let base64 = matches!(self.values, Values::Base64(_));
        match &mut self.values {
            Values::Numbers(_) if count == 0 => Ok(()),
            Values::Numbers(numbers) => numbers.write(out, count, &self.between),
            Values::Strings(strings) | Values::Base64(strings) => {
                for at in 0..count {
                    if at > 0 {
                        self.between.put(out)?;
                    }
                    let bytes = strings.next()?;
                    if base64 {
                        strings::base64(out, bytes, self.level + self.dims.len())?;
                    } else {
                        self.replaced |= !strings::bytes(out, bytes)?;
                    }
                }
                Ok(())
            }
        }
    }
}
