//! Bodies between a real HTTP/2 client and server: windows, stalls, resets, empty bodies, trailers.
use std::task::Waker;

use h2::client::ResponseFuture;
use h2::server::SendResponse;
use h2::{Reason, client, server};
use http::{HeaderValue, Request, Response};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::*;

/// One stream from both ends, and the tasks that drive its two connections.
struct Exchange {
    upload: SendStream<Bytes>,
    response: ResponseFuture,
    received: BodyReader,
    respond: SendResponse<Bytes>,
    /// Dropping it would close the connection.
    _requests: client::SendRequest<Bytes>,
    server: JoinHandle<()>,
}

/// Opens a stream on which either side may send `window` bytes before the other reads.
async fn open(window: u32) -> Exchange {
    let (near, far) = tokio::io::duplex(1 << 16);
    let (sender, mut streams) = mpsc::channel(1);
    let server = tokio::spawn(async move {
        let mut connection =
            server::Builder::new().initial_window_size(window).handshake::<_, Bytes>(far).await.unwrap();
        while let Some(Ok(stream)) = connection.accept().await {
            sender.send(stream).await.unwrap();
        }
    });
    let (mut requests, connection) =
        client::Builder::new().initial_window_size(window).handshake::<_, Bytes>(near).await.unwrap();
    tokio::spawn(async move { connection.await.ok() });
    let (response, upload) =
        requests.send_request(Request::post("http://h/").body(()).unwrap(), false).unwrap();
    let (request, respond) = streams.recv().await.unwrap();
    let received = BodyReader::new(request.into_body());
    Exchange { upload, response, received, respond, _requests: requests, server }
}

/// Lets both connections do everything that they can do without the test.
async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

fn pattern(length: usize) -> Bytes {
    (0..length).map(|n| (n % 251) as u8).collect()
}

fn grpc_status(code: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(http::HeaderName::from_static("grpc-status"), HeaderValue::from_static(code))])
}

async fn read_all(body: &mut BodyReader) -> Result<Vec<u8>, h2::Error> {
    let mut all = Vec::new();
    while let Some(chunk) = body.next().await? {
        all.extend_from_slice(&chunk);
    }
    Ok(all)
}

