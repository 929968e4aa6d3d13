//! Clients of the gRPC listener.
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::judge::Answer;
use crate::request::{Act, Identity, Sent};
use crate::support::client::{Client, Reply, Request};
use crate::support::dial::Dial;
use crate::support::pace::pause;
use crate::support::random::Random;
use crate::support::requests::{PREDICT, Predict, doubles, floats, int32s, int64s, outputs, strings};
use crate::support::tensor_values::{Value, values};
use crate::support::training::INPUT;
use crate::tally::Tally;
use crate::upstream::ECHO;
use crate::world::World;
use crate::{OVERDUE, PATIENCE};

/// Sends requests until stopped, and counts what came of them.
pub(crate) async fn run(dial: &Dial, who: &Identity, world: &World, stop: &CancellationToken) -> Tally {
    let mut random = Random::new(1_000 + who.number);
    let mut tally = Tally::default();
    let (mut client, mut serial) = (connect(dial).await, 0);
    while !stop.is_cancelled() {
        serial += 1;
        let sent = who.next(serial, &mut random);
        let request = request(&sent, &who.name(sent.act), &mut random);
        let leaves = matches!(sent.act, Act::Cancel | Act::Vanish);
        let patience = if leaves { random.between(0, 20) } else { OVERDUE };
        let then = world.now();
        match tokio::time::timeout(patience, client.try_call(request)).await {
            // Dropping the call resets its stream.
            Err(_) if leaves => tally.broken_off(who.name(sent.act)),
            Err(_) => tally.fault(format!("{:?}: no answer within {OVERDUE:?}", sent.act)),
            Ok(Ok(reply)) => {
                tally.answered(&who.name(sent.act), &sent, &answer(&reply), &world.since(&then));
            }
            Ok(Err(error)) => tally.fault(format!("{:?}: HTTP/2 error: {error}", sent.act)),
        }
        if sent.act == Act::Vanish || client.is_closed() {
            client = connect(dial).await;
        }
        pause(random.between(0, 20)).await;
    }
    tally
}

async fn connect(dial: &Dial) -> Client {
    let socket = dial.connect().await.unwrap_or_else(|error| panic!("no connection to {dial:?}: {error}"));
    Client::over(socket).await
}

fn request(sent: &Sent, name: &str, random: &mut Random) -> Request {
    let message = Predict::new(sent.model).input(INPUT, tensor(sent)).bytes();
    let request = match sent.act {
        Act::Gzip => Request::gzip(PREDICT, &message),
        _ => Request::predict(&message),
    };
    let timeout = match sent.act {
        Act::Hurry => Duration::from_millis(1 + random.below(50)),
        _ => PATIENCE,
    };
    request.timeout(&format!("{}m", timeout.as_millis())).metadata("user-agent", name)
}

fn tensor(sent: &Sent) -> tfs_sidecar::proto::tensorflow::TensorProto {
    let width = sent.width();
    let dims = match sent.act {
        Act::Flat => vec![width as i64],
        _ => vec![sent.rows.len() as i64, width as i64],
    };
    let all: Vec<f64> = sent.rows.iter().flat_map(|row| &row[..width]).copied().collect();
    let singles = || all.iter().map(|value| *value as f32).collect::<Vec<_>>();
    match (sent.model, sent.act) {
        (ECHO, Act::Wrong) => strings(&dims, &[b"one", b"two"]),
        (ECHO, Act::Cast) => int32s(&dims, &all.iter().map(|value| *value as i32).collect::<Vec<_>>()),
        (ECHO, _) => int64s(&dims, &all.iter().map(|value| *value as i64).collect::<Vec<_>>()),
        (_, Act::Cast) => doubles(&dims, &singles()),
        _ => floats(&dims, &singles()),
    }
}

fn answer(reply: &Reply) -> Answer {
    let output = outputs(&reply.message).remove("y").unwrap_or_default();
    let number = |value: &Value| match value {
        Value::Int(number) => *number as f64,
        Value::Real(number) => *number,
        _ => f64::NAN,
    };
    Answer {
        code: reply.code,
        text: reply.text.clone(),
        values: values(&output).iter().map(number).collect(),
        repairs: reply.repairs(),
        warnings: reply.initial("tfs-sidecar-warning"),
        version: served_version(reply),
        shared: !reply.initial("tfs-sidecar-batch").is_empty(),
    }
}

/// The version that the answer names.
fn served_version(reply: &Reply) -> Option<i64> {
    use prost::Message as _;
    use tfs_sidecar::proto::tensorflow::serving::{PredictResponse, model_spec::VersionChoice};
    let response = PredictResponse::decode(&reply.message[..]).ok()?;
    match response.model_spec?.version_choice? {
        VersionChoice::Version(version) => Some(version),
        VersionChoice::VersionLabel(_) => None,
    }
}
