//! One input while it is read: its values, and the shape that the first ones have set.
use smallvec::SmallVec;

use super::codec::{Codec, Int};
use super::cursor::{Cursor, byte, past_space};
use super::float;
use super::number::{self, Plain};
use super::short;
use super::{Format, Input};
use crate::rest::chunks::Chunks;
use crate::signature::TensorInfo;
use crate::tensor::{Class, DataType, Shape};
use crate::wire::Rope;

/// A size that is not known before its first list ends.
const OPEN: u64 = u64::MAX;

#[derive(Debug)]
pub(super) struct Slot {
    pub(super) name: String,
    pub(super) dtype: DataType,
    pub(super) codec: Codec,
    /// Dimensions of the whole tensor, if declared.
    declared_rank: Option<usize>,
    pub(super) values: Chunks,
    /// How many of its bytes are charged.
    pub(super) charged: usize,
    pub(super) elements: u64,
    /// The sizes of the first list of each level.
    dims: SmallVec<[u64; 6]>,
    /// The level of the values, once the first one has come.
    pub(super) rank: Option<usize>,
    /// The last instance that has it.
    pub(super) last: Option<u64>,
    /// Whether it is declared, but not in the first instance.
    pub(super) absent: bool,
    /// Where its first value begins.
    pub(super) at: Option<usize>,
}

/// What was read at once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    /// Elements of the list that is open now, those before the run included.
    pub(super) count: u64,
    /// Lists that ended, each followed by another one.
    pub(super) lists: u64,
    /// Where the open list begins.
    pub(super) start: usize,
    /// Whether the last value is complete: otherwise the next one begins here.
    pub(super) complete: bool,
}

// === impl Slot ===

impl Slot {
    pub(super) fn new(name: String, dtype: DataType, declared_rank: Option<usize>) -> Self {
        Self {
            name,
            dtype,
            codec: Codec::of(dtype),
            declared_rank,
            values: Chunks::default(),
            charged: 0,
            elements: 0,
            dims: SmallVec::new(),
            rank: None,
            last: None,
            absent: false,
            at: None,
        }
    }

    pub(super) fn declared(info: &TensorInfo) -> Self {
        Self::new(info.alias.clone(), info.dtype, info.shape.rank())
    }

    /// A list begins at this level.
    pub(super) fn open(&mut self, level: usize) {
        if self.dims.len() <= level {
            self.dims.resize(level + 1, OPEN);
        }
    }

    /// A list ends at this level.
    ///
    /// # Errors
    /// The size of the first list of the level, if it is another one.
    pub(super) fn close(&mut self, level: usize, size: u64) -> Result<(), u64> {
        let Some(dim) = self.dims.get_mut(level) else { return Ok(()) };
        if *dim == OPEN {
            *dim = size;
            if size == 0 && self.rank.is_none() {
                self.rank = Some(level + 1);
            }
        }
        if *dim == size { Ok(()) } else { Err(*dim) }
    }

    /// Reads numbers in their usual form, the commas between them and the brackets between
    /// innermost lists of the same size, as far as there are any and the chunk has room. `count`
    /// elements of the list that begins at `start` are read already; `nested` says whether there is
    /// a list around it.
    pub(super) fn run(&mut self, cursor: &mut Cursor<'_>, count: u64, start: usize, nested: bool) -> Run {
        let run = Run { count, lists: 0, start, complete: false };
        let size = self.dims.last().copied().filter(|_| nested).unwrap_or(OPEN);
        match self.codec {
            Codec::Float => {
                self.run_of(cursor, run, size, |plain, _| Some(float::quick_float(plain)?.to_le_bytes()))
            }
            Codec::Double => {
                self.run_of(cursor, run, size, |plain, text| Some(float::double(plain, text)?.to_le_bytes()))
            }
            Codec::Int(int) => match self.codec.size() {
                1 => self.run_of(cursor, run, size, low::<1>(int)),
                2 => self.run_of(cursor, run, size, low::<2>(int)),
                4 => self.run_of(cursor, run, size, low::<4>(int)),
                _ => self.run_of(cursor, run, size, low::<8>(int)),
            },
            Codec::Narrow(format, 1) => {
                self.run_of(cursor, run, size, |plain, _| Some([format.quick(plain)? as u8]))
            }
            Codec::Narrow(format, _) => {
                self.run_of(cursor, run, size, |plain, _| Some((format.quick(plain)? as u16).to_le_bytes()))
            }
            Codec::Bool | Codec::Text | Codec::None => run,
        }
    }

