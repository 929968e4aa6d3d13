//! Message bodies on HTTP/2 streams: received and sent chunk by chunk, with flow control.
//!
//! Nothing here allocates, copies or spawns. A receiver that stalls stops the sender, and a sender
//! holds no more than the message it was given.
use std::future::poll_fn;
use std::pin::pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::{RecvStream, SendStream};
use http::HeaderMap;
use tokio::time::{Instant, sleep};

/// Send capacity requested at a time: enough for one write, little enough that calls on one
/// connection take turns.
pub(crate) const CHUNK: usize = 1 << 20;

/// How often it is looked at what is held for a receiver without room.
pub(crate) const TICK: Duration = Duration::from_millis(100);

/// A received body. The peer may send as much as a chunk held only when the next chunk is asked
/// for.
#[derive(Debug)]
pub(crate) struct BodyReader {
    stream: RecvStream,
    /// Bytes handed out whose window was not given back to the peer yet.
    unreleased: usize,
}

/// The peer reads no more of what we send: it answered early, reset the stream, or its connection
/// broke. This is no failure by itself; the other direction of the stream says what happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stopped;

/// A message being sent as the peer's windows open. Made by [`Sending::new`], driven by
/// [`Sending::poll`].
#[derive(Debug)]
#[must_use = "nothing is sent unless this is polled"]
pub(crate) struct Sending<'a> {
    chunks: std::slice::Iter<'a, Bytes>,
    current: Bytes,
    left: usize,
    end: bool,
}

impl BodyReader {
    pub(crate) fn new(stream: RecvStream) -> Self {
        Self { stream, unreleased: 0 }
    }

    /// Whether nothing is left to read, trailers included.
    pub(crate) fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }

    /// The next chunk, or `None` at the end of the data. Gives the window of the previous chunk
    /// back to the peer first.
    ///
    /// # Errors
    /// The peer reset the stream, or the connection broke.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, h2::Error> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// [`BodyReader::next`] for callers that poll.
    ///
    /// # Errors
    /// The peer reset the stream, or the connection broke.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, h2::Error>> {
        self.release()?;
        match ready!(self.stream.poll_data(cx)) {
            Some(Ok(chunk)) => {
                self.unreleased = chunk.len();
                Poll::Ready(Ok(Some(chunk)))
            }
            Some(Err(error)) => Poll::Ready(Err(error)),
            None => Poll::Ready(Ok(None)),
        }
    }

    /// Bytes that were received and whose window was not given back to the peer: the last chunk,
    /// and what nobody has asked for yet.
    pub(crate) fn held(&mut self) -> usize {
        self.stream.flow_control().used_capacity()
    }

    /// Gives the window of the last chunk back now, for callers that are done with it but do not
    /// ask for the next one yet.
    ///
    /// # Errors
    /// The stream is not known to the connection any more.
    pub(crate) fn release(&mut self) -> Result<(), h2::Error> {
        match std::mem::take(&mut self.unreleased) {
            0 => Ok(()),
            count => self.stream.flow_control().release_capacity(count),
        }
    }

    /// The trailers, if there are any. To be called after [`BodyReader::next`] gave `None`.
    ///
    /// # Errors
    /// The peer reset the stream, or the connection broke.
    pub(crate) async fn trailers(&mut self) -> Result<Option<HeaderMap>, h2::Error> {
        self.stream.trailers().await
    }
}

impl<'a> Sending<'a> {
    /// With `end`, the last chunk ends the stream.
    pub(crate) fn new(chunks: &'a [Bytes], end: bool) -> Self {
        let left = chunks.iter().map(Bytes::len).sum();
        Self { chunks: chunks.iter(), current: Bytes::new(), left, end }
    }

