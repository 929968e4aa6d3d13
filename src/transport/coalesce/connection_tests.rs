//! Write coalescing under a real HTTP/2 connection: number of writes, order of bytes, failures.
use std::future::poll_fn;

use bytes::Bytes;
use h2::client::SendRequest;
use http::{Request, Response};
use tokio::io::DuplexStream;
use tokio::task::{JoinHandle, LocalSet, spawn_local};

use super::*;
use crate::transport::body::{self, BodyReader};
use crate::transport::http2;

/// One write as the socket saw it.
#[derive(Debug, Clone)]
struct Write {
    /// Address and length of each slice.
    slices: Vec<(usize, usize)>,
    /// What [`Log::tick`] was.
    tick: usize,
}

#[derive(Debug, Default)]
struct Log {
    writes: RefCell<Vec<Write>>,
    /// Counted by the test, as a clock.
    tick: Cell<usize>,
    broken: Cell<bool>,
}

impl Log {
    fn count(&self) -> usize {
        self.writes.borrow().len()
    }
}

/// A socket that records its writes.
#[derive(Debug)]
struct Recorded {
    socket: DuplexStream,
    log: Rc<Log>,
}

impl AsyncRead for Recorded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buf)
    }
}

impl AsyncWrite for Recorded {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.log.broken.get() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let count = ready!(Pin::new(&mut self.socket).poll_write_vectored(cx, bufs))?;
        let slices = bufs.iter().map(|buf| (buf.as_ptr() as usize, buf.len())).collect();
        self.log.writes.borrow_mut().push(Write { slices, tick: self.log.tick.get() });
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

/// How the client's connection writes.
#[derive(Debug, Clone, Copy)]
enum How {
    Plain,
    Coalesced,
    Deferred,
}

/// A client whose writes are recorded, connected to a server that echoes each body.
struct Client {
    requests: SendRequest<Bytes>,
    connection: JoinHandle<Result<(), h2::Error>>,
    log: Rc<Log>,
}

impl Client {
    /// `buffer` is what the socket takes before it is read.
    async fn connect(how: How, buffer: usize) -> Self {
        let (near, far) = tokio::io::duplex(buffer);
        spawn_local(echo(far));
        let log = Rc::new(Log::default());
        let socket = Recorded { socket: near, log: Rc::clone(&log) };
        let (requests, connection) = match how {
            How::Plain => {
                let (requests, connection) = http2::client().handshake(socket).await.unwrap();
                (requests, spawn_local(connection))
            }
            How::Coalesced | How::Deferred => {
                let (io, flush) = coalesce(socket, Filter::upstream(Rc::default()));
                let flush = if matches!(how, How::Deferred) { flush.deferred() } else { flush };
                let (requests, connection) = http2::client().handshake(io).await.unwrap();
                (requests, spawn_local(flush.of(connection)))
            }
        };
        settle().await;
        log.writes.borrow_mut().clear();
        Self { requests, connection, log }
    }

    /// Opens a call and queues its body, without waiting.
    fn call(&mut self, payload: &Bytes) -> h2::client::ResponseFuture {
        let request = Request::post("http://h/").body(()).unwrap();
        let (response, mut upload) = self.requests.send_request(request, false).unwrap();
        body::send_now(&mut upload, std::slice::from_ref(payload), true).unwrap();
        response
    }
}

/// Sends every body back, over a coalesced connection as well.
async fn echo(socket: DuplexStream) {
    let (io, flush) = coalesce(socket, Filter::client());
    let serve = async {
        let mut connection = http2::server().handshake::<_, Bytes>(io).await.unwrap();
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            spawn_local(async move {
                let mut upload = respond.send_response(Response::new(()), false).unwrap();
                let mut body = BodyReader::new(request.into_body());
                body::copy(&mut body, &mut upload, |_| Ok::<(), ()>(())).await.ok();
            });
        }
    };
    flush.deferred().of(serve).await;
}

async fn read(response: h2::client::ResponseFuture) -> Vec<u8> {
    let mut body = BodyReader::new(response.await.unwrap().into_body());
    let mut all = Vec::new();
    while let Some(chunk) = body.next().await.unwrap() {
        all.extend_from_slice(&chunk);
    }
    all
}

/// Lets every task do what it can.
async fn settle() {
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}

fn payload(seed: usize, length: usize) -> Bytes {
    (0..length).map(|n| (n * 7 + seed * 31) as u8).collect()
}

/// The writes of a client that opens twenty calls at once.
async fn writes_of_twenty_calls(how: How) -> usize {
    let mut client = Client::connect(how, 1 << 20).await;
    let payloads: Vec<Bytes> = (0..20).map(|at| payload(at, 1_500)).collect();
    let responses: Vec<_> = payloads.iter().map(|payload| client.call(payload)).collect();
    // One poll of the connection, and the one that a deferred flush leaves to other tasks.
    tokio::task::yield_now().await;
    tokio::task::yield_now().await;
    let writes = client.log.count();
    for (response, sent) in responses.into_iter().zip(payloads) {
        assert_eq!(read(response).await, sent);
    }
    writes
}

