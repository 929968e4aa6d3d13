//! The read buffer: one large read from the socket for many small ones by `h2`.
use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, ReadBuf};

use super::MAX;

thread_local! {
    /// The last read buffer used on this thread, for the next connection that reads. Idle
    /// connections hold none.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Bytes that were read from the socket but not yet by the connection.
#[derive(Debug, Default)]
pub(super) struct ReadBuffer {
    buffer: Vec<u8>,
    from: usize,
    to: usize,
}

impl ReadBuffer {
    /// Fills `buf` from the buffer, or reads. A large `buf` is read into directly, without a copy.
    pub(super) fn read<S: AsyncRead + Unpin>(
        &mut self,
        socket: &mut S,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.from == self.to {
            if buf.remaining() >= MAX / 2 {
                return Pin::new(socket).poll_read(cx, buf);
            }
            let mut buffer = SPARE.take();
            buffer.resize(MAX, 0);
            let mut into = ReadBuf::new(&mut buffer);
            let polled = Pin::new(socket).poll_read(cx, &mut into);
            let count = into.filled().len();
            if count == 0 {
                // Pending, end of file, or an error.
                SPARE.set(buffer);
                return polled;
            }
            *self = Self { buffer, from: 0, to: count };
        }
        let count = buf.remaining().min(self.to - self.from);
        buf.put_slice(&self.buffer[self.from..self.from + count]);
        self.from += count;
        if self.from == self.to {
            SPARE.set(std::mem::take(&mut self.buffer));
        }
        Poll::Ready(Ok(()))
    }

    /// Bytes of memory held.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.buffer.len()
    }
}
