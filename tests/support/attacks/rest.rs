//! Requests of REST attackers: bodies made to take long, and lengths that are not what they seem.
use std::io::{self, Write as _};
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio_util::sync::CancellationToken;

use super::super::dial::{Dial, Socket};
use super::super::pace::pause;
use super::super::rest::{Answer, Ask, Http};
use super::{rest_for, until_stopped};

/// A request, and the statuses of its answer that are right. Overload is one under attack.
#[derive(Debug)]
pub struct Attack {
    pub name: &'static str,
    pub bytes: Vec<u8>,
    pub right: &'static [u16],
}

/// The body never ends, so that the sidecar waits.
const NONE: &[u16] = &[];
pub const REFUSED: &[u16] = &[400, 429];
pub const TOO_LARGE: &[u16] = &[413, 429];

pub fn attack(name: &'static str, ask: &Ask, right: &'static [u16]) -> Attack {
    Attack { name, bytes: ask.bytes(), right }
}

fn predict(model: &str, name: &'static str, body: impl AsRef<[u8]>) -> Attack {
    attack(name, &Ask::predict(model, body), REFUSED)
}

fn classify(model: &str, name: &'static str, body: String) -> Attack {
    attack(name, &Ask::post(&format!("/v1/models/{model}:classify"), body), REFUSED)
}

/// Sends the bytes on a connection of their own; the answer, unless the connection is closed.
pub async fn exchange(dial: &Dial, bytes: &[u8]) -> Option<Answer> {
    let mut http = Http::over(dial.connect().await.ok()?);
    http.send(bytes).await;
    http.read(true).await
}

/// Sends the requests in turn until the attack is over, each on a connection of its own, for a
/// second at most.
pub async fn repeat(
    dial: &Dial,
    stop: &CancellationToken,
    pace: Duration,
    attacks: &[Attack],
    mut answered: impl FnMut(&Attack, &Answer),
) {
    while !stop.is_cancelled() {
        for attack in attacks {
            let outcome = tokio::select! {
                () = stop.cancelled() => return,
                outcome = tokio::time::timeout(Duration::from_secs(1), exchange(dial, &attack.bytes)) => outcome,
            };
            if let Ok(Some(answer)) = outcome {
                answered(attack, &answer);
            }
            rest_for(pace).await;
        }
    }
}

/// Bodies that grow by a byte every 200 ms, on so many connections.
pub async fn slow_bodies(dial: &Dial, stop: &CancellationToken, model: &str, count: u32) {
    let head =
        format!("POST /v1/models/{model}:predict HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n");
    let open = async || -> io::Result<Socket> {
        let mut socket = dial.connect().await?;
        socket.write_all(head.as_bytes()).await?;
        Ok(socket)
    };
    until_stopped(stop, async || {
        let mut sockets = Vec::new();
        for _ in 0..count {
            sockets.push(open().await?);
        }
        loop {
            for socket in &mut sockets {
                // One that was closed is opened again.
                if socket.write_all(b" ").await.is_err() || socket.flush().await.is_err() {
                    *socket = open().await?;
                }
            }
            pause(Duration::from_millis(200)).await;
        }
    })
    .await;
}

/// A small body that unpacks to 512 MB.
pub fn bomb(model: &str) -> Attack {
    attack("gzip bomb", &Ask::predict(model, gzip_bomb()).header("content-encoding", "gzip"), TOO_LARGE)
}

