//! How a body may arrive: in pieces, chunked, compressed; and its limits.
use std::io::Write as _;
use std::time::Duration;

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};

use super::*;
use crate::support::rest::Http;

const BODY: &[u8] = br#"{"instances": [[1.5, 2.5, 3.5]]}"#;

fn path() -> String {
    format!("/v1/models/{}:predict", name())
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

fn deflate(body: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

fn right(answer: Answer) {
    assert_eq!(answer.ok().json(), serde_json::json!({"predictions": [[1.5, 2.5, 3.5]]}));
}

#[tokio::test]
async fn a_body_may_arrive_byte_by_byte_or_in_chunks() {
    let setup = serve(echo(FLOAT, &[-1, 3])).await;
    let mut http = Http::connect(&setup.sidecar.rest).await;
    http.socket.set_nodelay(true).unwrap();
    for byte in Ask::post(&path(), BODY).bytes() {
        http.send(&[byte]).await;
    }
    right(http.answer().await);
    let pieces: Vec<&[u8]> = BODY.chunks(1).collect();
    right(http.call(&Ask::chunked(&path(), &pieces)).await);
    right(http.call(&Ask::chunked(&path(), &[BODY])).await);
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn compressed_bodies_are_read() {
    let setup = serve(echo(FLOAT, &[-1, 3])).await;
    let zstd = ruzstd::encoding::compress_to_vec(BODY, ruzstd::encoding::CompressionLevel::Fastest);
    for (coding, body) in [("gzip", gzip(BODY)), ("deflate", deflate(BODY)), ("zstd", zstd)] {
        right(Ask::post(&path(), &body).header("content-encoding", coding).send(&setup.sidecar.rest).await);
        let pieces: Vec<&[u8]> = body.chunks(3).collect();
        right(
            Ask::chunked(&path(), &pieces).header("content-encoding", coding).send(&setup.sidecar.rest).await,
        );
        // Cut in the middle.
        let half = Ask::post(&path(), &body[..body.len() / 2]).header("content-encoding", coding);
        let answer = half.send(&setup.sidecar.rest).await;
        assert_eq!(answer.status, 400, "{coding}: {}", answer.text());
    }
    for (coding, name) in [("br", "br"), ("gzip, gzip", "more than one"), ("deflate,zstd", "more than one")] {
        let ask = Ask::post(&path(), gzip(BODY)).header("content-encoding", coding);
        let answer = ask.send(&setup.sidecar.rest).await;
        assert_eq!((answer.status, answer.header("accept-encoding").as_str()), (415, "gzip, deflate, zstd"));
        let text = format!("content-encoding `{name}` is not supported (supported: gzip, deflate, zstd)");
        assert_eq!((answer.error(), answer.header("content-type")), (text, "application/json".to_owned()));
    }
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn a_large_answer_is_compressed_if_the_client_accepts_it() {
    let setup = serve(echo(FLOAT, &[-1, 3])).await;
    let body = format!(r#"{{"instances": [{}[1, 2, 3]]}}"#, "[1, 2, 3], ".repeat(1000));
    let plain = predict(&setup, &body).await.ok();
    assert_eq!(plain.header("content-encoding"), "");
    let answer = Ask::post(&path(), &body).header("accept-encoding", "gzip").send(&setup.sidecar.rest).await;
    assert_eq!(answer.header("content-encoding"), "gzip");
    let mut text = String::new();
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&answer.body[..]), &mut text).unwrap();
    assert!(text == plain.text() && answer.body.len() < plain.body.len() / 10);
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn a_body_above_the_limit_is_refused_before_it_arrives() {
    let setup = serve_with(echo(FLOAT, &[-1, 3]), |config| config.limits.max_message_bytes = 10_000).await;
    let mut http = Http::connect(&setup.sidecar.rest).await;
    let head = format!("POST {} HTTP/1.1\r\nhost: x\r\ncontent-length: 10001\r\n\r\n", path());
    http.send(head.as_bytes()).await;
    let answer = http.answer().await;
    assert_eq!(answer.status, 413, "{}", answer.text());
    // Chunks tell no length.
    let spaces = [b' '; 1000];
    let answer = Ask::chunked(&path(), &[&spaces[..]; 11]).send(&setup.sidecar.rest).await;
    assert_eq!(answer.status, 413, "{}", answer.text());
    // A few bytes that become many.
    for spaces in [vec![b' '; 50_000_000], vec![b' '; 10_001]] {
        let zstd = ruzstd::encoding::CompressionLevel::Fastest;
        let zstd = ruzstd::encoding::compress_to_vec(&spaces[..], zstd);
        for (coding, body) in [("gzip", gzip(&spaces)), ("deflate", deflate(&spaces)), ("zstd", zstd)] {
            let ask = Ask::post(&path(), body).header("content-encoding", coding);
            let answer = ask.send(&setup.sidecar.rest).await;
            assert_eq!(answer.status, 413, "{coding}: {}", answer.text());
        }
    }
    right(predict(&setup, std::str::from_utf8(BODY).unwrap()).await);
    setup.sidecar.stop().await;
}

/// No request could ever hold so much, however much is announced and however little is sent.
#[tokio::test]
async fn a_body_beyond_the_bytes_in_flight_is_refused_before_it_arrives() {
    let setup = serve_with(echo(FLOAT, &[-1, 3]), |config| config.limits.max_inflight_bytes = 10_000).await;
    let mut http = Http::connect(&setup.sidecar.rest).await;
    let head = format!("POST {} HTTP/1.1\r\nhost: x\r\ncontent-length: 10001\r\n\r\n", path());
    http.send(head.as_bytes()).await;
    let answer = http.answer().await;
    assert_eq!(answer.status, 413, "{}", answer.text());
    assert!(answer.error().contains("limits.max_inflight_bytes"), "{}", answer.text());
    right(predict(&setup, std::str::from_utf8(BODY).unwrap()).await);
    setup.sidecar.stop().await;
}

/// What is decompressed is charged when it leaves the window: a few bytes could fill a large one.
#[tokio::test]
async fn a_window_of_zstd_beyond_eight_megabytes_is_refused() {
    let setup = serve(echo(FLOAT, &[-1, 3])).await;
    let frame = |window: u8| {
        // Not a single segment; a raw block, the last one.
        let block = (BODY.len() as u32) << 3 | 1;
        [&[0x28, 0xb5, 0x2f, 0xfd, 0, window << 3][..], &block.to_le_bytes()[..3], BODY].concat()
    };
    let send = async |window: u8| {
        let ask = Ask::post(&path(), frame(window)).header("content-encoding", "zstd");
        ask.send(&setup.sidecar.rest).await
    };
    right(send(13).await);
    let answer = send(14).await;
    let text = answer.refused()[0]["text"].as_str().unwrap().to_owned();
    assert!(text.contains("the body needs a zstd window of 16777216 bytes (limit 8388608)"), "{text}");
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn a_body_that_stops_arriving_is_given_up() {
    let setup = serve_with(echo(FLOAT, &[-1, 3]), |config| {
        config.limits.body_idle_timeout = Duration::from_millis(100);
    })
    .await;
    let mut http = Http::connect(&setup.sidecar.rest).await;
    let request = Ask::post(&path(), BODY).bytes();
    http.send(&request[..request.len() - 1]).await;
    let answer = http.answer().await;
    assert!([408, 504].contains(&answer.status), "{}: {}", answer.status, answer.text());
    http.closes().await;
    // Headers have their own time.
    let setup_two = serve_with(echo(FLOAT, &[-1, 3]), |config| {
        config.limits.handshake_timeout = Duration::from_millis(100);
    })
    .await;
    let mut http = Http::connect(&setup_two.sidecar.rest).await;
    http.send(b"POST /v1/models/").await;
    while http.read(true).await.is_some() {}
    setup.sidecar.stop().await;
    setup_two.sidecar.stop().await;
}
