//! The text that is written: one buffer, made once as large as it will probably be.
use super::Refusal;
use super::digits::ROOM;
use super::float;
use super::layout::Separator;

/// So many numbers are written before the room for them is looked at again.
const BLOCK: usize = float::BLOCK;
/// The room for a block of numbers and separators, which is kept free behind the text.
const SLACK: usize = BLOCK * 2 * ROOM;

/// Text of JSON, no longer than a limit.
#[derive(Debug)]
pub(super) struct Out {
    /// The text up to `at`, and zeros.
    bytes: Vec<u8>,
    at: usize,
    max: usize,
}

impl Out {
    /// An empty text. Room for `expected` bytes is taken at once.
    pub(super) fn new(expected: usize, max: usize) -> Self {
        Self { bytes: vec![0; expected.min(max).saturating_add(SLACK)], at: 0, max }
    }

    /// The text.
    ///
    /// # Errors
    /// If it is longer than the limit.
    pub(super) fn finish(mut self) -> Result<Vec<u8>, Refusal> {
        if self.at > self.max {
            return Err(Refusal::too_long(self.max));
        }
        self.bytes.truncate(self.at);
        Ok(self.bytes)
    }

    /// The bytes behind the text: at least `bytes` of them.
    #[inline]
    pub(super) fn room(&mut self, bytes: usize) -> Result<&mut [u8], Refusal> {
        if self.bytes.len() - self.at < bytes {
            self.grow(bytes)?;
        }
        Ok(self.bytes.get_mut(self.at..).unwrap_or_default())
    }

    /// Moves the end of the text over bytes that were written into its room.
    #[inline]
    pub(super) fn advance(&mut self, bytes: usize) {
        self.at += bytes;
    }

    #[cold]
    fn grow(&mut self, bytes: usize) -> Result<(), Refusal> {
        let needed = self.at.saturating_add(bytes);
        if self.at > self.max || needed - bytes.min(SLACK) > self.max {
            return Err(Refusal::too_long(self.max));
        }
        let doubled = self.bytes.len().saturating_mul(2).min(self.max.saturating_add(SLACK));
        self.bytes.resize(needed.max(doubled), 0);
        Ok(())
    }

    #[inline]
    pub(super) fn put(&mut self, text: &[u8]) -> Result<(), Refusal> {
        self.room(text.len())?[..text.len()].copy_from_slice(text);
        self.at += text.len();
        Ok(())
    }

    /// Writes numbers, each with the separator behind it.
    #[inline]
    pub(super) fn numbers<T: Copy>(
        &mut self,
        numbers: &[T],
        between: &Separator,
        write: impl Fn(T, &mut [u8; ROOM]) -> usize,
    ) -> Result<(), Refusal> {
        for block in numbers.chunks(BLOCK) {
            self.block(block.len(), between, |at, to| block.get(at).map_or(0, |number| write(*number, to)))?;
        }
        Ok(())
    }

    /// The same for float32 in little-endian order.
    pub(super) fn floats(&mut self, numbers: &[[u8; 4]], between: &Separator) -> Result<(), Refusal> {
        for some in numbers.chunks(BLOCK) {
            let mut values = [0.0; BLOCK];
            for (value, bytes) in values.iter_mut().zip(some) {
                *value = f32::from_le_bytes(*bytes);
            }
            let block = float::Block::new(values);
            self.block(some.len(), between, |at, to| block.write(at, to))?;
        }
        Ok(())
    }

    /// Writes `count` numbers, at most [`BLOCK`].
    #[inline(always)]
    fn block(
        &mut self,
        count: usize,
        between: &Separator,
        write: impl Fn(usize, &mut [u8; ROOM]) -> usize,
    ) -> Result<(), Refusal> {
        let Separator::Short { bytes: separator, length: separator_length } = between else {
            return (0..count).try_for_each(|number| self.number(between, &|to| write(number, to)));
        };
        let room = self.room(SLACK)?;
        let mut at = 0;
        for number in 0..count {
            let Some(slot) = room.get_mut(at..).and_then(<[u8]>::first_chunk_mut::<{ 2 * ROOM }>) else {
                break;
            };
            let Some(digits) = slot.first_chunk_mut() else { break };
            // The mask changes nothing: no number takes all of its room.
            let length = write(number, digits) & (ROOM - 1);
            slot[length..length + ROOM].copy_from_slice(separator);
            at += length + separator_length;
        }
        self.at += at;
        Ok(())
    }

    /// Writes a number and the separator behind it.
    pub(super) fn number(
        &mut self,
        between: &Separator,
        write: &dyn Fn(&mut [u8; ROOM]) -> usize,
    ) -> Result<(), Refusal> {
        let mut room = [0; ROOM];
        let length = write(&mut room);
        self.put(&room[..length])?;
        between.put(self)
    }

    /// Removes the separator behind the last number.
    pub(super) fn drop_separator(&mut self, between: &Separator) {
        self.at = self.at.saturating_sub(between.len());
    }

    /// A line break, and the indentation of TF Serving: four spaces a level (`PrettyWriter`).
    pub(super) fn line(&mut self, level: usize) -> Result<(), Refusal> {
        let length = 1 + 4 * level;
        let room = &mut self.room(length)?[..length];
        room.fill(b' ');
        room[0] = b'\n';
        self.at += length;
        Ok(())
    }
}
