//! `run`: starts the sidecar, and stops it on a signal.
use std::future::Future;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};

use super::{Exit, Failure};
use crate::config::Config;
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
    Interrupted,
    /// A background task panicked, which it has logged.
    Panicked,
}

/// The warnings are about the environment; they are logged like everything else from here on.
pub(super) fn run(config: Config, warnings: &[String]) -> Result<Exit, Failure> {
    // Dropped last, so that the last lines are written.
    let _log = log::init(config.log_format, &config.log).map_err(Failure::usage)?;
    tasks::install_hook(tasks::log_panic);
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    tracing::info!(version = env!("CARGO_PKG_VERSION"), upstream = %config.upstream, workers = config.workers, "starting");
    let sidecar = Sidecar::start(config).context("cannot start the sidecar")?;
    tracing::info!(server = "grpc", addr = %sidecar.grpc_addr(), "listening");
    tracing::info!(server = "admin", addr = %sidecar.admin_addr(), "listening");
    if let Some(addr) = sidecar.drain_addr() {
        tracing::info!(server = "drain", %addr, "listening");
    }
    let failed = sidecar.failed();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let end = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let signals = async || {
            tokio::select! {
                Some(()) = terminate.recv() => Some(Stop::Terminate),
                Some(()) = interrupt.recv() => Some(Stop::Interrupt),
                else => None,
            }
        };
        Ok::<_, std::io::Error>(until_stopped(signals, failed, || sidecar.shutdown()).await)
    })?;
    // A thread that is stuck must not keep the process.
    runtime.shutdown_background();
    tracing::info!(drained = end == End::Drained, "stopped");
    Ok(if end == End::Panicked { Exit::Panicked } else { Exit::Success })
}

/// The first signal starts the drain. During the drain, a SIGINT stops at once: somebody is waiting
/// at a terminal. So does a failure, at any time.
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
            tracing::info!(signal = ?stop, "draining");
        }
    }
    let mut drained = std::pin::pin!(drain());
    loop {
        tokio::select! {
            biased;
            () = &mut failed => return End::Panicked,
            _ = &mut drained => return End::Drained,
            stop = signals() => match stop {
                Some(Stop::Interrupt) => return End::Interrupted,
                Some(Stop::Terminate) => {}
                None => {
                    drained.await;
                    return End::Drained;
                }
            },
        }
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
    fn a_second_interrupt_stops_at_once_and_a_second_terminate_does_not() {
        assert_eq!(end(&[Stop::Terminate, Stop::Interrupt], false), End::Interrupted);
        assert_eq!(
            end(&[Stop::Interrupt, Stop::Terminate, Stop::Terminate, Stop::Interrupt], false),
            End::Interrupted
        );
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