/// JSON that is deep, long or repeated.
pub fn json(model: &str) -> Vec<Attack> {
    let doubled = r#""input_tensor":[1],"#.repeat(100_000);
    let names =
        |count: u32| (0..count).fold(String::new(), |names, at| names + "\"k" + &at.to_string() + "\":1,");
    let (keys, million) = (names(100_000), names(1_000_000));
    vec![
        predict(model, "open lists", "[".repeat(20_000)),
        predict(model, "open lists in instances", format!(r#"{{"instances": {}"#, "[".repeat(300_000))),
        predict(
            model,
            "nested lists",
            format!(r#"{{"instances": {}{}}}"#, "[".repeat(20_000), "]".repeat(20_000)),
        ),
        predict(model, "nested objects", r#"{"a":"#.repeat(300_000)),
        predict(model, "1e400", r#"{"instances": [[1e400]]}"#),
        predict(model, "digits", format!(r#"{{"instances": [[{}]]}}"#, "9".repeat(1_000_000))),
        predict(model, "fractions", format!(r#"{{"instances": [[{}]]}}"#, "0.1,".repeat(300_000))),
        predict(model, "spaces", " ".repeat(4_000_000)),
        predict(model, "a doubled key", format!(r#"{{"instances": [{{{doubled}"x":1}}]}}"#)),
        predict(model, "many keys", format!(r#"{{"instances": [{{{keys}"x":1}}]}}"#)),
        predict(model, "many keys at the top", format!(r#"{{{keys}"x":1}}"#)),
        classify(model, "many features", format!(r#"{{"examples": [{{{keys}"x":null}}]}}"#)),
        classify(model, "a million features", format!(r#"{{"examples": [{{{million}"x":null}}]}}"#)),
        classify(
            model,
            "a doubled feature",
            format!(r#"{{"examples": [{{{}"x":null}}]}}"#, r#""a":1,"#.repeat(100_000)),
        ),
    ]
}

/// Chunks and lengths that are not what they seem.
pub fn lengths(model: &str) -> Vec<Attack> {
    let path = format!("/v1/models/{model}:predict");
    let ask = |headers: &str, body: &str| {
        let hidden = format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{{}}");
        format!("POST {path} HTTP/1.1\r\nhost: x\r\n{headers}\r\n{body}{hidden}").into_bytes()
    };
    let chunked = "transfer-encoding: chunked\r\n";
    let named = |name, bytes| Attack { name, bytes, right: REFUSED };
    let bytes = vec![&b" "[..]; 200_000];
    vec![
        Attack {
            name: "a chunk of 2^64",
            bytes: ask(chunked, "ffffffffffffffff\r\n{}\r\n0\r\n\r\n"),
            right: NONE,
        },
        named("a chunk of more digits", ask(chunked, "00000000000000000000000000000000002\r\n{}\r\n")),
        named("a negative chunk", ask(chunked, "-1\r\n{}\r\n0\r\n\r\n")),
        named("a chunk without an end", ask(chunked, "2\r\n{}0\r\n\r\n")),
        named("a long extension", ask(chunked, &format!("2;{}\r\n{{}}\r\n0\r\n\r\n", "a".repeat(100_000)))),
        named(
            "long trailers",
            ask(chunked, &format!("2\r\n{{}}\r\n0\r\n{}\r\n", "a: b\r\n".repeat(100_000))),
        ),
        named("two lengths", ask("content-length: 2\r\ncontent-length: 3\r\n", "{}")),
        named("a list of lengths", ask("content-length: 2, 3\r\n", "{}")),
        named("a length and chunks", ask(&format!("content-length: 2\r\n{chunked}"), "2\r\n{}\r\n0\r\n\r\n")),
        named(
            "chunks twice",
            ask(&format!("{chunked}transfer-encoding: identity\r\n"), "2\r\n{}\r\n0\r\n\r\n"),
        ),
        named("a header in two lines", ask("transfer-encoding:\r\n chunked\r\n", "2\r\n{}\r\n0\r\n\r\n")),
        named("a space before the colon", ask("content-length : 2\r\n", "{}")),
        attack("chunks of one byte", &Ask::chunked(&path, &bytes), REFUSED),
    ]
}

/// The same blocks of 1 MB again and again, without an end.
pub fn gzip_bomb() -> Vec<u8> {
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(&vec![b' '; 1 << 20]).unwrap();
    encoder.flush().unwrap();
    [&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff][..], &encoder.get_ref().repeat(512)].concat()
}

/// A frame of blocks that repeat one byte (RFC 8878, section 3.1.1.2).
pub fn zstd_bomb(window: u8) -> Vec<u8> {
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
