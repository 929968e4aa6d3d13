//! Write coalescing over a scripted socket: one write per poll, bytes in order, no failure lost.
use std::collections::VecDeque;
use std::future::poll_fn;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

/// A socket whose writes are scripted: take so many bytes, none yet, or fail.
#[derive(Debug, Default)]
struct Scripted {
    takes: VecDeque<Take>,
    calls: Vec<Vec<u8>>,
    flushed: usize,
    shut: bool,
    reads: VecDeque<Vec<u8>>,
    asked: Vec<usize>,
}

#[derive(Debug, Clone, Copy)]
enum Take {
    Bytes(usize),
    NotNow,
    Break,
}

impl AsyncWrite for Scripted {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let most = match self.takes.pop_front().unwrap_or(Take::Bytes(usize::MAX)) {
            Take::Bytes(most) => most,
            Take::NotNow => {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Take::Break => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        };
        let mut all = Vec::new();
        for buf in bufs {
            all.extend_from_slice(&buf[..buf.len().min(most - all.len())]);
        }
        let count = all.len();
        self.calls.push(all);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.flushed = self.calls.len();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shut = true;
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Scripted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.asked.push(buf.remaining());
        if let Some(bytes) = self.reads.pop_front() {
            buf.put_slice(&bytes);
        }
        Poll::Ready(Ok(()))
    }
}

fn scripted(takes: impl IntoIterator<Item = Take>) -> Scripted {
    Scripted { takes: takes.into_iter().collect(), ..Scripted::default() }
}

fn calls<S>(shared: &Rc<RefCell<Shared<S>>>, of: impl FnOnce(&S) -> Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    of(&shared.borrow().socket)
}

#[tokio::test]
async fn each_poll_is_one_write() {
    let (mut io, flush) = coalesce(scripted([]), Filter::off());
    let shared = Rc::clone(&flush.0);
    flush
        .of(async {
            for byte in 0..20_u8 {
                io.write_all(&[byte]).await.unwrap();
                io.flush().await.unwrap();
            }
            assert!(calls(&io.shared, |socket| socket.calls.clone()).is_empty());
            tokio::task::yield_now().await;
            io.write_all(b"next").await.unwrap();
        })
        .await;
    let expected = [(0..20).collect::<Vec<u8>>(), b"next".to_vec()];
    assert_eq!(calls(&shared, |socket| socket.calls.clone()), expected);
    assert_eq!(shared.borrow().socket.flushed, 2, "the socket itself is flushed");
    assert_eq!(shared.borrow().buffer.capacity(), 0, "nothing to write, no memory");
}

#[tokio::test]
async fn a_deferred_flush_of_few_bytes_waits_for_one_more_poll() {
    let (mut io, flush) = coalesce(scripted([]), Filter::off());
    let shared = Rc::clone(&flush.0);
    let many = vec![7; MAX / 2];
    flush
        .deferred()
        .of(async {
            for bytes in [b"one".as_slice(), b"two", b"three", &many, b"four"] {
                io.write_all(bytes).await.unwrap();
                tokio::task::yield_now().await;
            }
        })
        .await;
    let expected = [b"onetwo".to_vec(), [b"three".as_slice(), &many].concat(), b"four".to_vec()];
    assert_eq!(calls(&shared, |socket| socket.calls.clone()), expected);
}

#[tokio::test]
async fn a_large_payload_is_written_after_the_buffer_in_the_same_call() {
    let (mut io, flush) = coalesce(scripted([]), Filter::off());
    let shared = Rc::clone(&flush.0);
    let large = vec![7; MAX];
    flush
        .of(async {
            io.write_all(b"head").await.unwrap();
            let written = poll_fn(|cx| {
                Pin::new(&mut io).poll_write_vectored(cx, &[IoSlice::new(b"more"), IoSlice::new(&large)])
            });
            assert_eq!(written.await.unwrap(), 4 + MAX);
        })
        .await;
    let expected = [[b"headmore".as_slice(), large.as_slice()].concat()];
    assert_eq!(calls(&shared, |socket| socket.calls.clone()), expected);
}

