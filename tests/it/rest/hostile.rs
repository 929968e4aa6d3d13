//! Bodies that are made to hang or crash a parser, and requests that two parsers read differently.
use super::*;
use crate::support::requests::PREDICT;
use crate::support::rest::Http;

#[tokio::test]
async fn hostile_bodies_are_answered_while_others_are_served() {
    let setup = serve_with(echo(FLOAT, &[-1, 3]), |config| config.limits.max_message_bytes = 40 << 20).await;
    let keys = format!(r#"{{"instances": [{{{}"x": [1, 2, 3]}}]}}"#, r#""x":[1],"#.repeat(1_000_000));
    let bodies = [
        "[".repeat(20_000),
        format!(r#"{{"instances": {}"#, "[".repeat(20_000)),
        format!(r#"{{"instances": {}{}}}"#, "[".repeat(20_000), "]".repeat(20_000)),
        r#"{"a":"#.repeat(20_000),
        r#"{"instances": [[1e400, 1, 2]]}"#.to_owned(),
        format!(r#"{{"instances": [[{}, 1, 2]]}}"#, "9".repeat(1_000_000)),
        keys,
        " ".repeat(30_000_000),
        String::new(),
        "\0".to_owned(),
        "nan".to_owned(),
    ];
    let addr = setup.sidecar.rest.clone();
    let model = name();
    let attack = tokio::spawn(async move {
        for body in bodies {
            let answer = Ask::predict(&model, &body).send(&addr).await;
            let start = &body[..body.len().min(40)];
            assert_eq!(answer.status, 400, "{start}: {}", answer.text());
            assert!(answer.body.len() < 100_000, "{start}: {} bytes", answer.body.len());
        }
    });
    let mut served = 0;
    while !attack.is_finished() || served < 10 {
        predict(&setup, r#"{"instances": [[1, 2, 3]]}"#).await.ok();
        served += 1;
    }
    attack.await.unwrap();
    assert_eq!(setup.fake.count(PREDICT), served, "no hostile body reaches the model");
    setup.sidecar.stop().await;
}

/// What may be a second request is never run, whichever length is believed.
#[tokio::test]
async fn requests_of_doubtful_length_are_refused() {
    let setup = serve(echo(FLOAT, &[-1, 3])).await;
    let body = r#"{"instances": [[1, 2, 3]]}"#;
    let length = body.len();
    let hidden = String::from_utf8(Ask::predict(&name(), body).bytes()).unwrap();
    let path = format!("/v1/models/{}:predict", name());
    for headers in [
        format!("content-length: {length}\r\ncontent-length: 0\r\n"),
        format!("content-length: 0\r\ncontent-length: {length}\r\n"),
        format!("content-length: {length}, 0\r\n"),
        format!("content-length: +{length}\r\n"),
        format!("content-length: -{length}\r\n"),
        "content-length: 0x10\r\n".to_owned(),
        "transfer-encoding: chunked, identity\r\n".to_owned(),
        "transfer-encoding: xchunked\r\n".to_owned(),
        format!("content-length : {length}\r\n"),
    ] {
        let mut http = Http::connect(&setup.sidecar.rest).await;
        let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\n{headers}\r\n");
        http.send(format!("{head}{body}{hidden}").as_bytes()).await;
        let answer = http.answer().await;
        assert_eq!(answer.status, 400, "{headers}: {}", answer.text());
        http.closes().await;
    }
    assert_eq!(setup.fake.count(PREDICT), 0);
    setup.sidecar.stop().await;
}

/// hyper takes the chunks and drops the length (RFC 9112, section 6.3), and closes the connection
/// behind the answer: what follows is no request.
#[tokio::test]
async fn chunks_come_before_a_length() {
    let setup = serve(echo(FLOAT, &[-1, 3])).await;
    let body = r#"{"instances": [[1, 2, 3]]}"#;
    let path = format!("/v1/models/{}:predict", name());
    let mut http = Http::connect(&setup.sidecar.rest).await;
    let request = Ask::chunked(&path, &[body.as_bytes()]).header("content-length", "4");
    http.send(&[request.bytes(), request.bytes()].concat()).await;
    http.answer().await.ok();
    http.closes().await;
    assert_eq!(setup.fake.count(PREDICT), 1);
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn heads_that_are_too_large_or_no_http_are_refused() {
    let setup = serve(echo(FLOAT, &[-1, 3])).await;
    let long = format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "a".repeat(100_000));
    let wide = format!("GET / HTTP/1.1\r\nhost: x\r\na: {}\r\n\r\n", "a".repeat(100_000));
    let many = format!("GET / HTTP/1.1\r\nhost: x\r\n{}\r\n", "a: b\r\n".repeat(1000));
    for head in [long.as_str(), &wide, &many, "hello\r\n\r\n", "GET / HTTP/1.1\r\n a: b\r\n\r\n"] {
        let mut http = Http::connect(&setup.sidecar.rest).await;
        http.send(head.as_bytes()).await;
        if let Some(answer) = http.read(true).await {
            assert!((400..500).contains(&answer.status), "{}: {}", answer.status, &head[..20]);
        }
    }
    predict(&setup, r#"{"instances": [[1, 2, 3]]}"#).await.ok();
    setup.sidecar.stop().await;
}
