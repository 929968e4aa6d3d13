//! Whether TF Serving is connected and answers, and if not, why: the same sentence for the log,
//! probes and the page.
use std::io;
use std::mem::Discriminant;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};

use super::dial_error::DialError;
use crate::fault::Fault;

/// The state of the upstream, as all threads of the process see it.
#[derive(Debug, Default)]
pub(crate) struct Up {
    count: AtomicUsize,
    /// The last metadata request since the last connect went unanswered.
    unanswered: AtomicBool,
    trouble: Mutex<Trouble>,
    /// Attempts to connect that failed because nobody listened.
    refusals: AtomicU64,
    /// The refusals before the last connect.
    refusals_before: watch::Sender<u64>,
    /// Counts the metadata requests that were not answered in time, for every connection to see.
    suspicions: watch::Sender<u64>,
    /// Notified at every change.
    pub changed: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Trouble {
    /// What is in the log since the last connect: one sentence of each kind.
    warned: Vec<(Kind, String)>,
    last: Option<Kind>,
}

/// What sentences about the same trouble have in common.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    NotConnected(Discriminant<DialError>, Option<io::ErrorKind>),
    NotAnswered,
    Hung,
}

impl Up {
    /// Open connections that take new calls.
    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Whether a connection is open and nothing says that TF Serving does not answer on it. Being
    /// connected says little: a proxy without a server behind it accepts connections too.
    pub(crate) fn is_answering(&self) -> bool {
        self.count() > 0 && !self.unanswered.load(Ordering::Relaxed)
    }

    /// Why TF Serving does not answer; `None` while it does.
    pub(crate) fn problem(&self) -> Option<String> {
        if self.is_answering() {
            return None;
        }
        let trouble = self.trouble();
        let mut warned = trouble.warned.iter().filter(|(kind, _)| Some(*kind) == trouble.last);
        let sentence = warned.next().map(|(_, sentence)| sentence.clone());
        let default =
            if self.count() > 0 { "TF Serving does not answer" } else { "not connected to TF Serving" };
        Some(sentence.unwrap_or_else(|| default.to_owned()))
    }

    /// A metadata request was answered.
    pub(crate) fn answered(&self, address: &str) {
        if !self.unanswered.swap(false, Ordering::Relaxed) {
            return;
        }
        let mut trouble = self.trouble();
        if self.count() > 0 && !std::mem::take(&mut *trouble).warned.is_empty() {
            tracing::info!(upstream = address, "TF Serving answers again");
        }
        drop(trouble);
        self.changed.notify_one();
    }

    /// A metadata request went unanswered.
    pub(crate) fn not_answered(&self, address: &str, fault: &Fault) {
        // The end of a connection is reported when the next one fails.
        if !matches!(fault, Fault::UpstreamUnavailable { .. } | Fault::UpstreamLost { .. }) {
            self.report(Kind::NotAnswered, address, || {
                format!("TF Serving at {address} accepts connections, but does not answer: {fault}")
            });
        }
        if !self.unanswered.swap(true, Ordering::Relaxed) {
            self.changed.notify_one();
        }
    }

    /// A metadata request is not answered in time: each connection finds out whether it is alive.
    pub(crate) fn suspect(&self) {
        self.suspicions.send_modify(|count| *count += 1);
    }

    /// Returns when TF Serving, which is gone or goes after the call, is connected again. A server
    /// that hangs is not gone, nor is one that closes a connection and takes another.
    pub(crate) async fn restarted(&self) {
        let mut connects = self.refusals_before.subscribe();
        let before = *connects.borrow_and_update();
        // The sender is in `self`, so the channel cannot close here.
        connects.wait_for(|refusals| *refusals > before).await.ok();
    }

    pub(super) fn suspicions(&self) -> watch::Receiver<u64> {
        self.suspicions.subscribe()
    }

    /// A connection is given up because nothing is answered on it.
    pub(super) fn hung(&self, address: &str) {
        self.report(Kind::Hung, address, || {
            format!("TF Serving at {address} hangs: it answers neither requests nor PINGs (is its process stopped, or its host gone?)")
        });
    }

    /// An attempt to connect failed.
    pub(super) fn not_connected(&self, address: &str, error: &DialError) {
        let io = if let DialError::Io(error) = error { Some(error.kind()) } else { None };
        if io.is_some() {
            self.refusals.fetch_add(1, Ordering::Relaxed);
        }
        self.report(Kind::NotConnected(std::mem::discriminant(error), io), address, || {
            format!("no connection to TF Serving at {address}: {error} ({})", error.advice())
        });
    }

