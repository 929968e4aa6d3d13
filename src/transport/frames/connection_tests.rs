//! The filter under real HTTP/2 connections, against scripted peers that send what `h2` would end
//! the connection for.
use std::collections::VecDeque;
use std::rc::Rc;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use http::{Request, Response};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::task::{JoinHandle, LocalSet, spawn_local};

use super::*;
use crate::transport::coalesce::coalesce;
use crate::transport::http2;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const CANCEL: [u8; 4] = [0, 0, 0, 8];

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; Head::LEN];
    Head { length: payload.len(), kind, flags, stream }.write(&mut frame);
    frame.extend(payload);
    frame
}

async fn read_frame(socket: &mut DuplexStream) -> Option<(Head, Vec<u8>)> {
    let mut head = [0; Head::LEN];
    socket.read_exact(&mut head).await.ok()?;
    let head = Head::parse(&head);
    let mut payload = vec![0; head.length];
    socket.read_exact(&mut payload).await.ok()?;
    Some((head, payload))
}

/// A client over the filter, and a server that a test writes frame by frame.
struct Upstream {
    requests: SendRequest<Bytes>,
    connection: JoinHandle<Result<(), h2::Error>>,
    server: DuplexStream,
    peer: Rc<Peer>,
}

impl Upstream {
    async fn connect(settings: &[u8]) -> Self {
        let (near, mut server) = tokio::io::duplex(1 << 20);
        let peer = Rc::<Peer>::default();
        let (io, flush) = coalesce(near, Filter::upstream(Rc::clone(&peer)));
        let (requests, connection) = http2::client().handshake(io).await.unwrap();
        let connection = spawn_local(flush.of(connection));
        let mut preface = [0; PREFACE.len()];
        server.read_exact(&mut preface).await.unwrap();
        let greeting = [frame(kind::SETTINGS, 0, 0, settings), frame(kind::SETTINGS, flag::ACK, 0, b"")];
        server.write_all(&greeting.concat()).await.unwrap();
        Self { requests, connection, server, peer }
    }

    /// Opens a call, and waits until the server has its headers.
    async fn call(&mut self) -> (u32, ResponseFuture) {
        let request = Request::get("http://h/").body(()).unwrap();
        let (response, _) = self.requests.send_request(request, true).unwrap();
        (self.until(kind::HEADERS).await, response)
    }

    /// The same for a call whose body is still to be sent.
    async fn uploading(&mut self) -> (u32, ResponseFuture, h2::SendStream<Bytes>) {
        let request = Request::post("http://h/").body(()).unwrap();
        let (response, upload) = self.requests.send_request(request, false).unwrap();
        (self.until(kind::HEADERS).await, response, upload)
    }

    /// Reads until a frame of this kind; returns its stream.
    async fn until(&mut self, kind: u8) -> u32 {
        loop {
            let (head, _) = read_frame(&mut self.server).await.unwrap();
            if head.kind == kind {
                return head.stream;
            }
        }
    }

    async fn send(&mut self, frames: &[Vec<u8>]) {
        self.server.write_all(&frames.concat()).await.unwrap();
    }

    /// Everything that was sent before has been read.
    async fn settle(&mut self) {
        self.send(&[frame(kind::PING, 0, 0, &[7; 8])]).await;
        self.until(kind::PING).await;
    }
}

/// `:status: 200` and a field, with and without an entry in the table.
const BLOCKS: [&[u8]; 2] = [&[0x88, 0x00, 1, b'k', 1, b'v'], &[0x88, 0x40, 1, b'k', 1, b'v']];

#[tokio::test]
async fn headers_after_the_end_of_a_stream_do_not_end_the_calls_of_others() {
    let test = async {
        for (block, again) in [(BLOCKS[0], BLOCKS[0]), (BLOCKS[0], BLOCKS[1]), (BLOCKS[1], BLOCKS[0])] {
            let mut upstream = Upstream::connect(b"").await;
            let (innocent, response) = upstream.call().await;
            for at in 0..40 {
                let (late, timed_out, upload) = upstream.uploading().await;
                let headers = |block| frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, late, block);
                upstream.send(&[headers(block)]).await;
                if at % 2 == 0 {
                    upstream.send(&[frame(kind::RST_STREAM, 0, late, &[0; 4])]).await;
                }
                upstream.send(&[headers(again)]).await;
                upstream.settle().await;
                assert_eq!(timed_out.await.unwrap().headers()["k"], "v");
                drop(upload);
            }
            // The tables of both sides still agree: the innocent call's headers name an entry.
            let mut fields = vec![0x88, 0x40, 1, b'n', 1, b'v'];
            upstream.send(&[frame(kind::HEADERS, flag::END_HEADERS, innocent, &fields)]).await;
            let answer = response.await.unwrap();
            assert_eq!(answer.headers()["n"], "v");
            let (next, response) = upstream.call().await;
            fields = vec![0x88, 0xbe];
            upstream.send(&[frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, next, &fields)]).await;
            assert_eq!(response.await.unwrap().headers()["n"], "v");
            assert!(!upstream.connection.is_finished());
        }
    };
    LocalSet::new().run_until(test).await;
}

