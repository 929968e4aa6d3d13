//! Attacks on the REST listener: bodies made to take long, and requests of doubtful length.
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::support::attacks::rest::{
    Attack, REFUSED, TOO_LARGE, attack, bomb, exchange, json, lengths, repeat, slow_bodies, zstd_bomb,
};
use crate::support::dense::MODEL;
use crate::support::dial::Dial;
use crate::support::rest::Ask;
use crate::trial::Trial;

const SHORT: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(18);

/// Sends the requests in turn, each on a connection of its own, until the attack is over. Each is
/// answered rightly, or the connection is closed, or the sidecar waits for more of the body.
async fn in_turn(dial: &Dial, stop: &CancellationToken, attacks: &[Attack]) {
    // The first round is to its end, however slow the machine is.
    for Attack { name, bytes, right } in attacks {
        let patience = if right.is_empty() { SHORT } else { LONG };
        match tokio::time::timeout(patience, exchange(dial, bytes)).await {
            Ok(Some(answer)) => {
                assert!(right.contains(&answer.status), "{name}: {} {}", answer.status, answer.text());
                assert!(answer.body.len() < 100_000, "{name}: {} bytes", answer.body.len());
            }
            Ok(None) => {}
            Err(_) => assert!(right.is_empty(), "{name}: no answer"),
        }
    }
    repeat(dial, stop, Duration::ZERO, attacks, |_, _| {}).await;
}

#[tokio::test]
async fn bodies_that_are_made_to_take_long() {
    let trial = Trial::over_rest("JSON that is deep, long or repeated").await;
    trial
        .run(async |addr, stop| {
            in_turn(&Dial::plain(&addr), &stop, &json(MODEL)).await;
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
        bomb(MODEL),
        attack("zstd bomb", &packed("zstd", zstd_bomb(13)), TOO_LARGE),
        attack("zstd bomb that is kept", &packed("zstd", zstd_bomb(17)), REFUSED),
        attack("spaces", &Ask::predict(MODEL, &spaces), TOO_LARGE),
        attack("spaces in chunks", &Ask::chunked(&path, &[&spaces]), TOO_LARGE),
        attack("all spaces that are allowed", &Ask::predict(MODEL, &spaces[..60 << 20]), REFUSED),
        attack("most of them", &Ask::predict(MODEL, &spaces[..45 << 20]), REFUSED),
    ];
    let trial = Trial::over_rest("100 MB of spaces, and bombs of 512 MB").await;
    trial.run(async move |addr, stop| in_turn(&Dial::plain(&addr), &stop, &attacks).await).await;
}

#[tokio::test]
async fn bodies_that_arrive_byte_by_byte() {
    let trial = Trial::over_rest("500 bodies that arrive slowly").await;
    trial
        .run(async |addr, stop| {
            slow_bodies(&Dial::plain(&addr), &stop, MODEL, 500).await;
        })
        .await;
}

#[tokio::test]
async fn chunks_and_lengths_that_are_not_what_they_seem() {
    let trial = Trial::over_rest("chunks and lengths").await;
    trial
        .run(async |addr, stop| {
            in_turn(&Dial::plain(&addr), &stop, &lengths(MODEL)).await;
        })
        .await;
}
