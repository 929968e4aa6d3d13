//! A message as a list of byte chunks, as received: it can be sliced, joined and sent without
//! copying.
use std::ops::Range;

use bytes::{BufMut as _, Bytes, BytesMut};
use smallvec::SmallVec;

/// So many segments are searched one by one.
const FEW: usize = 8;

/// The chunks of one message, in order. No chunk is empty.
#[derive(Debug, Clone, Default)]
pub struct Rope {
    segments: SmallVec<[Bytes; 4]>,
    len: usize,
    /// Where each segment ends in the rope, if there are more than [`FEW`]. A position is then
    /// found by binary search, so that reading many ranges of a message that came in many chunks
    /// takes linear time.
    ends: Vec<usize>,
}

impl Rope {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn push(&mut self, chunk: Bytes) {
        if !chunk.is_empty() {
            self.len += chunk.len();
            self.segments.push(chunk);
            if self.segments.len() > FEW {
                self.index();
            }
        }
    }

    pub fn append(&mut self, other: Self) {
        self.len += other.len;
        self.segments.extend(other.segments);
        if self.segments.len() > FEW {
            self.index();
        }
    }

    /// Adds the ends that are missing.
    #[inline(never)]
    fn index(&mut self) {
        let mut end = self.ends.last().copied().unwrap_or(0);
        for segment in &self.segments[self.ends.len()..] {
            end += segment.len();
            self.ends.push(end);
        }
    }

    /// Total number of bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    pub fn segments(&self) -> &[Bytes] {
        &self.segments
    }

    pub fn into_segments(self) -> SmallVec<[Bytes; 4]> {
        self.segments
    }

    /// What is left of the segment that holds a position, and the segments after it.
    pub(super) fn starting_at(&self, position: usize) -> (&[u8], &[Bytes]) {
        let (segments, start) = self.segments_from(position);
        let (first, later) = first_of(segments);
        (first.get(start..).unwrap_or_default(), later)
    }

    /// The segments from the one that holds a position, and the offset of the position in it.
    /// There are none from the end on.
    fn segments_from(&self, position: usize) -> (&[Bytes], usize) {
        if self.ends.is_empty() {
            let mut left = position;
            for (at, segment) in self.segments.iter().enumerate() {
                if left < segment.len() {
                    return (&self.segments[at..], left);
                }
                left -= segment.len();
            }
            return (&[], left);
        }
        let segment = self.ends.partition_point(|end| *end <= position);
        let start = segment.checked_sub(1).map_or(0, |before| self.ends[before]);
        (&self.segments[segment..], position - start)
    }

    /// The chunks of a byte range, in order. A range beyond the end is cut at the end.
    pub fn chunks(&self, range: Range<usize>) -> Chunks<'_> {
        let (chunk, later) = self.starting_at(range.start);
        Chunks::new(chunk, later, range.end.saturating_sub(range.start))
    }

    /// A byte range as a rope that shares the memory of the chunks.
    pub fn slice(&self, range: Range<usize>) -> Self {
        let mut out = Self::new();
        out.push_slice(self, range);
        out
    }

    /// Appends a byte range of another rope. Only the references to its chunks are copied.
    pub(crate) fn push_slice(&mut self, other: &Self, range: Range<usize>) {
        let (segments, mut start) = other.segments_from(range.start);
        let mut left = range.end.saturating_sub(range.start);
        for segment in segments {
            let taken = left.min(segment.len() - start);
            if taken == 0 {
                return;
            }
            self.push(segment.slice(start..start + taken));
            (start, left) = (0, left - taken);
        }
    }

    /// Appends another rope. Only the references to its chunks are copied.
    pub(crate) fn push_all(&mut self, other: &Self) {
        for segment in &other.segments {
            self.push(segment.clone());
        }
    }

    /// One contiguous buffer: a copy, unless the rope is a single chunk.
    pub fn to_bytes(&self) -> Bytes {
        match self.segments.as_slice() {
            [] => Bytes::new(),
            [only] => only.clone(),
            many => {
                let mut all = BytesMut::with_capacity(self.len());
                for chunk in many {
                    all.put_slice(chunk);
                }
                all.freeze()
            }
        }
    }
}

