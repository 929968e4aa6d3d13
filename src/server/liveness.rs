//! Whether the shards make progress: each answers a ping from its own runtime.
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

/// How long a shard may take to answer. A shard under ordinary load answers within milliseconds.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// Pings that may wait for a shard. More than that are a sign of a stuck one.
const MAX_WAITING: usize = 16;

type Ping = oneshot::Sender<()>;

/// Pings all shards.
#[derive(Debug, Clone, Default)]
pub(super) struct Pings(Vec<mpsc::Sender<Ping>>);

/// A shard's end.
#[derive(Debug)]
pub(super) struct PingReceiver(mpsc::Receiver<Ping>);

impl Pings {
    pub(super) fn new(shards: usize) -> (Self, Vec<PingReceiver>) {
        let channels = (0..shards).map(|_| mpsc::channel(MAX_WAITING));
        let (senders, receivers) =
            channels.map(|(sender, receiver)| (sender, PingReceiver(receiver))).unzip();
        (Self(senders), receivers)
    }

    /// The names of the shards that do not answer in time.
    pub(super) async fn stuck(&self) -> Vec<String> {
        let waiting: Vec<_> = self.0.iter().map(ping).collect();
        let deadline = tokio::time::Instant::now() + ANSWER_WITHIN;
        let mut stuck = Vec::new();
        for (index, answer) in waiting.into_iter().enumerate() {
            let answered = match answer {
                Some(answer) => {
                    tokio::time::timeout_at(deadline, answer).await.is_ok_and(|answer| answer.is_ok())
                }
                None => false,
            };
            if !answered {
                stuck.push(shard_name(index));
            }
        }
        stuck
    }
}

impl PingReceiver {
    /// Answers on the shard's thread, until the sidecar is gone.
    pub(super) async fn answer(mut self) {
        while let Some(ping) = self.0.recv().await {
            ping.send(()).ok();
        }
    }
}

/// The name of a shard and of its thread.
pub(super) fn shard_name(index: usize) -> String {
    format!("shard-{index}")
}

/// Sends a ping, unless the shard has left too many unanswered.
fn ping(shard: &mpsc::Sender<Ping>) -> Option<oneshot::Receiver<()>> {
    let (ping, answer) = oneshot::channel();
    shard.try_send(ping).ok().map(|()| answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_shard_that_does_not_answer_is_named() {
        let (pings, receivers) = Pings::new(3);
        let mut receivers = receivers.into_iter();
        let (first, stuck, third) = (receivers.next().unwrap(), receivers.next(), receivers.next().unwrap());
        let answering = (tokio::spawn(first.answer()), tokio::spawn(third.answer()));
        assert_eq!(pings.stuck().await, ["shard-1"]);
        // Full: it is known at once.
        for _ in 0..MAX_WAITING {
            pings.stuck().await;
        }
        let at_once = tokio::time::timeout(ANSWER_WITHIN / 2, pings.stuck());
        assert_eq!(at_once.await.unwrap(), ["shard-1"]);
        drop(stuck);
        assert_eq!(pings.stuck().await, ["shard-1"], "its thread has ended");
        drop(pings);
        answering.0.await.unwrap();
        answering.1.await.unwrap();
    }
}
