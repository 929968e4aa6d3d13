//! The bytes of a file: counted for the progress, inflated if they are gzip, and bounded between
//! two records.
use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::MultiGzDecoder;

use super::Fault;

const BUFFER: usize = 1 << 16;
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Counts the bytes that pass.
pub(super) struct Counted<'a, R> {
    inner: R,
    read: u64,
    progress: &'a mut dyn FnMut(u64),
}

impl<'a, R: Read> Counted<'a, R> {
    /// `progress` is told the number of bytes so far, now and then.
    pub(super) fn new(inner: R, progress: &'a mut dyn FnMut(u64)) -> Self {
        Self { inner, read: 0, progress }
    }
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.read += count as u64;
        (self.progress)(self.read);
        Ok(count)
    }
}

/// A buffered reader, inflated if the bytes start as gzip.
pub(super) fn open<'a>(reader: impl Read + 'a) -> Result<Box<dyn BufRead + 'a>, Fault> {
    let mut buffered = BufReader::with_capacity(BUFFER, reader);
    if buffered.fill_buf()?.starts_with(&GZIP) {
        return Ok(Box::new(BufReader::with_capacity(BUFFER, MultiGzDecoder::new(buffered))));
    }
    Ok(Box::new(buffered))
}

/// Reads a line into `line`, without its end. `false` at the end of the file.
pub(super) fn line(reader: &mut dyn BufRead, max: usize, line: &mut Vec<u8>) -> Result<bool, Fault> {
    line.clear();
    let read = reader.take(max as u64 + 1).read_until(b'\n', line)?;
    if read > max {
        return Err(Fault::new(format!("the line is longer than {max} bytes")));
    }
    while line.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
        line.pop();
    }
    Ok(read > 0)
}

/// A reader that fails when a single record takes too many bytes, such as a quote that is never
/// closed in a CSV file.
pub(super) struct Bounded<'a, R> {
    inner: R,
    left: &'a std::cell::Cell<usize>,
}

impl<'a, R: Read> Bounded<'a, R> {
    /// The caller sets `left` after each record.
    pub(super) fn new(inner: R, left: &'a std::cell::Cell<usize>) -> Self {
        Self { inner, left }
    }
}

impl<R: Read> Read for Bounded<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.left.get();
        if left == 0 {
            return Err(io::Error::other("the record is too long (a quote that is not closed?)"));
        }
        let buffer = buffer.split_at_mut(left.min(buffer.len())).0;
        let count = self.inner.read(buffer)?;
        self.left.set(left - count);
        Ok(count)
    }
}