impl From<Bytes> for Rope {
    fn from(bytes: Bytes) -> Self {
        let mut rope = Self::new();
        rope.push(bytes);
        rope
    }
}

impl From<Vec<u8>> for Rope {
    fn from(bytes: Vec<u8>) -> Self {
        Self::from(Bytes::from(bytes))
    }
}

impl FromIterator<Bytes> for Rope {
    fn from_iter<T: IntoIterator<Item = Bytes>>(chunks: T) -> Self {
        let mut rope = Self::new();
        for chunk in chunks {
            rope.push(chunk);
        }
        rope
    }
}

/// Ropes are equal if their bytes are, however they are divided into chunks.
impl PartialEq for Rope {
    fn eq(&self, other: &Self) -> bool {
        if self.len() != other.len() {
            return false;
        }
        let (mut left, mut right) = (self.segments.iter(), other.segments.iter());
        let (mut own, mut theirs): (&[u8], &[u8]) = (&[], &[]);
        loop {
            if own.is_empty() {
                let Some(next) = left.next() else { return true };
                own = next;
            }
            if theirs.is_empty() {
                let Some(next) = right.next() else { return true };
                theirs = next;
            }
            let common = own.len().min(theirs.len());
            if own[..common] != theirs[..common] {
                return false;
            }
            (own, theirs) = (&own[common..], &theirs[common..]);
        }
    }
}

/// The first of these segments, and those after it.
fn first_of(segments: &[Bytes]) -> (&[u8], &[Bytes]) {
    match segments.split_first() {
        Some((first, later)) => (first, later),
        None => (&[], &[]),
    }
}

/// Iterator of [`Rope::chunks`].
#[derive(Debug, Clone)]
pub struct Chunks<'a> {
    chunk: &'a [u8],
    later: &'a [Bytes],
    left: usize,
}

impl<'a> Chunks<'a> {
    /// `left` bytes of a chunk and those after it.
    pub(super) fn new(chunk: &'a [u8], later: &'a [Bytes], left: usize) -> Self {
        Self { chunk, later, left }
    }
}

impl<'a> Iterator for Chunks<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let chunk = &self.chunk[..self.chunk.len().min(self.left)];
        if chunk.is_empty() {
            return None;
        }
        self.left -= chunk.len();
        (self.chunk, self.later) = first_of(self.later);
        Some(chunk)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rope(parts: &[&'static str]) -> Rope {
        parts.iter().map(|part| Bytes::from_static(part.as_bytes())).collect()
    }

    #[test]
    fn slices_have_the_bytes_of_their_range() {
        let whole = "abcdefghij";
        let cut = rope(&["ab", "", "cdefg", "h", "ij"]);
        assert_eq!((cut.len(), cut.segments().len()), (10, 4));
        for start in 0..=10 {
            for end in start..=10 {
                assert_eq!(cut.slice(start..end).to_bytes(), whole.as_bytes()[start..end], "{start}..{end}");
            }
        }
        assert_eq!(cut.slice(8..99).to_bytes(), "ij");
        assert_eq!(cut.slice(50..99).to_bytes(), "");
    }

    #[test]
    fn a_slice_shares_the_memory_of_its_chunk() {
        let chunk = Bytes::from(vec![7; 100]);
        let sliced = Rope::from(chunk.clone()).slice(10..20);
        assert_eq!(sliced.segments()[0].as_ptr(), chunk[10..].as_ptr());
    }

    #[test]
    fn equality_ignores_chunk_boundaries() {
        assert_eq!(rope(&["abc", "d"]), rope(&["a", "bcd"]));
        assert_ne!(rope(&["abc", "d"]), rope(&["abc", "e"]));
        assert_ne!(rope(&["abc"]), rope(&["abcd"]));
    }
}
