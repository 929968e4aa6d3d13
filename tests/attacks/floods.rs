//! Floods of frames that carry no request.
use std::time::Duration;

use crate::support::attacks;
use crate::support::dial::Dial;
use crate::support::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PING, PRIORITY, RST_STREAM, SETTINGS,
    WINDOW_UPDATE, frame, header_block, open,
};
use crate::support::requests::PREDICT;
use crate::trial::Trial;

/// Floods one connection with these frames.
async fn flood(name: &'static str, begin: Vec<u8>, frames: Vec<u8>) {
    let trial = Trial::new(name).await;
    trial
        .run(async move |addr, stop| {
            attacks::flood(&Dial::plain(&addr), &stop, Duration::ZERO, &begin, &frames).await;
        })
        .await;
}

#[tokio::test]
async fn pings() {
    flood("PING", Vec::new(), frame(PING, 0, 0, &[7; 8])).await;
}

#[tokio::test]
async fn settings() {
    flood("SETTINGS", Vec::new(), frame(SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0])).await;
}

#[tokio::test]
async fn priorities() {
    flood("PRIORITY", Vec::new(), frame(PRIORITY, 0, 1, &[0, 0, 0, 3, 1])).await;
}

#[tokio::test]
async fn window_updates_of_a_stream() {
    flood("WINDOW_UPDATE of a stream", open(1, PREDICT), frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1])).await;
}

#[tokio::test]
async fn window_updates_of_the_connection() {
    flood("WINDOW_UPDATE of the connection", Vec::new(), frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])).await;
}

#[tokio::test]
async fn frames_of_unknown_types() {
    flood("unknown frames", Vec::new(), frame(0x42, 0, 0, &[])).await;
}

#[tokio::test]
async fn empty_data() {
    flood("empty DATA", open(1, PREDICT), frame(DATA, 0, 1, &[])).await;
}

#[tokio::test]
async fn headers_without_end() {
    let block = header_block(PREDICT, &[]);
    let begin = frame(HEADERS, 0, 1, &block);
    flood("CONTINUATION", begin, frame(CONTINUATION, 0, 1, b"\x00\x01x\x01y")).await;
}

/// Floods one connection with ever new streams.
async fn streams(name: &'static str, frames: fn(u32) -> Vec<u8>) {
    let trial = Trial::new(name).await;
    trial
        .run(async move |addr, stop| {
            attacks::streams(&Dial::plain(&addr), &stop, Duration::ZERO, frames).await;
        })
        .await;
}

#[tokio::test]
async fn calls_that_are_reset_at_once() {
    streams("rapid reset", |stream| {
        let mut frames = open(stream, PREDICT);
        frames.extend(frame(RST_STREAM, 0, stream, &8u32.to_be_bytes()));
        frames
    })
    .await;
}

#[tokio::test]
async fn calls_that_make_the_sidecar_reset_them() {
    streams("MadeYouReset", |stream| {
        let mut frames = open(stream, PREDICT);
        // A window update of nothing is a stream error.
        frames.extend(frame(WINDOW_UPDATE, 0, stream, &[0; 4]));
        frames
    })
    .await;
}

#[tokio::test]
async fn header_blocks_that_unpack_to_much() {
    streams("HPACK bomb", |stream| {
        let mut block = header_block(PREDICT, &[]);
        if stream == 1 {
            // An entry of 4,000 bytes for the dynamic table, at index 62 from then on.
            block.extend([0x40, 1, b'a', 0x7f, 0xa1, 0x1e]);
            block.extend([b'b'; 4_000]);
        } else {
            block.extend([0xbe; 4_000]);
        }
        frame(HEADERS, END_HEADERS | END_STREAM, stream, &block)
    })
    .await;
}
