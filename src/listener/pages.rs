//! Buffers for large bodies, whose memory is the system's again as soon as they are freed.
//!
//! mimalloc keeps what is freed for a second. Bodies of many sizes, one after the other, then take
//! more memory than any of them, since a large buffer seldom fits where others were.
use std::io::{self, Read};

use bytes::Bytes;
use memmap2::MmapMut;

/// From here on a buffer takes pages of its own: below, they cost more time than they are worth.
pub(super) const LARGE: usize = 4 << 20;

/// Bytes that are written once, up to a capacity.
#[derive(Debug)]
pub(super) enum Buffer {
    Heap(Vec<u8>),
    Pages(Pages),
}

/// Pages that come from the system and go back to it.
#[derive(Debug)]
pub(super) struct Pages {
    map: MmapMut,
    length: usize,
}

impl AsRef<[u8]> for Pages {
    fn as_ref(&self) -> &[u8] {
        self.map.get(..self.length).unwrap_or_default()
    }
}

impl Buffer {
    /// A buffer for so many bytes. What is not written to takes no memory yet.
    pub(super) fn with_capacity(bytes: usize) -> Self {
        if bytes >= LARGE { Self::pages(bytes) } else { Self::heap(bytes) }
    }

    pub(super) fn heap(bytes: usize) -> Self {
        Self::Heap(Vec::with_capacity(bytes))
    }

    /// A buffer of pages, however small. If the system has none, it is told so by the allocator.
    pub(super) fn pages(bytes: usize) -> Self {
        match MmapMut::map_anon(bytes) {
            Ok(map) => Self::Pages(Pages { map, length: 0 }),
            Err(_) => Self::heap(bytes),
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Heap(bytes) => bytes.len(),
            Self::Pages(pages) => pages.length,
        }
    }

    pub(super) fn capacity(&self) -> usize {
        match self {
            Self::Heap(bytes) => bytes.capacity(),
            Self::Pages(pages) => pages.map.len(),
        }
    }

    /// Appends bytes. A buffer without room for them becomes a larger one.
    pub(super) fn extend_from_slice(&mut self, bytes: &[u8]) {
        match self {
            Self::Heap(all) => all.extend_from_slice(bytes),
            Self::Pages(pages) => {
                let end = pages.length + bytes.len();
                match pages.map.get_mut(pages.length..end) {
                    Some(room) => {
                        room.copy_from_slice(bytes);
                        pages.length = end;
                    }
                    None => *self = Self::Heap([pages.as_ref(), bytes].concat()),
                }
            }
        }
    }

    /// Reads until the buffer is full or the source ends.
    pub(super) fn fill(&mut self, source: &mut impl Read) -> io::Result<()> {
        match self {
            Self::Heap(bytes) => {
                let room = bytes.capacity() - bytes.len();
                source.take(room as u64).read_to_end(bytes).map(drop)
            }
            Self::Pages(Pages { map, length }) => {
                while let Some(room) = map.get_mut(*length..).filter(|room| !room.is_empty()) {
                    match source.read(room) {
                        Ok(0) => break,
                        Ok(read) => *length += read,
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                        Err(error) => return Err(error),
                    }
                }
                Ok(())
            }
        }
    }

    pub(super) fn into_bytes(self) -> Bytes {
        match self {
            Self::Heap(mut bytes) => {
                bytes.shrink_to_fit();
                bytes.into()
            }
            Self::Pages(pages) => Bytes::from_owner(pages),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn either_kind_holds_what_was_written() {
        for make in [Buffer::heap, Buffer::pages] {
            let mut buffer = make(10_000);
            buffer.extend_from_slice(b"abc");
            buffer.fill(&mut &b"defg"[..]).unwrap();
            assert_eq!(buffer.len(), 7);
            buffer.fill(&mut io::repeat(b'x')).unwrap();
            assert_eq!(buffer.len(), buffer.capacity());
            buffer.extend_from_slice(b"end");
            let bytes = buffer.into_bytes();
            assert!(bytes.starts_with(b"abcdefgxxx") && bytes.ends_with(b"xend") && bytes.len() >= 10_003);
        }
        assert!(matches!(Buffer::with_capacity(LARGE), Buffer::Pages(_)));
        assert!(matches!(Buffer::with_capacity(LARGE - 1), Buffer::Heap(_)));
        assert_eq!(Buffer::pages(0).into_bytes().len(), 0);
    }
}
