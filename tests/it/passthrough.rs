//! Conforming requests and other methods arrive byte for byte, and answers come back unchanged.
use prost::Message as _;
use prost::bytes::Bytes;
use tfs_sidecar::proto::tensorflow::Example;
use tfs_sidecar::proto::tensorflow::serving::{ClassificationRequest, ExampleList, Input, input::Kind};

use crate::support::client::{Client, Request};
use crate::support::dense::{self, CASE, INPUT, OUTPUT};
use crate::support::fake_tfs::{
    Act, FakeTfs, Options,
    model::{Model, Sig},
};
use crate::support::requests::{
    CLASSIFY, FLOAT, METADATA, PREDICT, Predict, RELOAD, STATUS, field, floats, metadata_request,
    number_field, outputs, spec, status_request,
};
use crate::support::sidecar::Setup;

fn conforming(model: &str) -> Bytes {
    Predict::new(model).input(INPUT, floats(&[1, 128], &CASE.input_tensor)).bytes()
}

/// A valid PredictRequest that no library writes: the key of the map entry after its value, fields
/// in unusual order, and unknown fields.
fn odd(model: &str, tensor: &[u8]) -> Vec<u8> {
    let mut entry = field(2, tensor);
    entry.extend(field(1, INPUT.as_bytes()));
    let mut spec = field(99, b"unknown in the spec");
    spec.extend(field(1, model.as_bytes()));
    let mut message = number_field(2000, u64::MAX);
    message.extend(field(2, &entry));
    message.extend(field(1, &spec));
    message.extend(field(7, &number_field(6, 1)));
    message.extend(field(1999, b"unknown at the top"));
    message
}

/// The `[1,128]` float32 input of the case in encodings that no library writes.
fn odd_tensors() -> Vec<Vec<u8>> {
    let plain = floats(&[1, 128], &CASE.input_tensor).encode_to_vec();
    // dtype as a varint of three bytes.
    let mut long_number = vec![0x08, 0x81, 0x80, 0x00];
    long_number.extend(&plain[2..]);
    // float_val unpacked, in two runs around an unknown field.
    let mut unpacked = number_field(1, FLOAT as u64);
    let dims = field(2, &[field(2, &number_field(1, 1)), field(2, &number_field(1, 128))].concat());
    for (at, value) in CASE.input_tensor.iter().enumerate() {
        if at == 64 {
            unpacked.extend(field(77, b"between"));
            unpacked.extend(&dims);
        }
        unpacked.push(5 << 3 | 5);
        unpacked.extend(value.to_le_bytes());
    }
    // float_val packed in two pieces, a dimension with a name.
    let mut pieces = number_field(1, FLOAT as u64);
    let mut named = number_field(1, 128);
    named.extend(field(2, b"features"));
    pieces.extend(field(2, &[field(2, &number_field(1, 1)), field(2, &named)].concat()));
    for half in CASE.input_tensor.chunks(64) {
        pieces.extend(field(5, &half.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>()));
    }
    vec![plain, long_number, unpacked, pieces]
}

