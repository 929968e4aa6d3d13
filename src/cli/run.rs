//! `run`: starts the sidecar, and stops it on a signal.
use std::future::Future;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::Failure;
use crate::config::Config;
use crate::server::Sidecar;
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
}

/// The warnings are about the environment; they are logged like everything else from here on.
pub(super) fn run(config: Config, warnings: &[String]) -> Result<(), Failure> {
    log::init(config.log_format, &config.log).map_err(Failure::usage)?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    tracing::info!(version = env!("CARGO_PKG_VERSION"), upstream = %config.upstream, workers = config.workers, "starting");
    let sidecar = Sidecar::start(config).context("cannot start the sidecar")?;
    tracing::info!(server = "grpc", addr = %sidecar.grpc_addr(), "listening");
    tracing::info!(server = "admin", addr = %sidecar.admin_addr(), "listening");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let end = runtime.block_on(async {
        Ok::<_, std::io::Error>(until_stopped(signals()?, || sidecar.shutdown()).await)
    })?;
    tracing::info!(drained = end == End::Drained, "stopped");
    Ok(())
}

/// SIGTERM and SIGINT in order of arrival.
fn signals() -> std::io::Result<mpsc::Receiver<Stop>> {
    let (sender, receiver) = mpsc::channel(4);
    for (kind, stop) in
        [(SignalKind::terminate(), Stop::Terminate), (SignalKind::interrupt(), Stop::Interrupt)]
    {
        let (mut stream, sender) = (signal(kind)?, sender.clone());
        tokio::spawn(
            async move { while stream.recv().await.is_some() && sender.send(stop).await.is_ok() {} },
        );
    }
    Ok(receiver)
}

/// The first signal starts the drain. During the drain, a SIGINT stops at once: somebody is waiting
/// at a terminal.
async fn until_stopped<F: Future>(mut signals: mpsc::Receiver<Stop>, drain: impl FnOnce() -> F) -> End {
    if let Some(stop) = signals.recv().await {
        tracing::info!(signal = ?stop, "draining");
    }
    let mut drained = std::pin::pin!(drain());
    loop {
        tokio::select! {
            _ = &mut drained => return End::Drained,
            stop = signals.recv() => match stop {
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
    use super::*;

    /// How the program ends after these signals; `finishes` says whether the drain ever does.
    fn end(stops: &[Stop], finishes: bool) -> End {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (sender, receiver) = mpsc::channel(8);
            for stop in stops {
                sender.send(*stop).await.unwrap();
            }
            let drain = async || {
                if !finishes {
                    std::future::pending::<()>().await;
                }
            };
            let end = until_stopped(receiver, drain).await;
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
}
