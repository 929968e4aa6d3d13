//! Bytes that are written once and never moved: a buffer that grows needs no second copy.
use bytes::Bytes;

use crate::wire::Rope;

/// The first chunk. The next ones double up to the largest.
const MIN_CHUNK: usize = 512;
/// The largest chunk: what an input can leave unused at its end.
const MAX_CHUNK: usize = 128 << 10;

#[derive(Debug, Default)]
pub(super) struct Chunks {
    sealed: Rope,
    tail: Vec<u8>,
}

impl Chunks {
    pub(super) fn len(&self) -> usize {
        self.sealed.len() + self.tail.len()
    }

    /// The chunk that is written to, if it has room for so many bytes.
    #[expect(clippy::inline_always, reason = "runs for every value of a body")]
    #[inline(always)]
    pub(super) fn room(&mut self, needed: usize) -> Option<&mut Vec<u8>> {
        (self.tail.capacity() - self.tail.len() >= needed).then_some(&mut self.tail)
    }

    /// A new chunk with room for so many bytes.
    pub(super) fn grow(&mut self, needed: usize) -> &mut Vec<u8> {
        let size = (self.tail.capacity() * 2).clamp(MIN_CHUNK, MAX_CHUNK).max(needed);
        let full = std::mem::replace(&mut self.tail, Vec::with_capacity(size));
        self.sealed.push(Bytes::from(full));
        &mut self.tail
    }

    /// Appends bytes.
    pub(super) fn extend(&mut self, bytes: &[u8]) {
        if self.room(bytes.len()).is_none() {
            self.grow(bytes.len());
        }
        if let Some(room) = self.room(bytes.len()) {
            room.extend_from_slice(bytes);
        }
    }

    /// Appends other chunks: copies of a few bytes, else the chunks themselves.
    pub(super) fn append(&mut self, other: Self) {
        const FEW: usize = MAX_CHUNK / 2;
        let few = other.len() <= FEW;
        let rope = other.into_rope(None);
        if few {
            rope.into_segments().iter().for_each(|segment| self.extend(segment));
            return;
        }
        let full = std::mem::take(&mut self.tail);
        self.sealed.push(Bytes::from(full));
        self.sealed.append(rope);
    }

    /// All bytes, or the first `limit` of them.
    pub(super) fn into_rope(mut self, limit: Option<usize>) -> Rope {
        self.sealed.push(Bytes::from(self.tail));
        match limit {
            Some(limit) if limit < self.sealed.len() => self.sealed.slice(0..limit),
            _ => self.sealed,
        }
    }
}
