//! Calls that end early: deadlines, and clients that cancel.
use crate::support::client::Request;
use crate::support::dense;
use crate::support::fake_tfs::{Call, End};
use crate::support::requests::PREDICT;
use crate::support::sidecar::Setup;

#[tokio::test]
async fn a_deadline_ends_the_call_on_both_sides() {
    let setup = Setup::new([dense::model()]).await;
    let gate = setup.fake.hold(PREDICT, 1);
    let reply = setup.client.call(Request::predict(&dense::conforming()).timeout("200m")).await;
    assert_eq!(reply.code, 4, "{}", reply.text);
    let ended = |calls: &[Call]| calls.iter().any(|call| call.path == PREDICT && call.end != End::Open);
    setup.fake.until("the end of the call at the upstream", ended).await;
    let call = setup.fake.only(PREDICT);
    assert!(matches!(call.end, End::Cancelled(_)), "{:?}", call.end);
    let passed = milliseconds(call.headers["grpc-timeout"].to_str().unwrap());
    assert!(passed <= 200.0, "{passed} ms of 200");
    gate.open();
    setup.sidecar.stop().await;
}

fn milliseconds(timeout: &str) -> f64 {
    let (number, unit) = timeout.split_at(timeout.len() - 1);
    let factor = match unit {
        "H" => 3.6e6,
        "M" => 6e4,
        "S" => 1e3,
        "m" => 1.0,
        "u" => 1e-3,
        "n" => 1e-6,
        _ => panic!("the unit of {timeout}"),
    };
    number.parse::<f64>().unwrap() * factor
}

#[tokio::test]
async fn an_expired_request_never_reaches_the_server() {
    let setup = Setup::new([dense::model()]).await;
    for timeout in ["0m", "1n"] {
        let reply = setup.client.call(Request::predict(&dense::conforming()).timeout(timeout)).await;
        assert_eq!(reply.code, 4, "{timeout}: {}", reply.text);
    }
    assert_eq!(setup.fake.count(PREDICT), 0);
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn a_cancelled_call_is_cancelled_upstream() {
    let setup = Setup::new([dense::model()]).await;
    let gate = setup.fake.hold(PREDICT, 2);
    for (at, message) in [dense::conforming(), dense::flat()].iter().enumerate() {
        let stream = setup.client.stream(Request::predict(message)).await;
        setup.fake.called(PREDICT, at + 1).await;
        stream.cancel();
        let cancelled = |calls: &[Call]| {
            calls
                .iter()
                .filter(|call| call.path == PREDICT && call.end == End::Cancelled(Some(h2::Reason::CANCEL)))
                .count()
        };
        setup.fake.until("RST_STREAM at the upstream", |calls| cancelled(calls) == at + 1).await;
    }
    gate.open();
    setup.client.predict(&dense::conforming()).await.ok();
    setup.sidecar.stop().await;
}
