//! HTTP/2 written by hand: frames that no library would send.
use std::io;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::task::JoinHandle;

use super::dial::{Dial, Socket};

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const INITIAL_WINDOW_SIZE: u16 = 4;
const MAX_FRAME_SIZE: u16 = 5;

/// What the attacker does with what the sidecar sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reads {
    /// Reads everything and grants its connection window again.
    Yes,
    /// Leaves it in the socket.
    No,
}

/// A connection on which every frame is written by hand.
#[derive(Debug)]
pub struct Raw {
    write: WriteHalf<Socket>,
    reader: Result<JoinHandle<u64>, ReadHalf<Socket>>,
}

impl Raw {
    /// Connects and sends the preface; `window` is what each stream may be sent.
    pub async fn connect(addr: &str, window: u32, reads: Reads) -> io::Result<Self> {
        Self::dial(&Dial::plain(addr), window, reads).await
    }

    pub async fn dial(dial: &Dial, window: u32, reads: Reads) -> io::Result<Self> {
        let (mut read, mut write) = tokio::io::split(dial.connect().await?);
        write.write_all(PREFACE).await?;
        let mut settings = setting(INITIAL_WINDOW_SIZE, window);
        settings.extend(setting(MAX_FRAME_SIZE, 1 << 20));
        write.write_all(&frame(SETTINGS, 0, 0, &settings)).await?;
        write.write_all(&frame(SETTINGS, 1, 0, &[])).await?;
        // Far beyond what any answer needs.
        write.write_all(&frame(WINDOW_UPDATE, 0, 0, &0x3fff_ffffu32.to_be_bytes())).await?;
        write.flush().await?;
        let reader = match reads {
            Reads::Yes => Ok(tokio::spawn(async move {
                let mut buffer = vec![0; 64 << 10];
                let mut total = 0;
                while let Ok(count @ 1..) = read.read(&mut buffer).await {
                    total += count as u64;
                }
                total
            })),
            Reads::No => Err(read),
        };
        Ok(Self { write, reader })
    }

    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write.write_all(bytes).await?;
        self.write.flush().await
    }

    pub async fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> io::Result<()> {
        self.send(&frame(kind, flags, stream, payload)).await
    }

    /// Opens a gRPC call of this path.
    pub async fn open(&mut self, stream: u32, path: &str) -> io::Result<()> {
        self.send(&open(stream, path)).await
    }

    /// Whether the sidecar has closed the connection; only if it is read.
    pub fn is_closed(&self) -> bool {
        self.reader.as_ref().is_ok_and(JoinHandle::is_finished)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Ok(reader) = &self.reader {
            reader.abort();
        }
    }
}

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    let mut out = Vec::with_capacity(9 + payload.len());
    out.extend_from_slice(&[length[1], length[2], length[3], kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
    out
}

/// HEADERS of a gRPC call.
pub fn open(stream: u32, path: &str) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &header_block(path, &[]))
}

/// A header block without Huffman codes and without the dynamic table.
pub fn header_block(path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    // Static table: 3 is `:method: POST`, 6 is `:scheme: http`, 4 is `:path`, 1 is `:authority`.
    let mut block = vec![0x83, 0x86, 0x04];
    string(path, &mut block);
    block.push(0x01);
    string("sidecar", &mut block);
    for (name, value) in [("content-type", "application/grpc"), ("te", "trailers")].iter().chain(more) {
        block.push(0);
        string(name, &mut block);
        string(value, &mut block);
    }
    block
}

/// An HPACK string literal: its length with a prefix of 7 bits, then its bytes.
fn string(text: &str, block: &mut Vec<u8>) {
    let mut length = text.len();
    if length < 127 {
        block.push(length as u8);
    } else {
        block.push(127);
        length -= 127;
        while length >= 128 {
            block.push(length as u8 | 0x80);
            length >>= 7;
        }
        block.push(length as u8);
    }
    block.extend_from_slice(text.as_bytes());
}

fn setting(id: u16, value: u32) -> Vec<u8> {
    let mut out = id.to_be_bytes().to_vec();
    out.extend_from_slice(&value.to_be_bytes());
    out
}

/// A body in DATA frames of at most `size` bytes, the last with END_STREAM.
pub fn data_frames(stream: u32, body: &[u8], size: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len() + body.len() / size * 9 + 9);
    let last = body.len().saturating_sub(1) / size;
    for (at, chunk) in body.chunks(size).enumerate() {
        out.extend(frame(DATA, if at == last { END_STREAM } else { 0 }, stream, chunk));
    }
    out
}
