//! A call in progress, for tests that send and read message by message, half-close or cancel.
use std::future::poll_fn;

use h2::client::ResponseFuture;
use h2::{Reason, RecvStream, SendStream};
use http::HeaderMap;
use prost::bytes::{Bytes, BytesMut};

use super::super::framing::{frame, unframe};
use super::super::within;
use super::{Reply, Request};

/// An open call.
#[derive(Debug)]
pub struct Stream {
    send: SendStream<Bytes>,
    response: Option<ResponseFuture>,
    receive: Option<RecvStream>,
    initial: HeaderMap,
    http_status: u16,
    buffer: BytesMut,
}

impl Stream {
    pub(super) fn new(send: SendStream<Bytes>, response: ResponseFuture) -> Self {
        Self {
            send,
            response: Some(response),
            receive: None,
            initial: HeaderMap::new(),
            http_status: 0,
            buffer: BytesMut::new(),
        }
    }

    /// Sends one message.
    pub async fn message(&mut self, message: &[u8]) {
        self.send_all(frame(message, false), usize::MAX).await.expect("the peer takes the message");
    }

    /// Sends a piece of a body; false if the stream is over.
    pub fn piece(&mut self, bytes: &[u8]) -> bool {
        self.send.send_data(Bytes::copy_from_slice(bytes), false).is_ok()
    }

    /// Half-closes.
    pub fn close(&mut self) {
        self.send.send_data(Bytes::new(), true).expect("the stream is open");
    }

    /// Sends RST_STREAM with CANCEL, as a gRPC client does to cancel a call.
    pub fn cancel(mut self) {
        self.send.send_reset(Reason::CANCEL);
    }

    /// Waits for the initial metadata.
    pub async fn head(&mut self) -> Result<&HeaderMap, h2::Error> {
        if let Some(response) = self.response.take() {
            let (head, body) = within("the response headers", response).await?.into_parts();
            self.http_status = head.status.as_u16();
            self.initial = head.headers;
            self.receive = Some(body);
        }
        Ok(&self.initial)
    }

    /// The next message; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, h2::Error> {
        self.head().await?;
        let body = self.receive.as_mut().expect("the headers are read");
        loop {
            if let Some(message) = unframe(&mut self.buffer) {
                return Ok(Some(message));
            }
            let Some(chunk) = within("the next chunk", body.data()).await else { return Ok(None) };
            let chunk = chunk?;
            let _ = body.flow_control().release_capacity(chunk.len());
            self.buffer.extend_from_slice(&chunk);
        }
    }

    /// Reads the rest of the answer.
    pub async fn finish(mut self) -> Result<Reply, h2::Error> {
        let mut messages = Vec::new();
        while let Some(message) = self.next().await? {
            messages.push(message);
        }
        assert!(self.buffer.is_empty(), "the answer ends within a message");
        let body = self.receive.as_mut().expect("the headers are read");
        let trailers = within("trailers", body.trailers()).await?.unwrap_or_else(|| self.initial.clone());
        Ok(Reply::new(self.http_status, self.initial, messages, trailers))
    }

    pub(super) async fn upload(&mut self, request: &Request) -> Result<(), h2::Error> {
        match self.send_all(request.body.clone(), request.chunk).await {
            Ok(()) if request.half_close => self.send.send_data(Bytes::new(), true).or(Ok(())),
            // The server may answer before it has read everything; the response tells why.
            Ok(()) | Err(_) => Ok(()),
        }
    }

    async fn send_all(&mut self, mut body: Bytes, chunk: usize) -> Result<(), h2::Error> {
        while !body.is_empty() {
            self.send.reserve_capacity(body.len().min(chunk));
            let Some(capacity) = poll_fn(|cx| self.send.poll_capacity(cx)).await else { return Ok(()) };
            let piece = body.split_to(capacity?.min(body.len()).min(chunk));
            self.send.send_data(piece, false)?;
        }
        Ok(())
    }
}
