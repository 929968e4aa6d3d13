//! `run`: starts the sidecar, and stops it when it is told to.
use std::future::Future;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::Failure;
use crate::config::Config;
use crate::server::Sidecar;
use crate::telemetry::log;

/// What the machine told the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Terminate,
    Interrupt,
}

/// How the program came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Drained,
    AtOnce,
}

pub(super) fn run(config: Config) -> Result<(), Failure> {
    log::init(config.log, &config.log_filter).map_err(Failure::usage)?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), upstream = %config.upstream, workers = config.workers, "starting");
    let sidecar = Sidecar::start(config).context("cannot start the sidecar")?;
    tracing::info!(server = "grpc", addr = %sidecar.grpc_addr(), "listening");
    tracing::info!(server = "admin", addr = %sidecar.admin_addr(), "listening");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let end = runtime
        .block_on(async { Ok::<_, std::io::Error>(until_told(signals()?, || sidecar.shutdown()).await) })?;
    tracing::info!(drained = end == End::Drained, "stopped");
    Ok(())
}

/// SIGTERM and SIGINT, in the order they come.
fn signals() -> std::io::Result<mpsc::Receiver<Told>> {
    let (sender, receiver) = mpsc::channel(4);
    for (kind, told) in
        [(SignalKind::terminate(), Told::Terminate), (SignalKind::interrupt(), Told::Interrupt)]
    {
        let (mut stream, sender) = (signal(kind)?, sender.clone());
        tokio::spawn(
            async move { while stream.recv().await.is_some() && sender.send(told).await.is_ok() {} },
        );
    }
    Ok(receiver)
}

/// The first signal drains. While it drains, a SIGINT stops at once: somebody is waiting at a
/// terminal.
async fn until_told<F: Future>(mut signals: mpsc::Receiver<Told>, drain: impl FnOnce() -> F) -> End {
    if let Some(told) = signals.recv().await {
        tracing::info!(signal = ?told, "draining");
    }
    let mut drained = std::pin::pin!(drain());
    loop {
        tokio::select! {
            _ = &mut drained => return End::Drained,
            told = signals.recv() => match told {
                Some(Told::Interrupt) => return End::AtOnce,
                Some(Told::Terminate) => {}
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

    /// Sends the signals, and says whether draining ever ends by itself.
    fn end(told: &[Told], finishes: bool) -> End {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (sender, receiver) = mpsc::channel(8);
            for told in told {
                sender.send(*told).await.unwrap();
            }
            let drain = async || {
                if !finishes {
                    std::future::pending::<()>().await;
                }
            };
            let end = until_told(receiver, drain).await;
            drop(sender);
            end
        })
    }

    #[test]
    fn the_first_signal_drains() {
        assert_eq!(end(&[Told::Terminate], true), End::Drained);
        assert_eq!(end(&[Told::Interrupt], true), End::Drained);
    }

    #[test]
    fn a_second_interrupt_stops_at_once_and_a_second_terminate_does_not() {
        assert_eq!(end(&[Told::Terminate, Told::Interrupt], false), End::AtOnce);
        assert_eq!(
            end(&[Told::Interrupt, Told::Terminate, Told::Terminate, Told::Interrupt], false),
            End::AtOnce
        );
    }
}
