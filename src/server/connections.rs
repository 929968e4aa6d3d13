//! Limits on client connections: how many there may be, and what is counted and logged of those
//! that are refused.
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::config::Config;
use crate::telemetry::metrics::{self, ConnectionLimit};

/// File descriptors that clients never get: standard streams, listeners, admin connections
/// ([`crate::listener::admin::serve::MAX_CONNECTIONS`]), files that are read on demand.
const RESERVED: u64 = 128;
/// The same for each worker: its runtime's own, and those of an upstream connection and of the one
/// that replaces it.
const RESERVED_PER_WORKER: u64 = 8;
/// The log says at most this often that connections are refused.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// The limit, and the refusals that were not logged yet.
#[derive(Debug)]
pub(super) struct Connections {
    max: AtomicUsize,
    descriptors: u64,
    silent: Mutex<Silent>,
}

#[derive(Debug, Default)]
struct Silent {
    refused: u64,
    logged: Option<Instant>,
}

impl Connections {
    /// Raises the limit of file descriptors as far as the system allows, and takes what the
    /// configuration and this limit leave for clients.
    pub(super) fn new(config: &Config) -> Self {
        let descriptors = rlimit::increase_nofile_limit(u64::MAX).unwrap_or(1024);
        let this = Self { max: AtomicUsize::new(0), descriptors, silent: Mutex::default() };
        this.set_limits(config);
        this
    }

    pub(super) fn set_limits(&self, config: &Config) {
        let (wanted, descriptors) = (config.limits.max_connections, self.descriptors);
        let max = available(descriptors, config).min(wanted);
        if max < wanted && self.max.load(Relaxed) != max {
            tracing::info!(max, wanted, descriptors, "file descriptors allow fewer connections");
        }
        self.max.store(max, Relaxed);
    }

    pub(super) fn max(&self) -> usize {
        self.max.load(Relaxed)
    }

    /// Counts a connection that was closed because of a limit.
    pub(super) fn refused(&self, limit: ConnectionLimit) {
        metrics::connection_refused(limit);
        let mut silent = self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        silent.refused += 1;
        if silent.logged.is_none_or(|logged| logged.elapsed() >= LOG_EVERY) {
            let refused = std::mem::take(&mut silent.refused);
            silent.logged = Some(Instant::now());
            tracing::warn!(refused, limit = limit.as_str(), max = self.max(), "refused client connections");
        }
    }
}

/// The descriptors that clients may use.
fn available(descriptors: u64, config: &Config) -> usize {
    let workers = config.workers as u64 + 1;
    let upstream = config.upstream_connections as u64 * 2;
    let reserved = RESERVED + workers * (RESERVED_PER_WORKER + upstream);
    // With very few descriptors, half of them.
    descriptors.saturating_sub(reserved).max(descriptors / 2) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::LogFormat;
    use crate::telemetry::log::tests::captured;

    #[test]
    fn descriptors_are_left_for_the_admin_listener_and_the_upstream() {
        let config = Config { workers: 4, upstream_connections: 2, ..Config::default() };
        assert_eq!(available(1024, &config), 1024 - 128 - 5 * 12);
        assert_eq!(available(64, &config), 32);
    }

    #[tokio::test(start_paused = true)]
    async fn refusals_are_logged_with_their_number_but_not_each() {
        let connections = Connections { max: AtomicUsize::new(7), descriptors: 0, silent: Mutex::default() };
        let refuse = |times: u64| {
            captured(LogFormat::Text, "info", || {
                for _ in 0..times {
                    connections.refused(ConnectionLimit::All);
                }
            })
        };
        let text = refuse(5);
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.contains("refused=1") && text.contains("max=7"), "{text}");
        tokio::time::advance(LOG_EVERY).await;
        assert!(refuse(1).contains("refused=5"));
    }
}
