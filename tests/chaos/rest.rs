//! Clients of the REST listener.
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::judge::{Answer, DEADLINE_EXCEEDED, INVALID_ARGUMENT, RESOURCE_EXHAUSTED, UNAVAILABLE};
use crate::request::{Act, Identity, Sent};
use crate::support::dial::{Dial, Socket};
use crate::support::framing::compress;
use crate::support::pace::pause;
use crate::support::random::Random;
use crate::support::rest::{self, Ask, Http};
use crate::tally::Tally;
use crate::world::World;
use crate::{OVERDUE, PATIENCE};

/// Sends requests until stopped, and counts what came of them.
pub(crate) async fn run(dial: &Dial, who: &Identity, world: &World, stop: &CancellationToken) -> Tally {
    let mut random = Random::new(2_000 + who.number);
    let mut tally = Tally::default();
    let (mut http, mut serial) = (connect(dial).await, 0);
    while !stop.is_cancelled() {
        serial += 1;
        let sent = who.next(serial, &mut random);
        let bytes = request(&sent, &who.name(sent.act), &mut random).bytes();
        let leaves = matches!(sent.act, Act::Cancel | Act::Vanish);
        let patience = if leaves { random.between(0, 20) } else { OVERDUE };
        let call = async {
            http.send(&bytes).await;
            http.read(true).await
        };
        let then = world.now();
        let outcome = tokio::time::timeout(patience, call).await;
        // A connection can be used again only after its answer.
        let ended = !matches!(outcome, Ok(Some(_)));
        match outcome {
            Err(_) if leaves => tally.broken_off(who.name(sent.act)),
            Err(_) => tally.fault(format!("{:?} over REST: no answer within {OVERDUE:?}", sent.act)),
            Ok(Some(reply)) => {
                let answer = answer(&sent, &reply);
                tally.answered(&who.name(sent.act), &sent, &answer, &world.since(&then));
            }
            Ok(None) => tally.fault(format!("{:?} over REST: the connection was closed", sent.act)),
        }
        if ended || sent.act == Act::Vanish {
            http = connect(dial).await;
        }
        pause(random.between(0, 20)).await;
    }
    tally
}

async fn connect(dial: &Dial) -> Http<Socket> {
    let socket = dial.connect().await.unwrap_or_else(|error| panic!("no connection to {dial:?}: {error}"));
    Http::over(socket)
}

fn request(sent: &Sent, name: &str, random: &mut Random) -> Ask {
    let json = sent.json();
    let ask = match sent.act {
        Act::Gzip => Ask::predict(sent.model, compress(json.as_bytes())).header("content-encoding", "gzip"),
        _ => Ask::predict(sent.model, json),
    };
    let timeout = match sent.act {
        Act::Hurry => format!("{}ms", 1 + random.below(50)),
        _ => format!("{}s", PATIENCE.as_secs()),
    };
    ask.header("x-timeout", &timeout).header("user-agent", name)
}

fn answer(sent: &Sent, reply: &rest::Answer) -> Answer {
    let code = match reply.status {
        200 => 0,
        400 => INVALID_ARGUMENT,
        429 => RESOURCE_EXHAUSTED,
        503 => UNAVAILABLE,
        504 => DEADLINE_EXCEEDED,
        // No gRPC code: no answer may have another status.
        other => -i32::from(other),
    };
    let json: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    let mut values = Vec::new();
    numbers(&json["predictions"], &mut values);
    if sent.model == crate::upstream::SCALED {
        // The shortest text of a float32 is another number as a float64.
        for value in &mut values {
            *value = f64::from(*value as f32);
        }
    }
    Answer {
        code,
        // In the words of TF Serving; ours, with the reason, are behind them.
        text: format!("{} {}", json["error"].as_str().unwrap_or_default(), json["details"]),
        values,
        repairs: reply.repairs(),
        warnings: reply.all("tfs-sidecar-warning"),
        version: None,
        shared: !reply.all("tfs-sidecar-batch").is_empty(),
    }
}

/// All numbers of nested lists.
fn numbers(value: &Value, into: &mut Vec<f64>) {
    match value {
        Value::Array(list) => list.iter().for_each(|value| numbers(value, into)),
        Value::Number(number) => into.push(number.as_f64().unwrap_or(f64::NAN)),
        _ => {}
    }
}
