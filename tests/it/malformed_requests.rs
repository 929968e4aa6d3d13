//! Malformed bodies and messages: each is an error, and the connection stays usable.
use prost::Message as _;
use prost::bytes::Bytes;
use tfs_sidecar::repair::Mode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::client::Request;
use crate::support::dense::{self, INPUT};
use crate::support::fake_tfs::model::{Model, Sig};
use crate::support::framing::frame;
use crate::support::requests::{FLOAT, PREDICT, Predict, content, field, floats, number_field, varint};
use crate::support::sidecar::{HEALTH_CHECK, Setup, policy};
use crate::support::within;

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

#[tokio::test]
async fn modes_that_refuse_nothing_forward_what_cannot_be_parsed() {
    for (mode, model) in [(Mode::Off, "unparsed_off"), (Mode::Observe, "unparsed_observe")] {
        let signature = Sig::new("serving_default").input("x", FLOAT, &[-1, 4]).output("y", FLOAT, &[-1, 4]);
        let served = Model::new(model).version(1, [signature]);
        let setup = Setup::with([served], |config| policy(config, |policy| policy.mode = mode)).await;
        let conforming = Predict::new(model).input("x", floats(&[1, 4], &[0.5; 4])).bytes();
        let cut = conforming.slice(..conforming.len() - 7);
        let nameless = Bytes::from([field(1, &field(1, &[0xff, 0xfe])), cut.to_vec()].concat());
        for message in [cut.clone(), nameless] {
            let before = setup.fake.count(PREDICT);
            setup.client.predict(&message).await;
            let calls = setup.fake.calls_of(PREDICT);
            assert_eq!(calls.len(), before + 1, "{mode}");
            assert_eq!(calls.last().map(|call| &call.message), Some(&message), "{mode}");
        }
        let counted = setup.sidecar.metrics().await;
        let labels = [("model", model), ("reason", "MALFORMED")];
        let expected = if mode == Mode::Observe { 1.0 } else { 0.0 };
        assert_eq!(counted.sum("tfs_sidecar_would_reject_total", &labels), expected, "{mode}");
        // A request that asks for more strictness is refused.
        let strict = Request::predict(&cut).metadata("tfs-sidecar-mode", "repair");
        assert_eq!(setup.client.call(strict).await.code, 3, "{mode}");
        setup.sidecar.stop().await;
    }
}

#[tokio::test]
async fn a_model_in_mode_observe_gets_what_cannot_be_parsed_under_stricter_defaults() {
    let setup = Setup::with([dense::model()], |config| {
        for model in config.models.values_mut() {
            model.defaults.mode = Mode::Observe;
        }
    })
    .await;
    let conforming = dense::conforming();
    setup.client.predict(&conforming.slice(..conforming.len() - 7)).await;
    assert_eq!(setup.fake.count(PREDICT), 1);
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn a_request_without_a_model_gets_the_servers_own_text() {
    let setup = Setup::new([dense::model()]).await;
    for (message, text) in
        [(Vec::new(), "Missing ModelSpec"), (field(1, &[]), "ModelSpec has no name specified.")]
    {
        let reply = setup.client.predict(&Bytes::from(message)).await;
        assert_eq!((reply.code, reply.text.as_str()), (3, text));
    }
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn a_request_that_is_not_grpc_gets_415_even_while_it_uploads() {
    let setup = Setup::new([dense::model()]).await;
    let addr = setup.sidecar.grpc.clone();
    let socket = tokio::net::TcpStream::connect(addr).await.unwrap();
    let (mut client, connection) = h2::client::handshake(socket).await.unwrap();
    let driver = tokio::spawn(connection);
    let request = http::Request::post("http://sidecar/tensorflow.serving.PredictionService/Predict")
        .header("content-type", "application/json")
        .body(())
        .unwrap();
    let (response, mut upload) = client.send_request(request, false).unwrap();
    assert_eq!(response.await.unwrap().status(), 415);
    // The stream is open until the upload ends, so the client can finish it.
    upload.send_data(Bytes::from_static(b"{\"instances\": [1]}"), true).unwrap();
    // The same connection goes on.
    let request = http::Request::get("http://sidecar/").body(()).unwrap();
    let (response, _) = client.send_request(request, true).unwrap();
    assert_eq!(response.await.unwrap().status(), 415);
    driver.abort();
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn another_content_type_or_a_query_in_the_path_is_not_a_call_of_ours() {
    let setup = Setup::new([dense::model()]).await;
    let socket = tokio::net::TcpStream::connect(&setup.sidecar.grpc).await.unwrap();
    let (mut client, connection) = h2::client::handshake(socket).await.unwrap();
    let driver = tokio::spawn(connection);
    for path in [PREDICT, HEALTH_CHECK] {
        let request = http::Request::post(format!("http://sidecar{path}"))
            .header("content-type", "application/grpcevil")
            .body(())
            .unwrap();
        let (response, _) = client.send_request(request, true).unwrap();
        assert_eq!(response.await.unwrap().status(), 415, "{path}");
    }
    driver.abort();
    for path in [PREDICT, HEALTH_CHECK] {
        let reply = setup.client.call(Request::new(&format!("{path}?x=1"), &dense::flat())).await;
        assert_eq!(reply.code, 12, "{path}: {}", reply.text);
        assert_eq!(reply.text, "TensorFlow Serving has no such service or method", "{path}");
    }
    assert_eq!(setup.fake.count(PREDICT), 0);
    setup.sidecar.stop().await;
}

/// An HTTP/2 frame.
fn http2_frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&[length[1], length[2], length[3], kind, flags, 0, 0, 0, stream], payload].concat()
}

/// A header without compression; HPACK writes the length of a short text in one byte.
fn literal(name: &str, value: &str) -> Vec<u8> {
    let length = |text: &str| u8::try_from(text.len()).unwrap();
    [&[0, length(name)], name.as_bytes(), &[length(value)], value.as_bytes()].concat()
}

#[tokio::test]
async fn pseudo_headers_in_trailers_are_ignored() {
    const HEADERS: u8 = 1;
    let setup = Setup::new([dense::model()]).await;
    let mut socket = tokio::net::TcpStream::connect(&setup.sidecar.grpc).await.unwrap();
    let head = [
        literal(":method", "POST"),
        literal(":scheme", "http"),
        literal(":path", PREDICT),
        literal(":authority", "sidecar"),
        literal("content-type", "application/grpc"),
        literal("te", "trailers"),
    ];
    let bytes = [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        http2_frame(4, 0, 0, &[]),
        http2_frame(HEADERS, 4, 1, &head.concat()),
        http2_frame(0, 0, 1, &frame(&dense::conforming(), false)),
        http2_frame(HEADERS, 5, 1, &literal(":path", "/other.Service/Method")),
    ];
    socket.write_all(&bytes.concat()).await.unwrap();
    // The answer's last HEADERS has END_STREAM; a reset would be RST_STREAM, GOAWAY ends
    // everything.
    let ended = within("the end of the answer", async {
        loop {
            let mut head = [0; 9];
            socket.read_exact(&mut head).await.unwrap();
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            socket.read_exact(&mut vec![0; length as usize]).await.unwrap();
            match (head[3], head[4] & 1) {
                (HEADERS, 1) => return "answered",
                (3, _) => return "reset",
                (7, _) => return "connection ended",
                _ => {}
            }
        }
    });
    assert_eq!(ended.await, "answered");
    assert_eq!(setup.fake.count(PREDICT), 1);
    setup.client.predict(&dense::conforming()).await.ok();
    setup.sidecar.stop().await;
}
