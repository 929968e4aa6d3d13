//! Long work on the bytes of a message runs on another thread, so that the other requests of the
//! shard go on meanwhile.
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use crate::fault::Fault;

/// Work on this many bytes of values is done in place: it takes up to a millisecond, and handing
/// it over some 50 µs.
pub(crate) const MAX_INLINE: usize = 256 << 10;

/// The same for reading fields, at some 10 ns each.
pub(crate) const MAX_INLINE_FIELDS: usize = 64 << 10;

/// Pieces of work of one shard that run at a time. More would only compete for the processors.
const MAX_RUNNING: usize = 1;

/// The other thread of a shard.
#[derive(Debug)]
pub(crate) struct Offload {
    running: Arc<Semaphore>,
}

impl Default for Offload {
    fn default() -> Self {
        Self { running: Arc::new(Semaphore::new(MAX_RUNNING)) }
    }
}

impl Offload {
    /// Waits for a turn, and for the result. If this is dropped, work that has begun goes on, and
    /// counts until it ends. It is pure and takes time linear in the message.
    ///
    /// # Errors
    /// The process is ending.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Fault> {
        let running = Arc::clone(&self.running).acquire_owned().await.map_err(|_| Fault::Draining)?;
        let done = spawn_blocking(move || {
            let result = work();
            drop(running);
            result
        });
        match done.await {
            Ok(result) => Ok(result),
            // As if it had panicked in place.
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Err(Fault::Draining),
            },
        }
    }
}
