//! Connections: keep-alive, pipelining, interim answers, methods, CORS, limits, deadlines, drain.
use std::time::Duration;

use tokio::net::TcpListener;

use super::*;
use crate::support::admin;
use crate::support::client::Client;
use crate::support::requests::PREDICT;
use crate::support::rest::Http;
use crate::support::within;

fn row(number: u32) -> Ask {
    Ask::predict(&name(), format!(r#"{{"instances": [[{number}, 2, 3]]}}"#))
}

fn first(answer: Answer) -> f64 {
    answer.ok().json()["predictions"][0][0].as_f64().unwrap()
}

#[tokio::test]
async fn a_connection_serves_many_requests_and_pipelined_ones_in_order() {
    let setup = serve(echo(FLOAT, &[-1, 3])).await;
    let mut http = Http::connect(&setup.sidecar.rest).await;
    for number in 0..20 {
        assert_eq!(first(http.call(&row(number)).await), f64::from(number));
    }
    // An error does not end the connection.
    assert_eq!(http.call(&Ask::predict(&name(), "{")).await.status, 400);
    let all: Vec<u8> = (0..20).flat_map(|number| row(number).bytes()).collect();
    http.send(&all).await;
    for number in 0..20 {
        assert_eq!(first(http.answer().await), f64::from(number));
    }
    http.call(&row(1).header("connection", "close")).await.ok();
    http.closes().await;
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn a_client_that_expects_it_is_told_to_continue() {
    let setup = serve_with(echo(FLOAT, &[-1, 3]), |config| config.limits.max_message_bytes = 1000).await;
    let mut http = Http::connect(&setup.sidecar.rest).await;
    let request = row(5).header("expect", "100-continue").bytes();
    let head = request.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    http.send(&request[..head]).await;
    assert_eq!(http.head().await.status, 100);
    http.send(&request[head..]).await;
    assert_eq!(first(http.answer().await), 5.0);
    // A body that is too large is not asked for.
    let mut http = Http::connect(&setup.sidecar.rest).await;
    let request = Ask::predict(&name(), " ".repeat(2000)).header("expect", "100-continue").bytes();
    http.send(&request[..request.len() - 2000]).await;
    assert_eq!(http.answer().await.status, 413);
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn methods_and_paths_that_are_none_of_the_api() {
    let setup = serve(echo(FLOAT, &[-1, 3])).await;
    let mut http = Http::connect(&setup.sidecar.rest).await;
    for method in ["BREW", "TRACE", "PROPFIND"] {
        assert_eq!(http.call(&Ask::of(method, "/v1/models/m")).await.status, 501, "{method}");
    }
    let answer = http.call(&Ask::get("/monitoring/prometheus/metrics")).await;
    assert_eq!((answer.status, answer.error().as_str()), (404, "Not Found"));
    let model = format!("/v1/models/{}", name());
    for path in ["/v1/openapi.json", &model, &format!("{model}/metadata"), "/v1/models/none", "/elsewhere"] {
        let get = http.call(&Ask::get(path)).await;
        http.send(&Ask::of("HEAD", path).bytes()).await;
        let head = http.head().await;
        let of =
            |answer: &Answer| (answer.status, answer.header("content-length"), answer.header("content-type"));
        assert_eq!(of(&head), of(&get), "{path}");
        assert_eq!(get.header("content-length"), get.body.len().to_string());
        // The next answer begins right behind the head.
        assert_eq!(first(http.call(&row(3)).await), 3.0);
    }
    http.send(&Ask::of("HEAD", &format!("{model}:predict")).bytes()).await;
    assert_eq!(http.head().await.status, 400);
    assert_eq!(first(http.call(&row(3)).await), 3.0);
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn pages_of_configured_origins_may_use_the_api() {
    let setup = serve_with(echo(FLOAT, &[-1, 3]), |config| {
        config.rest_cors = vec!["https://a.example".to_owned()];
    })
    .await;
    for (origin, allowed) in [("https://a.example", "https://a.example"), ("https://b.example", "")] {
        let preflight = Ask::of("OPTIONS", &format!("/v1/models/{}:predict", name()))
            .header("origin", origin)
            .header("access-control-request-method", "POST");
        for (request, status) in [(preflight, 200), (row(1).header("origin", origin), 200)] {
            let answer = request.send(&setup.sidecar.rest).await;
            assert_eq!(answer.status, status);
            assert_eq!(answer.header("access-control-allow-origin"), allowed);
        }
    }
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn what_is_not_below_v1_is_passed_to_the_rest_port_of_tensorflow_serving() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = listener.local_addr().unwrap().to_string();
    let setup = serve_with(echo(FLOAT, &[-1, 3]), |config| {
        config.rest_upstream = Some(upstream.parse().unwrap());
    })
    .await;
    let server = tokio::spawn(async move {
        let mut http = Http::over(listener.accept().await.unwrap().0);
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.push(tokio::io::AsyncReadExt::read_u8(&mut http.socket).await.unwrap());
        }
        http.send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok").await;
        String::from_utf8(request).unwrap().to_ascii_lowercase()
    });
    let request =
        Ask::get("/monitoring/prometheus/metrics?a=b").header("connection", "x-hop").header("x-hop", "1");
    let mut http = Http::connect(&setup.sidecar.rest).await;
    let answer = http.call(&request).await.ok();
    assert_eq!((answer.text().as_str(), answer.header("connection").as_str()), ("ok", ""));
    let passed = server.await.unwrap();
    assert!(passed.starts_with("get /monitoring/prometheus/metrics?a=b http/1.1\r\n"), "{passed}");
    assert!(passed.contains(&format!("host: {upstream}\r\n")) && !passed.contains("x-hop"), "{passed}");
    // The port is gone.
    assert_eq!(http.call(&Ask::get("/elsewhere")).await.status, 503);
    assert_eq!(first(http.call(&row(3)).await), 3.0);
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_answered_504() {
    let setup = serve(echo(FLOAT, &[-1, 3])).await;
    for (header, value) in [("x-timeout", "0.05"), ("x-timeout", "50ms"), ("grpc-timeout", "50m")] {
        let gate = setup.fake.hold(PREDICT, 1);
        let answer = row(1).header(header, value).send(&setup.sidecar.rest).await;
        assert_eq!(answer.status, 504, "{header}: {}", answer.text());
        gate.open();
    }
    assert_eq!(row(1).header("x-timeout", "soon").send(&setup.sidecar.rest).await.status, 400);
    setup.sidecar.stop().await;

    let setup =
        serve_with(echo(FLOAT, &[-1, 3]), |config| config.rest_timeout = Duration::from_millis(50)).await;
    let _gate = setup.fake.hold(PREDICT, 1);
    assert_eq!(row(1).send(&setup.sidecar.rest).await.status, 504);
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn too_many_requests_in_flight_are_answered_429() {
    let setup = serve_with(echo(FLOAT, &[-1, 3]), |config| config.limits.max_inflight_requests = 1).await;
    let gate = setup.fake.hold(PREDICT, 1);
    let mut held = Http::connect(&setup.sidecar.rest).await;
    held.send(&row(1).bytes()).await;
    setup.fake.called(PREDICT, 1).await;
    let answer = row(2).send(&setup.sidecar.rest).await;
    assert_eq!(answer.status, 429, "{}", answer.text());
    assert!(answer.header("retry-after").parse::<u32>().unwrap() >= 1);
    assert_eq!(answer.json()["details"][0]["reason"], "QUEUE_FULL");
    gate.open();
    assert_eq!(first(held.answer().await), 1.0);
    row(3).send(&setup.sidecar.rest).await.ok();
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn connections_of_both_listeners_are_counted_together() {
    let setup = serve_with(echo(FLOAT, &[-1, 3]), |config| config.limits.max_connections = 3).await;
    // The client of the setup is one.
    let mut open = Vec::new();
    within("a refused connection", async {
        loop {
            let mut http = Http::connect(&setup.sidecar.rest).await;
            http.send(&row(1).bytes()).await;
            match http.read(true).await {
                Some(_) => open.push(http),
                None if open.len() >= 2 => break,
                None => {}
            }
        }
    })
    .await;
    assert_eq!(open.len(), 2);
    let refused = match Client::try_connect(&setup.sidecar.grpc).await {
        Ok(client) => client.try_call(crate::support::client::Request::predict(b"")).await.is_err(),
        Err(_) => true,
    };
    assert!(refused);
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn a_drain_finishes_requests_and_closes_connections() {
    let setup = serve(echo(FLOAT, &[-1, 3])).await;
    let mut idle = Http::connect(&setup.sidecar.rest).await;
    idle.call(&row(1)).await.ok();
    let gate = setup.fake.hold(PREDICT, 1);
    let mut held = Http::connect(&setup.sidecar.rest).await;
    held.send(&row(7).bytes()).await;
    setup.fake.called(PREDICT, 2).await;
    let addr = setup.sidecar.admin.clone();
    let drained = tokio::spawn(async move { admin::post(&addr, "/drain").await });
    idle.closes().await;
    assert!(!drained.is_finished());
    gate.open();
    let answer = held.answer().await;
    assert_eq!(answer.header("connection"), "close");
    assert_eq!(first(answer), 7.0);
    held.closes().await;
    assert_eq!(drained.await.unwrap().status, 200);
    setup.sidecar.stop().await;
}
