//! One client: requests with values of its own, answers that must hold exactly these values.
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::accidents::Accidents;
use crate::support::client::{Client, Reply, Request};
use crate::support::pace::pause;
use crate::support::random::Random;
use crate::support::requests::{INT32, Predict, content, int64s, outputs, strings};
use crate::tally::Tally;
use crate::upstream::MODEL;

const INVALID_ARGUMENT: i32 = 3;
const DEADLINE_EXCEEDED: i32 = 4;
const UNAVAILABLE: i32 = 14;
/// Calls without a short deadline have this one; no call may outlive it by much.
const LONG: &str = "10S";
const OVERDUE: Duration = Duration::from_secs(12);

/// What a client does with one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    /// Sends what the signature declares.
    Conform,
    /// Leaves out the batch dimension.
    Flat,
    /// Sends int32 for int64.
    Narrow,
    /// Sends strings, which nothing repairs.
    Wrong,
    /// Sets a deadline of 1 to 50 ms.
    Hurry,
    /// Cancels after up to 20 ms.
    Cancel,
    /// Closes the connection under the call.
    Vanish,
}

/// Sends requests until stopped, and counts what came of them.
pub(crate) async fn run(addr: &str, number: u64, accidents: &Accidents, stop: &CancellationToken) -> Tally {
    let mut random = Random::new(1_000 + number);
    let mut tally = Tally::default();
    let mut client = Client::connect(addr).await;
    let mut value = number as i32 * 50_000_000;
    while !stop.is_cancelled() {
        value += 1;
        let act = match random.below(100) {
            0..50 => Act::Conform,
            50..65 => Act::Flat,
            65..75 => Act::Narrow,
            75..85 => Act::Wrong,
            85..92 => Act::Hurry,
            92..99 => Act::Cancel,
            _ => Act::Vanish,
        };
        let request = request(act, value, &mut random);
        let sent = Instant::now();
        let patience = match act {
            Act::Cancel | Act::Vanish => random.between(0, 20),
            _ => OVERDUE,
        };
        let outcome = tokio::time::timeout(patience, client.try_call(request)).await;
        match outcome {
            // Dropping the call resets its stream.
            Err(_) if matches!(act, Act::Cancel | Act::Vanish) => tally.broken_off += 1,
            Err(_) => tally.fault(format!("{act:?}: no answer within {OVERDUE:?}")),
            Ok(Ok(reply)) => judge(&mut tally, act, value, &reply, || accidents.excuse(sent)),
            Ok(Err(error)) => tally.fault(format!("{act:?}: HTTP/2 error: {error}")),
        }
        if act == Act::Vanish || client.is_closed() {
            client = Client::connect(addr).await;
        }
        pause(random.between(0, 20)).await;
    }
    tally
}

fn request(act: Act, value: i32, random: &mut Random) -> Request {
    let (first, second) = (i64::from(value), -i64::from(value));
    let tensor = match act {
        Act::Flat => int64s(&[2], &[first, second]),
        Act::Narrow => content(INT32, &[1, 2], [value.to_le_bytes(), (-value).to_le_bytes()].concat()),
        Act::Wrong => strings(&[1, 2], &[b"one", b"two"]),
        Act::Conform | Act::Hurry | Act::Cancel | Act::Vanish => int64s(&[1, 2], &[first, second]),
    };
    let timeout = match act {
        Act::Hurry => format!("{}m", 1 + random.below(50)),
        _ => LONG.to_owned(),
    };
    Request::predict(&Predict::new(MODEL).input("x", tensor).bytes()).timeout(&timeout)
}

/// Counts the answer; `excused` says whether an accident explains a failure.
fn judge(tally: &mut Tally, act: Act, value: i32, reply: &Reply, excused: impl Fn() -> bool) {
    tally.answered(reply.code);
    let right = match reply.code {
        0 => act != Act::Wrong && values(reply) == Some((i64::from(value), -i64::from(value))),
        INVALID_ARGUMENT => act == Act::Wrong,
        DEADLINE_EXCEEDED => act == Act::Hurry || excused(),
        UNAVAILABLE => excused(),
        _ => false,
    };
    if !right {
        tally.fault(format!("{act:?}: code {}: {}, {:?} for {value}", reply.code, reply.text, values(reply)));
    }
}

/// The two numbers of the answer, however they are encoded.
fn values(reply: &Reply) -> Option<(i64, i64)> {
    let outputs = outputs(&reply.message);
    let tensor = outputs.get("y")?;
    let numbers: Vec<i64> = if tensor.tensor_content.is_empty() {
        tensor.int64_val.clone()
    } else {
        let chunks = tensor.tensor_content.chunks_exact(8);
        chunks.map(|eight| i64::from_le_bytes(eight.try_into().unwrap())).collect()
    };
    match numbers[..] {
        [first, second] => Some((first, second)),
        _ => None,
    }
}