    #[inline(always)]
    fn run_of<const N: usize>(
        &mut self,
        cursor: &mut Cursor<'_>,
        mut run: Run,
        size: u64,
        convert: impl Fn(&Plain, &[u8]) -> Option<[u8; N]>,
    ) -> Run {
        let body = cursor.body;
        let mut at = cursor.at;
        let Some(chunk) = self.values.room(N) else { return run };
        let before = chunk.len();
        loop {
            (at, run) = short_numbers(body, at, run, size, chunk, &convert);
            if !run.complete {
                at = past_space(body, at);
                if chunk.capacity() - chunk.len() < N {
                    break;
                }
                let Some(plain) = number::plain(body, at) else { break };
                let Some(element) = convert(&plain, &body[at..plain.end]) else { break };
                chunk.extend_from_slice(&element);
                run.count += 1;
                at = plain.end;
            }
            at = past_space(body, at);
            run.complete = true;
            if byte(body, at) == b',' {
                at = past_space(body, at + 1);
                run.complete = false;
            } else if byte(body, at) == b']'
                && run.count == size
                && let Some((list, first)) = next_list(body, at)
            {
                run = Run { count: 0, lists: run.lists + 1, start: list, complete: false };
                at = first;
            } else {
                break;
            }
        }
        cursor.at = at;
        self.elements += ((chunk.len() - before) / N) as u64;
        run
    }

    /// The finished input. With `limit`, surplus values are dropped as TF Serving's are.
    pub(super) fn finish(mut self, format: Format, limit: bool) -> Input {
        let rows = match format {
            Format::Row { instances, .. } => Some(instances),
            Format::Column => None,
        };
        // A list that an error has ended is open.
        let rank = self.rank.unwrap_or(0).min(self.dims.len());
        let mut dims: Shape =
            rows.into_iter().chain(self.dims[..rank].iter().copied()).map(|size| size as i64).collect();
        let complex = self.dtype.info().is_some_and(|info| info.class == Class::Complex);
        if complex && self.has_pairs(&dims) {
            dims = dims.iter().take(dims.rank() - 1).copied().collect();
        } else if complex {
            self.values = with_zeros(self.values, self.codec.size());
        }
        let limit = limit.then(|| {
            let elements = dims.elements().unwrap_or(u64::MAX);
            usize::try_from(elements).unwrap_or(usize::MAX).saturating_mul(self.dtype.size().unwrap_or(0))
        });
        let limit = limit.filter(|_| self.dtype != DataType::STRING);
        let values = self.values.into_rope(limit);
        Input { name: self.name, dtype: self.dtype, shape: dims, values, at: self.at.unwrap_or(0) }
    }

    /// Whether the innermost lists are complex numbers `[re, im]`: if only then the rank is as
    /// declared, or if the rank is neither way and they have two elements.
    fn has_pairs(&self, dims: &Shape) -> bool {
        dims.last() == Some(&2) && self.rank != Some(0) && self.declared_rank != Some(dims.rank())
    }
}

/// Reads numbers of usual lengths with what most bodies have between them, until something else
/// comes or the chunk is full. Returns the position behind what was read. A function of its own,
/// so that its variables fit into registers.
#[inline(never)]
fn short_numbers<const N: usize>(
    body: &[u8],
    mut at: usize,
    mut run: Run,
    size: u64,
    out: &mut Vec<u8>,
    convert: &impl Fn(&Plain, &[u8]) -> Option<[u8; N]>,
) -> (usize, Run) {
    while out.capacity() - out.len() >= N
        && let Some(window) = body.get(at..).and_then(<[u8]>::first_chunk)
        && let Some(plain) = short::number(window)
        && let Some(element) = convert(&plain, &window[..plain.end])
    {
        out.extend_from_slice(&element);
        run.count += 1;
        at += plain.end;
        let separator = &window[plain.end..];
        if separator[0] == b',' {
            at += 1;
            while byte(body, at) == b' ' {
                at += 1;
            }
        } else if separator.first_chunk() == Some(b"], [")
            && matches!(separator.get(4), Some(b'-'..=b'9'))
            && run.count == size
        {
            run = Run { count: 0, lists: run.lists + 1, start: at + 3, complete: false };
            at += 4;
        } else {
            run.complete = true;
            break;
        }
    }
    (at, run)
}

/// Where the list after a closing bracket begins, and its first element, if it has one.
#[inline(always)]
fn next_list(body: &[u8], close: usize) -> Option<(usize, usize)> {
    let comma = past_space(body, close + 1);
    let list = past_space(body, comma + 1);
    let first = past_space(body, list + 1);
    let found = byte(body, comma) == b',' && byte(body, list) == b'[' && byte(body, first) != b']';
    found.then_some((list, first))
}

/// Integers of so many bytes.
#[inline(always)]
fn low<const N: usize>(int: Int) -> impl Fn(&Plain, &[u8]) -> Option<[u8; N]> {
    move |plain, _| {
        let bits = int.quick(plain)?.to_le_bytes();
        let mut low = [0; N];
        low.copy_from_slice(&bits[..N]);
        Some(low)
    }
}

/// Real numbers as complex ones.
fn with_zeros(values: Chunks, size: usize) -> Chunks {
    let mut out = Chunks::default();
    // Elements never cross chunks, because a chunk is left when the next one does not fit.
    for segment in Rope::into_segments(values.into_rope(None)) {
        for real in segment.chunks_exact(size) {
            let chunk = match out.room(2 * size) {
                Some(_) => out.room(2 * size),
                None => Some(out.grow(2 * size)),
            };
            if let Some(chunk) = chunk {
                chunk.extend_from_slice(real);
                chunk.extend_from_slice(&[0; 8][..size]);
            }
        }
    }
    out
}
