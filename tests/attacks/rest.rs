//! Attacks on the REST listener: bodies made to take long, and requests of doubtful length.
use std::io::Write as _;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use crate::support::dense::MODEL;
use crate::support::pace::pause;
use crate::support::rest::{Ask, Http};
use crate::trial::Trial;

/// A request, and the statuses of its answer that are right. Overload is one under attack.
struct Attack {
    name: &'static str,
    bytes: Vec<u8>,
    right: &'static [u16],
}

/// The body never ends, so that the sidecar waits.
const NONE: &[u16] = &[];
const SHORT: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(18);
const REFUSED: &[u16] = &[400, 429];
const TOO_LARGE: &[u16] = &[413, 429];

fn attack(name: &'static str, ask: &Ask, right: &'static [u16]) -> Attack {
    Attack { name, bytes: ask.bytes(), right }
}

fn predict(name: &'static str, body: impl AsRef<[u8]>) -> Attack {
    attack(name, &Ask::predict(MODEL, body), REFUSED)
}

/// Sends the requests in turn, each on a connection of its own, until the attack is over. Each is
/// answered rightly, or the connection is closed, or the sidecar waits for more of the body.
async fn in_turn(addr: &str, stop: &CancellationToken, attacks: &[Attack]) {
    let exchange = async |bytes: &[u8]| {
        let mut http = Http::connect(addr).await;
        http.send(bytes).await;
        http.read(true).await
    };
    // The first round is to its end, however slow the machine is.
    for Attack { name, bytes, right } in attacks {
        let patience = if right.is_empty() { SHORT } else { LONG };
        match tokio::time::timeout(patience, exchange(bytes)).await {
            Ok(Some(answer)) => {
                assert!(right.contains(&answer.status), "{name}: {} {}", answer.status, answer.text());
                assert!(answer.body.len() < 100_000, "{name}: {} bytes", answer.body.len());
            }
            Ok(None) => {}
            Err(_) => assert!(right.is_empty(), "{name}: no answer"),
        }
    }
    while !stop.is_cancelled() {
        for Attack { bytes, .. } in attacks {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = tokio::time::timeout(SHORT, exchange(bytes)) => {}
            }
        }
    }
}

fn classify(name: &'static str, body: String) -> Attack {
    attack(name, &Ask::post(&format!("/v1/models/{MODEL}:classify"), body), REFUSED)
}