#[tokio::test]
async fn twenty_calls_opened_at_once_are_one_write() {
    let test = async {
        assert_eq!(writes_of_twenty_calls(How::Coalesced).await, 1);
        assert_eq!(writes_of_twenty_calls(How::Deferred).await, 1);
        let alone = writes_of_twenty_calls(How::Plain).await;
        assert!(alone >= 20, "h2 by itself needs {alone} writes, or this test shows nothing");
    };
    LocalSet::new().run_until(test).await;
}

#[tokio::test]
async fn concurrent_calls_of_all_sizes_arrive_whole_through_a_slow_socket() {
    let test = async {
        for how in [How::Coalesced, How::Deferred] {
            let mut client = Client::connect(how, 10_000).await;
            let mut calls = Vec::new();
            for at in 0..20_usize {
                let sent = payload(at, [1, 255, 1_024, 16_384, MAX - 1, MAX + 1, 300_000][at % 7]);
                let response = client.call(&sent);
                calls.push(spawn_local(async move { assert_eq!(read(response).await, sent, "{at}") }));
                if at % 3 == 0 {
                    tokio::task::yield_now().await;
                }
            }
            for call in calls {
                call.await.unwrap();
            }
            assert!(!client.connection.is_finished(), "{how:?}");
        }
    };
    LocalSet::new().run_until(test).await;
}

#[tokio::test]
async fn a_large_payload_is_not_copied_and_goes_out_with_its_frame_header() {
    let test = async {
        let mut client = Client::connect(How::Coalesced, 4 << 20).await;
        let large = payload(0, 500_000);
        let response = client.call(&large);
        settle().await;
        let range = large.as_ptr() as usize..large.as_ptr() as usize + large.len();
        let writes = client.log.writes.borrow().clone();
        let position = writes[0].slices.iter().position(|(address, _)| range.contains(address));
        assert!(position.is_some_and(|at| at > 0), "not after its frame header: {writes:?}");
        let elsewhere = writes.iter().flat_map(|write| &write.slices);
        let copied: usize =
            elsewhere.filter(|(address, _)| !range.contains(address)).map(|(_, length)| length).sum();
        // `h2` copies up to 1 KiB of the payload into the slice of its frame header.
        assert!(copied <= 1_200, "{copied} bytes were written from elsewhere: {writes:?}");
        assert_eq!(read(response).await, large);
    };
    LocalSet::new().run_until(test).await;
}

#[tokio::test]
async fn a_write_that_fails_ends_the_connection_and_its_calls() {
    let test = async {
        for how in [How::Coalesced, How::Deferred] {
            let mut client = Client::connect(how, 1 << 20).await;
            let before = client.call(&payload(0, 10));
            settle().await;
            client.log.broken.set(true);
            let response = client.call(&payload(1, 10));
            settle().await;
            assert!(client.connection.is_finished(), "{how:?}: the connection does not know");
            let error = client.connection.await.unwrap().unwrap_err();
            assert_eq!(error.get_io().unwrap().kind(), io::ErrorKind::BrokenPipe);
            assert!(response.await.unwrap_err().is_io());
            assert!(before.await.is_ok(), "this answer arrived before");
            let refused = poll_fn(|cx| client.requests.poll_ready(cx)).await;
            assert!(refused.is_err(), "no more calls");
        }
    };
    LocalSet::new().run_until(test).await;
}

#[tokio::test]
async fn a_busy_thread_does_not_starve_a_deferred_flush() {
    let test = async {
        let mut client = Client::connect(How::Deferred, 1 << 20).await;
        let log = Rc::clone(&client.log);
        let busy = spawn_local({
            let log = Rc::clone(&log);
            async move {
                loop {
                    log.tick.set(log.tick.get() + 1);
                    tokio::task::yield_now().await;
                }
            }
        });
        let mut responses = Vec::new();
        // Few bytes every time: each call could put the flush off once more.
        for at in 0..40 {
            responses.push(client.call(&payload(at, 10)));
            tokio::task::yield_now().await;
        }
        settle().await;
        busy.abort();
        let ticks: Vec<usize> = log.writes.borrow().iter().map(|write| write.tick).collect();
        let longest = ticks.windows(2).take(20).map(|pair| pair[1] - pair[0]).max();
        assert!(ticks.len() >= 20 && ticks[0] <= 3, "{ticks:?}");
        assert!(longest <= Some(3), "{ticks:?}");
        for response in responses {
            assert_eq!(read(response).await.len(), 10);
        }
    };
    LocalSet::new().run_until(test).await;
}
