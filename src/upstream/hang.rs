//! Notices a server that neither answers calls nor PINGs, while its connection stays open: a
//! stopped process, or a host that is gone.
//!
//! Nothing is sent until a metadata request goes unanswered. gRPC servers end connections that PING
//! often without data in between, so there are few PINGs even then.
use std::future::poll_fn;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::transport::frames::Peer;

/// A server that is alive answers a PING in milliseconds, whatever its calls wait for.
pub(super) const PONG_WITHIN: Duration = Duration::from_secs(5);
/// gRPC servers allow two PINGs without an answer to a call in between, and one more after five
/// minutes.
const FREE_PINGS: u32 = 2;
const NEXT_PING_AFTER: Duration = Duration::from_secs(6 * 60);

/// Returns when the server hangs. `suspicions` changes when a request goes unanswered.
pub(super) async fn hung(pings: Option<h2::PingPong>, peer: &Peer, mut suspicions: watch::Receiver<u64>) {
    let Some(mut pings) = pings else { return std::future::pending().await };
    let mut answers = peer.answers.get();
    let mut free = FREE_PINGS;
    let mut last = Instant::now();
    while suspicions.changed().await.is_ok() {
        if peer.answers.get() != answers {
            free = FREE_PINGS;
        }
        if free == 0 && last.elapsed() < NEXT_PING_AFTER {
            continue;
        }
        free = free.saturating_sub(1);
        last = Instant::now();
        answers = peer.answers.get();
        // Fails only if a PING is still under way: the answer to that one will do.
        pings.send_ping(h2::Ping::opaque()).ok();
        let pong = poll_fn(|cx| pings.poll_pong(cx));
        if tokio::time::timeout(PONG_WITHIN, pong).await.is_err() && peer.answers.get() == answers {
            return;
        }
    }
    std::future::pending::<()>().await;
}