#[tokio::test]
async fn any_number_of_late_answers_leave_the_connection_as_it_is() {
    let test = async {
        let mut upstream = Upstream::connect(b"").await;
        let (innocent, response) = upstream.call().await;
        let mut given_up = VecDeque::new();
        // More than `h2` remembers, and more than it forgives in a lifetime by default.
        for _ in 0..4_500 {
            let (stream, response) = upstream.call().await;
            drop(response);
            given_up.push_back(stream);
            if given_up.len() > 1_100 {
                let late = given_up.pop_front().unwrap();
                let headers = frame(kind::HEADERS, flag::END_HEADERS, late, BLOCKS[0]);
                upstream.send(&[headers, frame(kind::DATA, flag::END_STREAM, late, b"late")]).await;
            }
        }
        upstream.settle().await;
        upstream
            .send(&[frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, innocent, BLOCKS[0])])
            .await;
        assert_eq!(response.await.unwrap().status(), 200);
        assert!(!upstream.connection.is_finished());
    };
    LocalSet::new().run_until(test).await;
}

#[tokio::test]
async fn the_servers_limit_for_headers_and_its_answers_are_known() {
    let test = async {
        let mut upstream = Upstream::connect(&[0, 6, 0, 0, 0x20, 0]).await;
        upstream.settle().await;
        assert_eq!((upstream.peer.max_header_list.get(), upstream.peer.answers.get()), (8_192, 0));
        let (stream, response) = upstream.call().await;
        upstream.send(&[frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, stream, BLOCKS[0])]).await;
        response.await.unwrap();
        assert_eq!(upstream.peer.answers.get(), 1);
    };
    LocalSet::new().run_until(test).await;
}

/// A server over the filter that answers every call with 200, and a client that a test writes frame
/// by frame.
async fn served() -> DuplexStream {
    let (mut client, far) = tokio::io::duplex(1 << 20);
    let (io, flush) = coalesce(far, Filter::client());
    spawn_local(flush.deferred().of(async {
        let mut connection = http2::server().handshake::<_, Bytes>(io).await?;
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            spawn_local(async move {
                let mut body = request.into_body();
                while let Some(Ok(data)) = body.data().await {
                    body.flow_control().release_capacity(data.len()).unwrap();
                }
                respond.send_response(Response::new(()), true).ok();
            });
        }
        Ok::<(), h2::Error>(())
    }));
    let greeting = [PREFACE.to_vec(), frame(kind::SETTINGS, 0, 0, b"")].concat();
    client.write_all(&greeting).await.unwrap();
    client
}

/// `GET http://h/`, with static entries and one literal that is not indexed.
fn request(stream: u32) -> Vec<u8> {
    frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, stream, &[0x82, 0x86, 0x84, 0x01, 1, b'h'])
}

/// Reads until the answer on `stream`; `None` if the server goes away before.
async fn answered(client: &mut DuplexStream, stream: u32) -> Option<()> {
    loop {
        let (head, payload) = read_frame(client).await?;
        if head.kind == kind::GOAWAY {
            return None;
        }
        if head.kind == kind::HEADERS && head.stream == stream {
            assert_eq!(payload[0], 0x88);
            return Some(());
        }
    }
}

#[tokio::test]
async fn a_reset_of_a_stream_that_was_never_opened_costs_the_client_no_other_call() {
    let test = async {
        let mut client = served().await;
        for call in 0..500_u32 {
            let idle = frame(kind::RST_STREAM, 0, 4 * call + 1, &CANCEL);
            client.write_all(&[idle, request(4 * call + 3)].concat()).await.unwrap();
            answered(&mut client, 4 * call + 3).await.expect("the connection goes on");
        }
    };
    LocalSet::new().run_until(test).await;
}

#[tokio::test]
async fn calls_cancelled_in_one_burst_cost_the_client_no_other_call() {
    let test = async {
        let mut client = served().await;
        let mut burst = Vec::new();
        for call in 0..3_000_u32 {
            burst.extend(request(2 * call + 1));
            burst.extend(frame(kind::RST_STREAM, 0, 2 * call + 1, &CANCEL));
        }
        burst.extend(request(6_001));
        client.write_all(&burst).await.unwrap();
        answered(&mut client, 6_001).await.expect("the connection goes on");
    };
    LocalSet::new().run_until(test).await;
}

#[tokio::test]
async fn a_flood_is_answered_with_goaway_and_ended() {
    let test = async {
        let mut client = served().await;
        client.write_all(&request(1)).await.unwrap();
        answered(&mut client, 1).await.unwrap();
        let flood = frame(0xbe, 0, 0, b"").repeat(20_000);
        client.write_all(&flood).await.ok();
        let mut last = None;
        while let Some(frame) = read_frame(&mut client).await {
            last = Some(frame);
        }
        let (head, payload) = last.unwrap();
        assert_eq!(head.kind, kind::GOAWAY);
        assert_eq!(payload[..8], [0, 0, 0, 1, 0, 0, 0, 11], "the last stream, and ENHANCE_YOUR_CALM");
    };
    LocalSet::new().run_until(test).await;
}

#[tokio::test]
async fn a_client_of_another_protocol_is_told_so_and_nothing_else() {
    let test = async {
        for (sent, answer) in [
            (&b"GET / HTTP/1.1\r\nhost: h\r\n\r\n"[..], &b"HTTP/1.1 400 "[..]),
            (&[22, 3, 1, 0, 5], &[21, 3, 1]),
        ] {
            let (mut client, far) = tokio::io::duplex(1 << 16);
            let (io, flush) = coalesce(far, Filter::client());
            let server =
                flush.deferred().of(async { http2::server().handshake::<_, Bytes>(io).await.map(drop) });
            let server = spawn_local(server);
            tokio::task::yield_now().await;
            client.write_all(sent).await.unwrap();
            let mut all = Vec::new();
            client.read_to_end(&mut all).await.unwrap();
            assert!(all.starts_with(answer), "{}", String::from_utf8_lossy(&all));
            assert!(server.await.unwrap().unwrap_err().to_string().contains("this port"));
        }
    };
    LocalSet::new().run_until(test).await;
}
