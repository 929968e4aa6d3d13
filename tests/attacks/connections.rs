//! Connections that are opened and not used as they are meant to be.
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::support::attacks::comes_and_goes;
use crate::support::dial::Dial;
use crate::support::frames::Reads;
use crate::support::pace::pause;
use crate::trial::{Trial, hold_many};

#[tokio::test]
async fn idle_connections_by_the_thousand() {
    let trial = Trial::new("2,000 idle connections").await;
    trial.run(async |addr, stop| hold_many(&addr, &stop, 2_000, 1 << 20, Reads::No, b"").await).await;
}

#[tokio::test]
async fn connections_that_never_say_hello() {
    let trial = Trial::new("2,000 silent connections").await;
    trial
        .run(async |addr, stop| {
            let mut connections = Vec::new();
            while connections.len() < 2_000 && !stop.is_cancelled() {
                connections.push(TcpStream::connect(&addr).await.unwrap());
            }
            stop.cancelled().await;
        })
        .await;
}

#[tokio::test]
async fn connections_that_come_and_go() {
    let trial = Trial::new("connections that are opened and closed").await;
    trial
        .run(async |addr, stop| {
            comes_and_goes(&Dial::plain(&addr), &stop, Duration::ZERO, 50).await;
        })
        .await;
}

#[tokio::test]
async fn slow_requests_to_the_admin_listener() {
    let trial = Trial::new("500 unfinished requests to the admin listener").await;
    let admin = trial.sidecar.admin.clone();
    trial
        .run(async move |_, stop| {
            let mut connections = Vec::new();
            while connections.len() < 500 && !stop.is_cancelled() {
                let mut socket = TcpStream::connect(&admin).await.unwrap();
                socket.write_all(b"GET /livez HTTP/1.1\r\nhost: 127.0.0.1\r\nx: ").await.ok();
                connections.push(socket);
            }
            while !stop.is_cancelled() {
                for socket in &mut connections {
                    socket.write_all(b"y").await.ok();
                }
                pause(Duration::from_millis(500)).await;
            }
        })
        .await;
}
