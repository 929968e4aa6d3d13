//! `run`: starts the sidecar, reloads it on SIGHUP, and stops it on a signal.
use std::future::Future;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};

use super::{Exit, Failure, render};
use crate::config::Source;
use crate::server::Sidecar;
use crate::tasks;
use crate::telemetry::log;

/// A signal to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    Terminate,
    Interrupt,
}

/// How the sidecar stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Drained,
    /// A second signal came during the drain.
    Interrupted,
    /// A background task panicked, which it has logged.
    Panicked,
}

/// The warnings are about the environment; they are logged like everything else from here on.
pub(super) fn run(source: Source, warnings: &[String]) -> Result<Exit, Failure> {
    let config = source.load().map_err(|error| {
        for warning in warnings {
            render::note(&format!("warning: {warning}"));
        }
        Failure::usage(error)
    })?;
    // Dropped last, so that the last lines are written.
    let _log = log::init(config.log_format, &config.log).map_err(Failure::usage)?;
    tasks::install_hook(tasks::log_panic);
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // Before the start, so that no signal ends the process in between.
    let (mut terminate, mut interrupt, mut hangup) = {
        let _guard = runtime.enter();
        let listen = |kind| signal(kind);
        (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?, listen(SignalKind::hangup())?)
    };
    tracing::info!(version = env!("CARGO_PKG_VERSION"), upstream = %config.upstream, workers = config.workers, "starting");
    let sidecar = Sidecar::start_from(config, Some(source)).context("cannot start the sidecar")?;
    tracing::info!(server = "grpc", addr = %sidecar.grpc_addr(), "listening");
    if let Some(addr) = sidecar.rest_addr() {
        tracing::info!(server = "rest", %addr, "listening");
    }
    tracing::info!(server = "admin", addr = %sidecar.admin_addr(), "listening");
    if let Some(addr) = sidecar.drain_addr() {
        tracing::info!(server = "drain", %addr, "listening");
    }
    let (failed, reload) = (sidecar.failed(), sidecar.reload());
    let end = runtime.block_on(async {
        let signals = async || loop {
            tokio::select! {
                Some(()) = terminate.recv() => return Some(Stop::Terminate),
                Some(()) = interrupt.recv() => return Some(Stop::Interrupt),
                Some(()) = hangup.recv() => reload(),
                else => return None,
            }
        };
        until_stopped(signals, failed, || sidecar.shutdown()).await
    });
    // A thread that is stuck must not keep the process.
    runtime.shutdown_background();
    tracing::info!(drained = end == End::Drained, "stopped");
    Ok(match end {
        End::Drained => Exit::Success,
        End::Interrupted => Exit::Interrupted,
        End::Panicked => Exit::Panicked,
    })
}

/// The first signal starts the drain. A second one stops at once: somebody is waiting. So does a
/// failure, at any time.
async fn until_stopped<F: Future>(
    mut signals: impl AsyncFnMut() -> Option<Stop>,
    failed: impl Future<Output = ()>,
    drain: impl FnOnce() -> F,
) -> End {
    let mut failed = std::pin::pin!(failed);
    tokio::select! {
        biased;
        () = &mut failed => return End::Panicked,
        stop = signals() => if let Some(stop) = stop {
            tracing::info!(signal = ?stop, "stopping after a drain");
        }
    }
    let mut drained = std::pin::pin!(drain());
    tokio::select! {
        biased;
        () = &mut failed => End::Panicked,
        _ = &mut drained => End::Drained,
        stop = signals() => match stop {
            Some(stop) => {
                tracing::warn!(signal = ?stop, "stopping at once, because of a second signal");
                End::Interrupted
            }
            None => {
                drained.await;
                End::Drained
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    /// How the program ends after these signals; `finishes` says whether the drain ever does.
    fn end(stops: &[Stop], finishes: bool) -> End {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (sender, mut receiver) = mpsc::channel(8);
            for stop in stops {
                sender.send(*stop).await.unwrap();
            }
            let drain = async || {
                if !finishes {
                    std::future::pending::<()>().await;
                }
            };
            let end = until_stopped(async || receiver.recv().await, std::future::pending(), drain).await;
            drop(sender);
            end
        })
    }

    #[test]
    fn the_first_signal_starts_the_drain() {
        assert_eq!(end(&[Stop::Terminate], true), End::Drained);
        assert_eq!(end(&[Stop::Interrupt], true), End::Drained);
    }

    #[test]
    fn a_second_signal_stops_at_once() {
        for first in [Stop::Terminate, Stop::Interrupt] {
            for second in [Stop::Terminate, Stop::Interrupt] {
                assert_eq!(end(&[first, second], false), End::Interrupted);
            }
        }
    }

    #[test]
    fn a_failure_ends_the_program_before_and_during_a_drain() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let end = |stops: Vec<Stop>| {
            let mut stops = stops.into_iter();
            let signals = async || match stops.next() {
                Some(stop) => Some(stop),
                None => std::future::pending().await,
            };
            // Ready only at the second poll, after the signals.
            let failed = tokio::task::yield_now();
            runtime.block_on(until_stopped(signals, failed, std::future::pending::<()>))
        };
        assert_eq!(end(vec![]), End::Panicked);
        assert_eq!(end(vec![Stop::Terminate]), End::Panicked);
    }
}