#[tokio::test]
async fn every_byte_arrives_once_and_in_order_whatever_the_socket_takes() {
    let steps = [
        Take::NotNow,
        Take::Bytes(1),
        Take::Bytes(MAX),
        Take::NotNow,
        Take::Bytes(3),
        Take::Bytes(100_000),
        Take::Bytes(5),
    ];
    for seed in 0..60_usize {
        let takes = (0..40).map(|at| steps[(seed * 31 + at * (seed % 5 + 1)) % steps.len()]);
        let (mut io, flush) = coalesce(scripted(takes), Filter::off());
        let shared = Rc::clone(&flush.0);
        let mut expected = Vec::new();
        flush
            .of(async {
                for at in 0..30_usize {
                    let size = [1, 17, 900, 16_384, MAX, MAX + 1, 3 * MAX][(seed + at * 3) % 7];
                    let bytes: Vec<u8> = (0..size).map(|n| (n * 7 + at) as u8).collect();
                    io.write_all(&bytes).await.unwrap();
                    expected.extend(bytes);
                    assert!(io.shared.borrow().pending() <= MAX, "the buffer has a limit");
                    if (seed + at).is_multiple_of(4) {
                        tokio::task::yield_now().await;
                    }
                }
                io.shutdown().await.unwrap();
            })
            .await;
        let shared = shared.borrow();
        assert_eq!(shared.socket.calls.concat(), expected, "{seed}");
        assert!(shared.socket.shut);
    }
}

#[tokio::test]
async fn a_flush_that_fails_is_an_error_of_the_next_read_and_write() {
    let (mut io, flush) = coalesce(scripted([Take::Break]), Filter::off());
    let failed = flush.of(async {
        io.write_all(b"lost").await.unwrap();
        tokio::task::yield_now().await;
        let read = io.read_u8().await.unwrap_err().kind();
        (read, io.write_all(b"more").await.unwrap_err().kind())
    });
    assert_eq!(failed.await, (io::ErrorKind::BrokenPipe, io::ErrorKind::BrokenPipe));
}

#[tokio::test]
async fn small_reads_are_served_from_one_large_read() {
    let bytes: Vec<u8> = (0..10_000).map(|n| n as u8).collect();
    let reads = [bytes.clone(), bytes.clone()].into();
    let (mut io, flush) = coalesce(Scripted { reads, ..Scripted::default() }, Filter::off());
    let shared = Rc::clone(&flush.0);
    let read = flush.of(async {
        let mut all = Vec::new();
        let mut piece = [0; 3_000];
        while all.len() < bytes.len() {
            let count = io.read(&mut piece).await.unwrap();
            all.extend_from_slice(&piece[..count]);
        }
        assert_eq!(all, bytes);
        assert_eq!(io.shared.borrow().read_buffer.len(), 0, "used up, no memory");
        // A large read is not copied, and the end of the file is passed on.
        let mut large = vec![0; MAX];
        assert_eq!(io.read(&mut large).await.unwrap(), bytes.len());
        assert_eq!(io.read(&mut piece).await.unwrap(), 0);
        large[..bytes.len()].to_vec()
    });
    assert_eq!(read.await, bytes);
    assert_eq!(shared.borrow().socket.asked, [MAX, MAX, MAX]);
}

#[tokio::test]
async fn a_connection_gets_only_so_many_frames_and_bytes_in_one_poll() {
    /// What each poll of the connection's task could read.
    async fn polls(frame: &[u8], count: usize) -> Vec<usize> {
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        let all = frame.repeat(count);
        let reads = std::iter::once(preface).chain(all.chunks(MAX).map(<[u8]>::to_vec)).collect();
        let (mut io, flush) = coalesce(Scripted { reads, ..Scripted::default() }, Filter::client());
        let mut polls = vec![0];
        let reading = poll_fn(|cx| {
            let mut piece = [0; 8_192];
            loop {
                let mut buf = ReadBuf::new(&mut piece);
                match Pin::new(&mut io).poll_read(cx, &mut buf) {
                    Poll::Ready(read) => read.unwrap(),
                    Poll::Pending => {
                        polls.push(0);
                        return Poll::Pending;
                    }
                }
                if buf.filled().is_empty() {
                    return Poll::Ready(());
                }
                *polls.last_mut().unwrap() += buf.filled().len();
            }
        });
        flush.of(reading).await;
        polls
    }
    let trailers = [0, 0, 1, 1, 5, 0, 0, 0, 1, 0x88];
    let many = polls(&trailers, 1_000).await;
    assert!(many.len() >= 4 && many.iter().all(|bytes| *bytes <= 24 + 256 * trailers.len()), "{many:?}");
    assert_eq!(many.iter().sum::<usize>(), 24 + 1_000 * trailers.len(), "and nothing is lost");

    let mut long = vec![0, 0x40, 0, 0, 0, 0, 0, 0, 1];
    long.resize(long.len() + 0x4000, 7);
    let many = polls(&long, 200).await;
    assert!(many.len() >= 5 && many.iter().all(|bytes| *bytes <= 700_000), "{many:?}");
    assert_eq!(many.iter().sum::<usize>(), 24 + 200 * long.len());
}
