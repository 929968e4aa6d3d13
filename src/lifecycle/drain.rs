//! Draining: started once, and seen by every request and connection.
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{Notify, watch};

/// Starts draining, and says whether it has started. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct DrainHandle(Arc<DrainState>);

#[derive(Debug)]
struct DrainState {
    /// The same as `began`, but cheaper to read: every request does.
    draining: AtomicBool,
    began: watch::Sender<bool>,
    changed: Arc<Notify>,
}

impl DrainHandle {
    pub(crate) fn new(changed: Arc<Notify>) -> Self {
        Self(Arc::new(DrainState {
            draining: AtomicBool::new(false),
            began: watch::Sender::new(false),
            changed,
        }))
    }

    /// Starts draining: new requests are refused, clients are told to reconnect elsewhere (GOAWAY),
    /// and requests in flight finish.
    pub(crate) fn begin(&self) {
        if !self.0.draining.swap(true, Ordering::SeqCst) {
            tracing::info!("draining");
            self.0.began.send_replace(true);
            self.0.changed.notify_one();
        }
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.0.draining.load(Ordering::Relaxed)
    }

    /// Returns when draining has started.
    pub(crate) async fn begun(&self) {
        let mut began = self.0.began.subscribe();
        // The sender is in `self`, so the channel cannot close here.
        began.wait_for(|began| *began).await.ok();
    }
}