#[tokio::test]
async fn bodies_that_are_made_to_take_long() {
    let trial = Trial::over_rest("JSON that is deep, long or repeated").await;
    trial
        .run(async |addr, stop| {
            let doubled = r#""input_tensor":[1],"#.repeat(100_000);
            let names = |count: u32| {
                (0..count).fold(String::new(), |names, at| names + "\"k" + &at.to_string() + "\":1,")
            };
            let (keys, million) = (names(100_000), names(1_000_000));
            let attacks = [
                predict("open lists", "[".repeat(20_000)),
                predict("open lists in instances", format!(r#"{{"instances": {}"#, "[".repeat(300_000))),
                predict(
                    "nested lists",
                    format!(r#"{{"instances": {}{}}}"#, "[".repeat(20_000), "]".repeat(20_000)),
                ),
                predict("nested objects", r#"{"a":"#.repeat(300_000)),
                predict("1e400", r#"{"instances": [[1e400]]}"#),
                predict("digits", format!(r#"{{"instances": [[{}]]}}"#, "9".repeat(1_000_000))),
                predict("fractions", format!(r#"{{"instances": [[{}]]}}"#, "0.1,".repeat(300_000))),
                predict("spaces", " ".repeat(4_000_000)),
                predict("a doubled key", format!(r#"{{"instances": [{{{doubled}"x":1}}]}}"#)),
                predict("many keys", format!(r#"{{"instances": [{{{keys}"x":1}}]}}"#)),
                predict("many keys at the top", format!(r#"{{{keys}"x":1}}"#)),
                classify("many features", format!(r#"{{"examples": [{{{keys}"x":null}}]}}"#)),
                classify("a million features", format!(r#"{{"examples": [{{{million}"x":null}}]}}"#)),
                classify(
                    "a doubled feature",
                    format!(r#"{{"examples": [{{{}"x":null}}]}}"#, r#""a":1,"#.repeat(100_000)),
                ),
            ];
            in_turn(&addr, &stop, &attacks).await;
        })
        .await;
}

#[tokio::test]
async fn bodies_beyond_what_is_allowed_in_flight() {
    let packed = |coding: &str, body: Vec<u8>| Ask::predict(MODEL, body).header("content-encoding", coding);
    let spaces = vec![b' '; 100 << 20];
    let path = format!("/v1/models/{MODEL}:predict");
    // Made before anything is measured.
    let attacks = [
        attack("gzip bomb", &packed("gzip", gzip_bomb()), TOO_LARGE),
        attack("zstd bomb", &packed("zstd", zstd_bomb(13)), TOO_LARGE),
        attack("zstd bomb that is kept", &packed("zstd", zstd_bomb(17)), REFUSED),
        attack("spaces", &Ask::predict(MODEL, &spaces), TOO_LARGE),
        attack("spaces in chunks", &Ask::chunked(&path, &[&spaces]), TOO_LARGE),
        attack("all spaces that are allowed", &Ask::predict(MODEL, &spaces[..60 << 20]), REFUSED),
        attack("most of them", &Ask::predict(MODEL, &spaces[..45 << 20]), REFUSED),
    ];
    let trial = Trial::over_rest("100 MB of spaces, and bombs of 512 MB").await;
    trial.run(async move |addr, stop| in_turn(&addr, &stop, &attacks).await).await;
}

/// The same blocks of 1 MB again and again, without an end.
fn gzip_bomb() -> Vec<u8> {
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(&vec![b' '; 1 << 20]).unwrap();
    encoder.flush().unwrap();
    [&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff][..], &encoder.get_ref().repeat(512)].concat()
}

/// A frame of blocks that repeat one byte (RFC 8878, section 3.1.1.2).
fn zstd_bomb(window: u8) -> Vec<u8> {
    const BLOCKS: u32 = 4096;
    const SIZE: u32 = 128 << 10;
    // The magic number, no content size, and a window of 2^(window + 10).
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0, window << 3];
    for at in 0..BLOCKS {
        let last = u32::from(at + 1 == BLOCKS);
        frame.extend_from_slice(&(SIZE << 3 | 1 << 1 | last).to_le_bytes()[..3]);
        frame.push(b' ');
    }
    frame
}

#[tokio::test]
async fn bodies_that_arrive_byte_by_byte() {
    let trial = Trial::over_rest("500 bodies that arrive slowly").await;
    trial
        .run(async |addr, stop| {
            let head = format!(
                "POST /v1/models/{MODEL}:predict HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n"
            );
            let mut sockets = Vec::new();
            while sockets.len() < 500 && !stop.is_cancelled() {
                let mut socket = TcpStream::connect(&addr).await.unwrap();
                socket.write_all(head.as_bytes()).await.ok();
                sockets.push(socket);
            }
            while !stop.is_cancelled() {
                for socket in &mut sockets {
                    socket.write_all(b" ").await.ok();
                }
                pause(Duration::from_millis(200)).await;
            }
        })
        .await;
}

#[tokio::test]
async fn chunks_and_lengths_that_are_not_what_they_seem() {
    let trial = Trial::over_rest("chunks and lengths").await;
    trial
        .run(async |addr, stop| {
            let path = format!("/v1/models/{MODEL}:predict");
            let ask = |headers: &str, body: &str| {
                let hidden = format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{{}}");
                format!("POST {path} HTTP/1.1\r\nhost: x\r\n{headers}\r\n{body}{hidden}").into_bytes()
            };
            let chunked = "transfer-encoding: chunked\r\n";
            let named = |name, bytes| Attack { name, bytes, right: REFUSED };
            let bytes = vec![&b" "[..]; 200_000];
            let attacks = [
                Attack {
                    name: "a chunk of 2^64",
                    bytes: ask(chunked, "ffffffffffffffff\r\n{}\r\n0\r\n\r\n"),
                    right: NONE,
                },
                named(
                    "a chunk of more digits",
                    ask(chunked, "00000000000000000000000000000000002\r\n{}\r\n"),
                ),
                named("a negative chunk", ask(chunked, "-1\r\n{}\r\n0\r\n\r\n")),
                named("a chunk without an end", ask(chunked, "2\r\n{}0\r\n\r\n")),
                named(
                    "a long extension",
                    ask(chunked, &format!("2;{}\r\n{{}}\r\n0\r\n\r\n", "a".repeat(100_000))),
                ),
                named(
                    "long trailers",
                    ask(chunked, &format!("2\r\n{{}}\r\n0\r\n{}\r\n", "a: b\r\n".repeat(100_000))),
                ),
                named("two lengths", ask("content-length: 2\r\ncontent-length: 3\r\n", "{}")),
                named("a list of lengths", ask("content-length: 2, 3\r\n", "{}")),
                named(
                    "a length and chunks",
                    ask(&format!("content-length: 2\r\n{chunked}"), "2\r\n{}\r\n0\r\n\r\n"),
                ),
                named(
                    "chunks twice",
                    ask(&format!("{chunked}transfer-encoding: identity\r\n"), "2\r\n{}\r\n0\r\n\r\n"),
                ),
                named(
                    "a header in two lines",
                    ask("transfer-encoding:\r\n chunked\r\n", "2\r\n{}\r\n0\r\n\r\n"),
                ),
                named("a space before the colon", ask("content-length : 2\r\n", "{}")),
                attack("chunks of one byte", &Ask::chunked(&path, &bytes), REFUSED),
            ];
            in_turn(&addr, &stop, &attacks).await;
        })
        .await;
}