    pub(super) fn connected(&self, address: &str) {
        let mut trouble = self.trouble();
        if !std::mem::take(&mut *trouble).warned.is_empty() {
            tracing::info!(upstream = address, "connected again");
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        self.unanswered.store(false, Ordering::Relaxed);
        drop(trouble);
        self.refusals_before.send_replace(self.refusals.load(Ordering::Relaxed));
        self.changed.notify_one();
    }

    pub(super) fn disconnected(&self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
        self.changed.notify_one();
    }

    /// Warns once of each kind, until a connect.
    fn report(&self, kind: Kind, address: &str, sentence: impl FnOnce() -> String) {
        let mut trouble = self.trouble();
        trouble.last = Some(kind);
        if trouble.warned.iter().all(|(warned, _)| *warned != kind) {
            let sentence = sentence();
            tracing::warn!(upstream = address, "{sentence}");
            trouble.warned.push((kind, sentence));
        }
    }

    fn trouble(&self) -> MutexGuard<'_, Trouble> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::LogFormat;
    use crate::telemetry::log::tests::captured;

    fn refused() -> DialError {
        DialError::Io(io::ErrorKind::ConnectionRefused.into())
    }

    fn silent() -> DialError {
        DialError::Silent { after: std::time::Duration::from_secs(5) }
    }

    /// The level and the message of each line.
    fn log(work: impl FnOnce()) -> Vec<(String, String)> {
        let lines = captured(LogFormat::Json, "info", work);
        let field = |line: &serde_json::Value, name: &str| line[name].as_str().unwrap().to_owned();
        lines
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .map(|line: serde_json::Value| (field(&line, "level"), field(&line, "message")))
            .collect()
    }

    #[test]
    fn each_cause_is_logged_once_until_the_upstream_is_connected_again() {
        let up = Up::default();
        assert_eq!(up.problem().unwrap(), "not connected to TF Serving");
        let lines = log(|| {
            for _ in 0..3 {
                up.not_connected("tfs:8500", &refused());
                up.not_connected("tfs:8500", &silent());
            }
            // The same trouble in other words.
            let later = DialError::Silent { after: std::time::Duration::from_secs(6) };
            up.not_connected("tfs:8500", &later);
            let sentence = up.problem().unwrap();
            let text = "no connection to TF Serving at tfs:8500: the server said nothing within 5000 ms";
            assert!(sentence.starts_with(text), "{sentence}");
            up.connected("tfs:8500");
            assert_eq!((up.problem(), up.is_answering()), (None, true));
            up.disconnected();
            up.connected("tfs:8500");
            up.disconnected();
            up.not_connected("tfs:8500", &refused());
        });
        let levels: Vec<&str> = lines.iter().map(|(level, _)| level.as_str()).collect();
        assert_eq!(levels, ["WARN", "WARN", "INFO", "WARN"], "{lines:?}");
        assert_eq!(lines[2].1, "connected again");
        assert_eq!(lines[3].1, up.problem().unwrap(), "the log and the probes say the same");
    }

    #[test]
    fn a_server_that_does_not_answer_is_not_up() {
        let up = Up::default();
        let unanswered = Fault::Deadline { during: "waiting for the model's metadata" };
        let lost = Fault::UpstreamUnavailable { address: "tfs:1".to_owned(), cause: "gone".to_owned() };
        let lines = log(|| {
            up.connected("tfs:1");
            up.not_answered("tfs:1", &lost);
            assert!(!up.is_answering());
            for _ in 0..2 {
                up.not_answered("tfs:1", &unanswered);
            }
            assert!(up.problem().unwrap().contains("does not answer: deadline exceeded"));
            up.answered("tfs:1");
            up.answered("tfs:1");
        });
        assert_eq!((up.problem(), up.is_answering()), (None, true));
        let levels: Vec<&str> = lines.iter().map(|(level, _)| level.as_str()).collect();
        assert_eq!(levels, ["WARN", "INFO"], "{lines:?}");
        assert_eq!(lines[1].1, "TF Serving answers again");
    }

    #[tokio::test]
    async fn a_restart_is_a_refusal_and_then_a_connect() {
        use std::future::poll_fn;
        use std::task::Poll;

        /// What happens in each case, and whether it is a restart.
        type Case = (fn(&Up), bool);
        const CASES: [Case; 4] = [
            (|up| up.not_connected("tfs:1", &refused()), false),
            (
                |up| {
                    up.not_connected("tfs:1", &refused());
                    up.connected("tfs:1");
                },
                true,
            ),
            (
                |up| {
                    up.hung("tfs:1");
                    up.not_connected("tfs:1", &silent());
                    up.connected("tfs:1");
                },
                false,
            ),
            (
                |up| {
                    up.disconnected();
                    up.connected("tfs:1");
                },
                false,
            ),
        ];
        for (number, (happens, is_restart)) in CASES.into_iter().enumerate() {
            let up = Up::default();
            // A restart that is over does not count.
            up.not_connected("tfs:1", &refused());
            up.connected("tfs:1");
            let mut restarted = std::pin::pin!(up.restarted());
            let mut seen = async || poll_fn(|cx| Poll::Ready(restarted.as_mut().poll(cx).is_ready())).await;
            assert!(!seen().await, "case {number}");
            happens(&up);
            assert_eq!(seen().await, is_restart, "case {number}");
        }
        let up = Up::default();
        up.not_connected("tfs:1", &refused());
        let mut gone = std::pin::pin!(up.restarted());
        let mut seen = async || poll_fn(|cx| Poll::Ready(gone.as_mut().poll(cx).is_ready())).await;
        assert!(!seen().await);
        up.connected("tfs:1");
        assert!(seen().await, "it was gone before");
    }
}
