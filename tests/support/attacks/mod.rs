//! Attackers that go on until they are stopped, on connections of their own.
pub mod rest;

use std::io::{self, Write as _};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::dial::Dial;
use super::frames::{DATA, END_HEADERS, HEADERS, Raw, Reads, data_frames, frame, header_block, open};
use super::framing;
use super::pace::pause;

/// An attacker waits for nothing, but leaves the machine some time.
pub const PAUSE: Duration = Duration::from_millis(1);
/// What most attackers let each stream be sent.
pub const WINDOW: u32 = 1 << 20;

/// Repeats `turn` until it fails or the attack is over. A closed connection is a defence, so the
/// attacker connects again.
pub async fn until_stopped(stop: &CancellationToken, mut turn: impl AsyncFnMut() -> io::Result<()>) {
    while !stop.is_cancelled() {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = turn() => pause(PAUSE).await,
        }
    }
}

/// Sends these bytes on a new connection and holds it open; again whenever it is closed. `window`
/// is what each stream may be sent.
pub async fn hold(dial: &Dial, stop: &CancellationToken, window: u32, reads: Reads, bytes: &[u8]) {
    until_stopped(stop, async || {
        let mut raw = Raw::dial(dial, window, reads).await?;
        raw.send(bytes).await?;
        stop.cancelled().await;
        Ok(())
    })
    .await;
}

/// Sends these frames again and again on one connection, until it is closed: 64 KiB, then a pause.
pub async fn flood(dial: &Dial, stop: &CancellationToken, pace: Duration, begin: &[u8], frames: &[u8]) {
    let many = frames.repeat((64 << 10) / frames.len());
    until_stopped(stop, async || {
        let mut raw = Raw::dial(dial, WINDOW, Reads::Yes).await?;
        raw.send(begin).await?;
        loop {
            raw.send(&many).await?;
            rest_for(pace).await;
        }
    })
    .await;
}

/// Sends the frames of ever new streams on one connection, until it is closed: 100 streams, then a
/// pause.
pub async fn streams(dial: &Dial, stop: &CancellationToken, pace: Duration, frames: impl Fn(u32) -> Vec<u8>) {
    until_stopped(stop, async || {
        let mut raw = Raw::dial(dial, WINDOW, Reads::Yes).await?;
        let mut stream = 1;
        loop {
            let mut many = Vec::new();
            for _ in 0..100 {
                many.extend(frames(stream));
                stream += 2;
            }
            raw.send(&many).await?;
            rest_for(pace).await;
        }
    })
    .await;
}

/// Opens so many calls of a method on one connection, and sends each a byte a second.
pub async fn slow_bodies(dial: &Dial, stop: &CancellationToken, path: &str, count: u32) {
    let headers = calls(count, path, b"");
    until_stopped(stop, async || {
        let mut raw = Raw::dial(dial, WINDOW, Reads::Yes).await?;
        raw.send(&headers).await?;
        let mut seconds = tokio::time::interval(Duration::from_secs(1));
        while !raw.is_closed() {
            seconds.tick().await;
            for call in 0..count {
                raw.frame(DATA, 0, 2 * call + 1, &[0]).await?;
            }
        }
        Ok(())
    })
    .await;
}

/// Sends four messages of 0.5 MB that unpack to 512 MB on a connection, and again after a pause.
pub async fn gzip_bombs(dial: &Dial, stop: &CancellationToken, pace: Duration, path: &str) {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    let zeros = vec![0; 1 << 20];
    for _ in 0..512 {
        encoder.write_all(&zeros).unwrap();
    }
    let body = framing::frame(&encoder.finish().unwrap(), true);
    let block = header_block(path, &[("grpc-encoding", "gzip")]);
    until_stopped(stop, async || {
        let mut raw = Raw::dial(dial, WINDOW, Reads::Yes).await?;
        for call in 0..4 {
            let stream = 2 * call + 1;
            raw.send(&frame(HEADERS, END_HEADERS, stream, &block)).await?;
            raw.send(&data_frames(stream, &body, 1 << 14)).await?;
        }
        rest_for(pace).await;
        Ok(())
    })
    .await;
}

/// Opens so many connections and closes them at once, and again after a pause.
pub async fn comes_and_goes(dial: &Dial, stop: &CancellationToken, pace: Duration, count: u32) {
    until_stopped(stop, async || {
        for _ in 0..count {
            drop(Raw::dial(dial, WINDOW, Reads::No).await?);
        }
        rest_for(pace).await;
        Ok(())
    })
    .await;
}

/// So many calls, each with `body` in place of a whole message.
pub fn calls(count: u32, path: &str, body: &[u8]) -> Vec<u8> {
    (0..count)
        .flat_map(|call| {
            let mut frames = open(2 * call + 1, path);
            if !body.is_empty() {
                frames.extend(frame(DATA, 0, 2 * call + 1, body));
            }
            frames
        })
        .collect()
}

async fn rest_for(pace: Duration) {
    if !pace.is_zero() {
        pause(pace).await;
    }
}
