//! Draining: begun once, seen by every request and every connection.
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{Notify, watch};

/// Turned once, from serving to draining.
#[derive(Debug, Clone)]
pub struct DrainHandle(Arc<DrainState>);

#[derive(Debug)]
struct DrainState {
    /// Beside the channel because every request reads it.
    draining: AtomicBool,
    began: watch::Sender<bool>,
    changed: Arc<Notify>,
}

impl DrainHandle {
    pub fn new(changed: Arc<Notify>) -> Self {
        Self(Arc::new(DrainState {
            draining: AtomicBool::new(false),
            began: watch::Sender::new(false),
            changed,
        }))
    }

    /// New requests are refused from now on, connections are asked to go elsewhere, requests in
    /// flight finish.
    pub fn begin(&self) {
        if !self.0.draining.swap(true, Ordering::SeqCst) {
            tracing::info!("draining");
            self.0.began.send_replace(true);
            self.0.changed.notify_one();
        }
    }

    pub fn is_draining(&self) -> bool {
        self.0.draining.load(Ordering::Relaxed)
    }

    /// Returns once draining has begun.
    pub async fn begun(&self) {
        let mut began = self.0.began.subscribe();
        // The sender lives in `self`, so that this waits for the value and nothing else.
        began.wait_for(|began| *began).await.ok();
    }
}