/// Polls once, without a wakeup later.
fn now<T>(poll: impl FnOnce(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
    poll(&mut Context::from_waker(Waker::noop()))
}

/// Sends one chunk as the peer's windows open.
async fn send(stream: &mut SendStream<Bytes>, mut chunk: Bytes) -> Result<(), Stopped> {
    poll_fn(|cx| poll_send(cx, stream, &mut chunk)).await
}

/// Copies without a limit on what is held.
async fn forward(from: &mut BodyReader, to: &mut SendStream<Bytes>) -> Result<(), h2::Error> {
    copy(from, to, |_| Ok::<(), ()>(())).await.unwrap()
}

/// Sends the chunks as the peer's windows open.
async fn send_all(stream: &mut SendStream<Bytes>, chunks: &[Bytes], end: bool) -> Result<(), Stopped> {
    let mut sending = Sending::new(chunks, end);
    poll_fn(|cx| sending.poll(cx, stream)).await
}

#[tokio::test]
async fn a_message_larger_than_the_window_arrives_whole_and_in_order() {
    let Exchange { upload, received, .. } = &mut open(1_000).await;
    let message = pattern(100_000);
    let chunks = [message.slice(..1), message.slice(1..1), message.slice(1..70_001), message.slice(70_001..)];
    let (sent, read) = tokio::join!(send_all(upload, &chunks, true), read_all(received));
    assert_eq!(sent, Ok(()));
    assert_eq!(read.unwrap(), message);
    assert!(received.is_end_stream());
}

#[tokio::test]
async fn single_chunks_arrive_in_order_and_the_stream_stays_open() {
    let Exchange { upload, received, .. } = &mut open(1_000).await;
    let send = async {
        for part in [pattern(5_000), Bytes::new(), pattern(3)] {
            send(upload, part).await.unwrap();
        }
    };
    let read = async {
        let mut all = Vec::new();
        while all.len() < 5_003 {
            all.extend_from_slice(&received.next().await.unwrap().unwrap());
        }
        all
    };
    let ((), all) = tokio::join!(send, read);
    assert_eq!(all, [pattern(5_000), pattern(3)].concat());
    settle().await;
    assert!(!received.is_end_stream());
}

#[tokio::test]
async fn a_reader_that_holds_a_chunk_stops_the_sender() {
    let mut exchange = open(10_000).await;
    let chunks = [pattern(50_000)];
    let mut sending = Sending::new(&chunks, true);
    assert!(now(|cx| sending.poll(cx, &mut exchange.upload)).is_pending());
    assert_eq!(sending.left, 40_000);
    settle().await;
    assert_eq!(exchange.received.next().await.unwrap().unwrap().len(), 10_000);
    settle().await;
    assert!(now(|cx| sending.poll(cx, &mut exchange.upload)).is_pending());
    assert_eq!(sending.left, 40_000, "the chunk is still held");

    exchange.received.release().unwrap();
    settle().await;
    assert!(now(|cx| sending.poll(cx, &mut exchange.upload)).is_pending());
    assert_eq!(sending.left, 30_000, "released early");

    settle().await;
    assert_eq!(exchange.received.next().await.unwrap().unwrap().len(), 10_000);
    assert!(now(|cx| exchange.received.poll_next(cx)).is_pending());
    settle().await;
    assert!(now(|cx| sending.poll(cx, &mut exchange.upload)).is_pending());
    assert_eq!(sending.left, 20_000, "released by asking for the next chunk");
}

#[tokio::test]
async fn the_rest_of_a_chunk_waits_for_the_window() {
    let mut exchange = open(10_000).await;
    let mut chunk = pattern(10_001);
    assert!(now(|cx| poll_send(cx, &mut exchange.upload, &mut chunk)).is_pending());
    assert_eq!(chunk.len(), 1);
    settle().await;
    assert_eq!(exchange.received.next().await.unwrap().unwrap().len(), 10_000);
    assert!(now(|cx| exchange.received.poll_next(cx)).is_pending());
    settle().await;
    assert_eq!(now(|cx| poll_send(cx, &mut exchange.upload, &mut chunk)), Poll::Ready(Ok(())));
    assert!(chunk.is_empty());
}

#[tokio::test]
async fn a_small_message_does_not_wait_for_a_window() {
    let Exchange { upload, received, .. } = &mut open(10).await;
    send_now(upload, &[pattern(40), pattern(2)], true).unwrap();
    assert_eq!(read_all(received).await.unwrap(), [pattern(40), pattern(2)].concat());
}

#[tokio::test]
async fn an_empty_body_ends_and_has_no_trailers() {
    for how in 0..4 {
        let Exchange { upload, received, .. } = &mut open(100).await;
        match how {
            0 => send_all(upload, &[], true).await,
            1 => send_all(upload, &[Bytes::new(), Bytes::new()], true).await,
            2 => send_now(upload, &[], true),
            _ => finish(upload, None),
        }
        .unwrap();
        assert_eq!(read_all(received).await.unwrap(), b"", "{how}");
        assert_eq!(received.trailers().await.unwrap(), None);
        assert!(received.is_end_stream());
    }
}

#[tokio::test]
async fn an_empty_send_without_the_end_of_the_stream_sends_nothing() {
    let mut exchange = open(100).await;
    assert_eq!(send_all(&mut exchange.upload, &[], false).await, Ok(()));
    assert_eq!(send_now(&mut exchange.upload, &[], false), Ok(()));
    settle().await;
    assert!(now(|cx| exchange.received.poll_next(cx)).is_pending());
}

#[tokio::test]
async fn trailers_follow_the_data() {
    let Exchange { upload, received, .. } = &mut open(100).await;
    let message = pattern(1_000);
    let send = async {
        send_all(upload, std::slice::from_ref(&message), false).await.unwrap();
        finish(upload, Some(grpc_status("0"))).unwrap();
    };
    let ((), read) = tokio::join!(send, read_all(received));
    assert_eq!(read.unwrap(), message);
    assert_eq!(received.trailers().await.unwrap(), Some(grpc_status("0")));
}

#[tokio::test]
async fn a_receiver_that_resets_the_stream_stops_the_sender() {
    let Exchange { upload, respond, response, .. } = &mut open(1_000).await;
    let chunks = [pattern(5_000)];
    let reset = async {
        settle().await;
        respond.send_reset(Reason::ENHANCE_YOUR_CALM);
    };
    let (sent, ()) = tokio::join!(send_all(upload, &chunks, true), reset);
    assert_eq!(sent, Err(Stopped));
    assert_eq!(send(upload, pattern(1)).await, Err(Stopped));
    assert_eq!(send_now(upload, &chunks, false), Err(Stopped));
    assert_eq!(finish(upload, None), Err(Stopped));
    assert_eq!(finish(upload, Some(grpc_status("0"))), Err(Stopped));
    assert_eq!(response.await.unwrap_err().reason(), Some(Reason::ENHANCE_YOUR_CALM));
}

#[tokio::test]
async fn a_server_that_answers_early_stops_the_sender_and_its_answer_is_readable() {
    let Exchange { mut upload, mut respond, response, received, .. } = open(1_000).await;
    let chunks = [pattern(5_000)];
    let answer = async {
        settle().await;
        let mut head = Response::new(());
        *head.headers_mut() = grpc_status("8");
        respond.send_response(head, true).unwrap();
        drop((respond, received));
    };
    let (sent, ()) = tokio::join!(send_all(&mut upload, &chunks, true), answer);
    assert_eq!(sent, Err(Stopped));
    assert_eq!(response.await.unwrap().headers()["grpc-status"], "8");
}

#[tokio::test]
async fn a_broken_connection_stops_the_sender() {
    let Exchange { mut upload, response, server, .. } = open(1_000).await;
    let chunks = [pattern(5_000)];
    let cut = async {
        settle().await;
        server.abort();
    };
    let (sent, ()) = tokio::join!(send_all(&mut upload, &chunks, true), cut);
    assert_eq!(sent, Err(Stopped));
    assert!(response.await.is_err());
}

#[tokio::test]
async fn a_sender_that_resets_the_stream_is_an_error_for_the_reader() {
    let Exchange { upload, received, .. } = &mut open(1_000).await;
    send(upload, pattern(500)).await.unwrap();
    assert_eq!(received.next().await.unwrap().unwrap(), pattern(500));
    upload.send_reset(Reason::CANCEL);
    assert_eq!(received.next().await.unwrap_err().reason(), Some(Reason::CANCEL));
}

#[tokio::test]
async fn a_copied_body_is_the_same_with_its_trailers() {
    let Exchange { upload: first, received: middle, .. } = &mut open(1_000).await;
    let Exchange { upload: second, received: last, .. } = &mut open(300).await;
    let message = pattern(20_000);
    let send = async {
        send_all(first, std::slice::from_ref(&message), false).await.unwrap();
        finish(first, Some(grpc_status("0"))).unwrap();
    };
    let ((), copied, read) = tokio::join!(send, forward(middle, second), read_all(last));
    copied.unwrap();
    assert_eq!(read.unwrap(), message);
    assert_eq!(last.trailers().await.unwrap(), Some(grpc_status("0")));
}

#[tokio::test]
async fn a_copy_holds_no_more_than_the_two_windows() {
    let Exchange { upload: first, received: middle, .. } = &mut open(1_000).await;
    let Exchange { upload: second, received: last, .. } = &mut open(300).await;
    let chunks = [pattern(20_000)];
    let mut sending = Sending::new(&chunks, true);
    {
        let mut copy = std::pin::pin!(forward(middle, second));
        for _ in 0..20 {
            assert!(now(|cx| sending.poll(cx, first)).is_pending());
            assert!(now(|cx| copy.as_mut().poll(cx)).is_pending());
            settle().await;
        }
    }
    assert_eq!(sending.left, 19_000, "the last reader reads nothing");
    assert_eq!(last.next().await.unwrap().unwrap().len(), 300);
}

#[tokio::test(start_paused = true)]
async fn a_copy_says_what_it_holds_for_a_receiver_without_room() {
    let Exchange { upload: first, received: middle, .. } = &mut open(1_000).await;
    let Exchange { upload: second, received: _last, .. } = &mut open(300).await;
    let chunks = [pattern(20_000)];
    let mut held = Vec::new();
    let copied = copy(middle, second, |bytes| {
        held.push(bytes);
        if held.len() == 3 { Err("enough") } else { Ok(()) }
    });
    let (copied, _) = tokio::join!(copied, async {
        tokio::time::timeout(TICK * 9, send_all(first, &chunks, true)).await.ok()
    });
    assert_eq!(copied.unwrap_err(), "enough");
    assert_eq!(held, [1_000, 1_000, 1_000]);
}

#[tokio::test]
async fn a_copy_ends_if_its_receiver_stops_and_fails_if_its_sender_resets() {
    let Exchange { upload: first, received: middle, .. } = &mut open(1_000).await;
    let mut other = open(1_000).await;
    send(first, pattern(10)).await.unwrap();
    other.respond.send_reset(Reason::NO_ERROR);
    settle().await;
    forward(middle, &mut other.upload).await.unwrap();

    let mut other = open(1_000).await;
    first.send_reset(Reason::CANCEL);
    let error = forward(middle, &mut other.upload).await.unwrap_err();
    assert_eq!(error.reason(), Some(Reason::CANCEL));
}