    /// Sends what there is room for. Ready when everything is in the send queue of the stream, not
    /// when it was written.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut SendStream<Bytes>,
    ) -> Poll<Result<(), Stopped>> {
        if self.left == 0 {
            // An empty message still has to end the stream, once.
            let end = std::mem::take(&mut self.end);
            return Poll::Ready(if end { put(stream, Bytes::new(), true) } else { Ok(()) });
        }
        loop {
            let mut room = ready!(poll_room(cx, stream, self.left))?;
            while room > 0 && self.left > 0 {
                if self.current.is_empty() {
                    self.current = self.chunks.next().cloned().unwrap_or_default();
                    continue;
                }
                let part = self.current.split_to(room.min(self.current.len()));
                room -= part.len();
                self.left -= part.len();
                let end = self.left == 0 && std::mem::take(&mut self.end);
                put(stream, part, end)?;
            }
            if self.left == 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

/// Sends from `chunk` what the peer's windows have room for, and is ready when it is empty; the
/// stream stays open.
///
/// # Errors
/// [`Stopped`] when the peer reads no more.
pub(crate) fn poll_send(
    cx: &mut Context<'_>,
    stream: &mut SendStream<Bytes>,
    chunk: &mut Bytes,
) -> Poll<Result<(), Stopped>> {
    while !chunk.is_empty() {
        let room = ready!(poll_room(cx, stream, chunk.len()))?;
        put(stream, chunk.split_to(room.min(chunk.len())), false)?;
    }
    Poll::Ready(Ok(()))
}

/// Puts the chunks into the send queue without waiting for windows. With `end`, the last one ends
/// the stream.
///
/// For small messages, which are in memory anyway. A new stream has no window before its connection
/// has taken it up; waiting for that would cost another poll of the task, and a write for the
/// headers alone.
///
/// # Errors
/// [`Stopped`] when the peer reads no more.
pub(crate) fn send_now(stream: &mut SendStream<Bytes>, chunks: &[Bytes], end: bool) -> Result<(), Stopped> {
    let Some((last, others)) = chunks.split_last() else {
        return if end { put(stream, Bytes::new(), true) } else { Ok(()) };
    };
    for chunk in others {
        put(stream, chunk.clone(), false)?;
    }
    put(stream, last.clone(), end)
}

/// Ends the stream, with trailers if there are any.
///
/// # Errors
/// [`Stopped`] when the peer reads no more.
pub(crate) fn finish(stream: &mut SendStream<Bytes>, trailers: Option<HeaderMap>) -> Result<(), Stopped> {
    match trailers {
        Some(trailers) => stream.send_trailers(trailers).map_err(|_| Stopped),
        None => put(stream, Bytes::new(), true),
    }
}

/// Copies a body to its end, trailers included. When the receiver stops reading, copying ends
/// without an error: the answer on that stream says why.
///
/// While the receiver has no room, `wait` is called every [`TICK`] with the number of bytes that
/// are held, and with 0 when it has taken them. If that fails, copying ends.
///
/// # Errors
/// The body that is read was reset, or its connection broke. The outer error is that of `wait`.
pub(crate) async fn copy<E>(
    from: &mut BodyReader,
    to: &mut SendStream<Bytes>,
    mut wait: impl FnMut(usize) -> Result<(), E>,
) -> Result<Result<(), h2::Error>, E> {
    loop {
        let mut chunk = match from.next().await {
            Ok(Some(chunk)) => chunk,
            Ok(None) => break,
            Err(error) => return Ok(Err(error)),
        };
        let mut sent = poll_fn(|cx| Poll::Ready(poll_send(cx, to, &mut chunk))).await;
        if sent.is_pending() {
            let mut timer = pin!(sleep(TICK));
            sent = poll_fn(|cx| {
                loop {
                    if let Poll::Ready(sent) = poll_send(cx, to, &mut chunk) {
                        return Poll::Ready(Ok(Poll::Ready(sent)));
                    }
                    ready!(timer.as_mut().poll(cx));
                    timer.as_mut().reset(Instant::now() + TICK);
                    wait(from.held())?;
                }
            })
            .await?;
            wait(0)?;
        }
        if sent == Poll::Ready(Err(Stopped)) {
            return Ok(Ok(()));
        }
    }
    Ok(from.trailers().await.map(|trailers| {
        finish(to, trailers).ok();
    }))
}

/// Waits for send capacity, up to `wanted` bytes.
fn poll_room(
    cx: &mut Context<'_>,
    stream: &mut SendStream<Bytes>,
    wanted: usize,
) -> Poll<Result<usize, Stopped>> {
    stream.reserve_capacity(wanted.min(CHUNK));
    let mut room = stream.capacity();
    while room == 0 {
        match ready!(stream.poll_capacity(cx)) {
            Some(Ok(capacity)) => room = capacity,
            Some(Err(_)) | None => return Poll::Ready(Err(Stopped)),
        }
    }
    Poll::Ready(Ok(room))
}

/// The only errors of `h2` here mean that the stream is over.
fn put(stream: &mut SendStream<Bytes>, chunk: Bytes, end: bool) -> Result<(), Stopped> {
    stream.send_data(chunk, end).map_err(|_| Stopped)
}

#[cfg(test)]
mod tests;