#[tokio::test]
async fn conforming_requests_arrive_byte_for_byte() {
    let setup = Setup::new([dense::model()]).await;
    for (at, tensor) in odd_tensors().iter().enumerate() {
        let message = odd(dense::MODEL, tensor);
        for chunk in [usize::MAX, 1, 7, 64] {
            let reply = setup.client.call(Request::predict(&message).chunks(chunk)).await.ok();
            dense::assert_case(&outputs(&reply.message)[OUTPUT].float_val);
            assert!(reply.initial("tfs-sidecar-repairs").is_empty(), "{at} in chunks of {chunk}");
            let call = setup.fake.calls_of(PREDICT).pop().unwrap();
            assert_eq!(call.message, message, "{at} in chunks of {chunk}");
            assert_eq!(call.body.len(), message.len() + 5);
        }
    }
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn other_methods_arrive_byte_for_byte() {
    let setup = Setup::new([dense::model()]).await;
    let mut metadata = metadata_request(dense::MODEL).to_vec();
    metadata.extend(field(1999, b"unknown"));
    // The unknown field distinguishes it from the sidecar's own polls.
    let status = [&status_request(dense::MODEL)[..], &field(1999, b"unknown")].concat();
    let examples = ExampleList { examples: vec![Example::default()] };
    let input = Some(Input { kind: Some(Kind::ExampleList(examples)) });
    let classify = ClassificationRequest { model_spec: Some(spec(dense::MODEL)), input }.encode_to_vec();
    for (path, message) in [(METADATA, metadata), (STATUS, status), (CLASSIFY, classify)] {
        let direct = Client::connect(setup.fake.addr()).await;
        let expected = direct.call(Request::new(path, &message)).await.ok();
        let reply = setup.client.call(Request::new(path, &message)).await.ok();
        // Maps have no order, so only the lengths of the answers are compared.
        assert_eq!(reply.message.len(), expected.message.len(), "{path}");
        let same = setup.fake.calls_of(path).iter().filter(|call| call.message == message).count();
        assert_eq!(same, 2, "{path}");
    }
    let reply = setup.client.call(Request::new("/tensorflow.ProfilerService/Monitor", b"\x08\x01")).await;
    let text = "TensorFlow Serving has no such service or method";
    assert_eq!((reply.code, reply.text.as_str()), (12, text));
    assert_eq!(setup.fake.only("/tensorflow.ProfilerService/Monitor").message, &b"\x08\x01"[..]);
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn a_reload_is_refused_unless_allowed() {
    let setup = Setup::new([dense::model()]).await;
    let reply = setup.client.call(Request::new(RELOAD, b"")).await;
    assert_eq!(reply.code, 7, "{}", reply.text);
    assert_eq!(setup.fake.count(RELOAD), 0);
    setup.sidecar.stop().await;

    let setup = Setup::with([dense::model()], |config| config.allow_reload = true).await;
    setup.client.call(Request::new(RELOAD, b"")).await.ok();
    assert_eq!(setup.fake.count(RELOAD), 1);
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn unknown_methods_stream_in_both_directions() {
    let path = "/test.Anything/Stream";
    let options = Options { echoes: vec![path.into()], ..Default::default() };
    let fake = FakeTfs::start_with(options, [dense::model()]);
    let setup = Setup::before(fake, vec![dense::MODEL.into()], |_| {}).await;
    let mut stream = setup.client.stream(Request::raw(path, Bytes::new()).unfinished()).await;
    // Each message comes back before the next is sent, so nothing waits for the end of the stream.
    for message in [&b"one"[..], b"", &vec![7; 100_000]] {
        stream.message(message).await;
        assert_eq!(stream.next().await.unwrap().unwrap(), message);
    }
    stream.close();
    assert_eq!(stream.finish().await.unwrap().code, 0);
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn metadata_is_passed_on_in_both_directions() {
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let options = Options {
        initial_metadata: vec![
            pair("x-server", "first"),
            pair("x-server", "second"),
            pair("x-trace-bin", "AAEC"),
        ],
        trailing_metadata: vec![pair("x-cost", "42")],
        ..Default::default()
    };
    let fake = FakeTfs::start_with(options, [dense::model()]);
    let setup = Setup::before(fake, vec![dense::MODEL.into()], |_| {}).await;
    for message in [
        conforming(dense::MODEL),
        Predict::new(dense::MODEL).input(INPUT, floats(&[128], &CASE.input_tensor)).bytes(),
    ] {
        let request = Request::predict(&message)
            .metadata("authorization", "Bearer abc")
            .metadata("x-many", "1")
            .metadata("x-many", "2")
            .metadata("x-raw-bin", "AAECAw")
            .metadata("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
        let reply = setup.client.call(request).await.ok();
        assert_eq!(reply.initial("x-server"), ["first", "second"]);
        assert_eq!(reply.initial("x-trace-bin"), ["AAEC"]);
        assert_eq!(reply.trailer("x-cost"), ["42"]);
        let headers = setup.fake.calls_of(PREDICT).pop().unwrap().headers;
        assert_eq!(headers["authorization"], "Bearer abc");
        assert_eq!(headers.get_all("x-many").iter().collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(headers["x-raw-bin"], "AAECAw");
        assert_eq!(headers["te"], "trailers");
        let trace = headers["traceparent"].to_str().unwrap();
        assert!(trace.starts_with("00-0af7651916cd43dd8448eb211c80319c-"), "{trace}");
    }
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn errors_of_the_server_keep_code_text_and_details() {
    let setup = Setup::new([dense::model()]).await;
    let details = Bytes::from_static(b"\x08\x08\x12\x05hello");
    let text = "quota: 100% used\n\t[[node]] \u{e9}";
    let act = Act::Details { code: 8, text: text.into(), details: details.clone() };
    setup.fake.script(PREDICT, 2, act);
    let reply = setup.client.predict(&conforming(dense::MODEL)).await;
    assert_eq!((reply.code, reply.text.as_str(), reply.details()), (8, text, Some(details.clone())));
    assert!(reply.trailer("tfs-sidecar-repair").is_empty());

    // The trailers of a repaired call report the repair if the server refuses the call.
    let flat = Predict::new(dense::MODEL).input(INPUT, floats(&[128], &CASE.input_tensor)).bytes();
    let reply = setup.client.predict(&flat).await;
    assert_eq!((reply.code, reply.details()), (8, Some(details)));
    assert!(reply.text.starts_with(text), "{}", reply.text);
    assert_eq!(reply.trailer("tfs-sidecar-repair"), ["input_tensor;add_batch_dim;[128]->[1,128]"]);
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn messages_of_ten_megabytes_pass_in_both_directions() {
    let count = 2_400_000;
    let values: Vec<f32> = (0..count).map(|at| at as f32).collect();
    let sig = Sig::new("serving_default").input("x", FLOAT, &[-1, count]).output("y", FLOAT, &[-1, count]);
    let setup = Setup::new([Model::new("large").version(1, [sig])]).await;
    let conforming = Predict::new("large").input("x", floats(&[1, count], &values)).bytes();
    let flat = Predict::new("large").input("x", floats(&[count], &values)).bytes();
    for (message, repairs) in [(&conforming, 0), (&flat, 1)] {
        let reply = setup.client.predict(message).await.ok();
        assert_eq!(reply.repairs().len(), repairs);
        let answer = &outputs(&reply.message)["y"];
        assert_eq!((dense::dims(answer), answer.tensor_content.len()), (vec![1, count], 4 * count as usize));
        // Not `assert_eq!`, which would print ten million bytes.
        assert!(answer.tensor_content == floats(&[1, count], &values).tensor_content);
    }
    assert!(setup.fake.calls_of(PREDICT)[0].message == conforming);
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn compressed_requests_and_answers_work() {
    let setup = Setup::new([dense::model()]).await;
    let message = conforming(dense::MODEL);
    let request = Request::gzip(PREDICT, &message);
    let reply = setup.client.call(request).await.ok();
    dense::assert_case(&outputs(&reply.message)[OUTPUT].float_val);
    let call = setup.fake.calls_of(PREDICT).pop().unwrap();
    assert_eq!((call.message, call.compressed), (message, true), "a conforming request stays compressed");
    assert_eq!(call.headers["grpc-encoding"], "gzip");

    let flat = Predict::new(dense::MODEL).input(INPUT, floats(&[128], &CASE.input_tensor)).bytes();
    let reply = setup.client.call(Request::gzip(PREDICT, &flat)).await.ok();
    dense::assert_case(&outputs(&reply.message)[OUTPUT].float_val);
    assert_eq!(reply.repairs().len(), 1);
    assert!(
        !setup.fake.calls_of(PREDICT).pop().unwrap().compressed,
        "a repaired request is sent uncompressed"
    );

    setup.fake.script(PREDICT, 1, Act::Gzip);
    let request =
        Request::predict(&conforming(dense::MODEL)).metadata("grpc-accept-encoding", "gzip,identity");
    let reply = setup.client.call(request).await.ok();
    assert_eq!(reply.initial("grpc-encoding"), ["gzip"]);
    dense::assert_case(&outputs(&reply.message)[OUTPUT].float_val);
    setup.sidecar.stop().await;
}
