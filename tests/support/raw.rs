//! HTTP/2 by hand: a client that sees every frame, and answers only what a test wants.
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::within;

pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
const ACK: u8 = 1;

/// A connection whose frames are read and written one at a time.
#[derive(Debug)]
pub struct Raw(TcpStream);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub is_ack: bool,
    pub payload: Vec<u8>,
}

impl Raw {
    /// Connects and sends the preface with empty settings.
    pub async fn connect(addr: &str) -> Self {
        let mut raw = Self(TcpStream::connect(addr).await.unwrap());
        raw.0.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        raw.send(SETTINGS, 0, &[]).await;
        raw
    }

    pub async fn ack_ping(&mut self, payload: &[u8]) {
        self.send(PING, ACK, payload).await;
    }

    /// Sends a frame of the whole connection.
    async fn send(&mut self, kind: u8, flags: u8, payload: &[u8]) {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let head = [&length[1..], &[kind, flags], &[0; 4]].concat();
        self.0.write_all(&[&head, payload].concat()).await.unwrap();
    }

    /// The next frame of these kinds; `None` at the end of the connection. Settings are
    /// acknowledged.
    pub async fn next(&mut self, kinds: &[u8]) -> Option<Frame> {
        within(&format!("a frame of {kinds:?}"), async {
            loop {
                let mut head = [0; 9];
                self.0.read_exact(&mut head).await.ok()?;
                let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
                let mut payload = vec![0; length];
                self.0.read_exact(&mut payload).await.ok()?;
                let frame = Frame { kind: head[3], is_ack: head[4] & ACK != 0, payload };
                if frame.kind == SETTINGS && !frame.is_ack {
                    self.send(SETTINGS, ACK, &[]).await;
                }
                if kinds.contains(&frame.kind) {
                    return Some(frame);
                }
            }
        })
        .await
    }
}
