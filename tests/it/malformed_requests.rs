//! Malformed bodies and messages: each is an error, and the connection stays usable.
use prost::Message as _;
use prost::bytes::Bytes;

use crate::support::client::Request;
use crate::support::dense::{self, INPUT};
use crate::support::requests::{FLOAT, PREDICT, content, field, floats, number_field, varint};
use crate::support::sidecar::Setup;

/// Bodies whose message is not a valid PredictRequest.
fn malformed() -> Vec<(&'static str, Bytes)> {
    let framed = |message: &[u8]| {
        let mut body = vec![0];
        body.extend((message.len() as u32).to_be_bytes());
        body.extend(message);
        Bytes::from(body)
    };
    let conforming = dense::conforming();
    let entry = |tensor: &[u8]| {
        [field(1, &field(1, b"mlp")), field(2, &[field(1, INPUT.as_bytes()), field(2, tensor)].concat())]
            .concat()
    };
    let mut nested = Vec::new();
    for _ in 0..10_000 {
        nested = field(2, &nested);
    }
    let mut long = vec![0x0a];
    varint(u64::MAX, &mut long);
    let huge = content(FLOAT, &[1 << 31, 1 << 31], Bytes::new()).encode_to_vec();
    let overflow = content(FLOAT, &[1 << 62, 1 << 62, 0], Bytes::new()).encode_to_vec();
    vec![
        ("noise", framed(&(0..=255).rev().collect::<Vec<u8>>())),
        ("a message cut short", framed(&conforming[..conforming.len() - 7])),
        ("a length of 2^64 - 1", framed(&long)),
        ("a varint that does not end", framed(&[0xff; 40])),
        ("deep nesting", framed(&nested)),
        ("groups that do not end", framed(&[0x0b; 10_000])),
        ("field number 0", framed(&number_field(0, 1))),
        (
            "a name that is not UTF-8",
            framed(&[field(1, &field(1, &[0xff, 0xfe])), conforming[..].to_vec()].concat()),
        ),
        ("2^31 x 2^31 floats", framed(&entry(&huge))),
        ("a product that overflows before a zero", framed(&entry(&overflow))),
        ("dtype 77", framed(&entry(&content(77, &[1, 128], Bytes::new()).encode_to_vec()))),
        ("300 axes", framed(&entry(&floats(&[1; 300], &[0.0]).encode_to_vec()))),
    ]
}

#[tokio::test]
async fn malformed_messages_are_refused_and_the_connection_stays_usable() {
    let setup = Setup::new([dense::model()]).await;
    for (what, body) in malformed() {
        for chunk in [usize::MAX, 3] {
            let reply = setup.client.call(Request::raw(PREDICT, body.clone()).chunks(chunk)).await;
            assert_eq!(reply.code, 3, "{what}: {}", reply.text);
            assert!(reply.text.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{what}: {:?}", reply.text);
            setup.client.predict(&dense::conforming()).await.ok();
        }
    }
    let conforming_calls = malformed().len() * 2;
    assert_eq!(setup.fake.count(PREDICT), conforming_calls, "malformed messages are not forwarded");
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn a_body_that_is_not_one_grpc_message_is_an_error() {
    let setup = Setup::new([dense::model()]).await;
    let whole = [&[0, 0, 0, 0, dense::conforming().len() as u8][..], &dense::conforming()].concat();
    for (what, body) in [
        ("no body", Bytes::new()),
        ("half a prefix", Bytes::from_static(&[0, 0, 0])),
        ("a prefix without its message", Bytes::from_static(&[0, 0, 0, 0, 9])),
        ("more bytes than the prefix announces", Bytes::from(whole)),
        ("compressed without grpc-encoding", Bytes::from_static(&[1, 0, 0, 0, 2, 8, 1])),
        ("a prefix of four gigabytes", Bytes::from_static(&[0, 255, 255, 255, 255, 1])),
        ("an unknown flag", Bytes::from_static(&[9, 0, 0, 0, 1, 8])),
    ] {
        if let Ok(reply) = setup.client.try_call(Request::raw(PREDICT, body)).await {
            assert!(reply.code > 0, "{what}: {reply:?}");
        }
        setup.client.predict(&dense::conforming()).await.ok();
    }
    setup.sidecar.stop().await;
}
