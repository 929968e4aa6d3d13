//! What the sidecar itself holds, such as the answers of runs that requests share.
use std::sync::Arc;

use super::{Admission, Share, State, Ticket};
use crate::transport::peer::Peer;

/// What the sidecar itself holds for requests of several peers: the answers of runs that they
/// share.
#[derive(Debug, Clone)]
pub(crate) struct Internal(Arc<Share>);

impl Admission {
    /// For what the sidecar holds itself.
    pub(crate) fn internal(self: &Arc<Self>) -> Internal {
        Internal(Arc::new(Share::new(self, &Peer::internal())))
    }
}

impl Internal {
    pub(crate) fn peer(&self) -> &Peer {
        self.0.peer()
    }

    /// A ticket for bytes alone.
    pub(crate) fn memory(&self) -> Ticket {
        Ticket { share: Arc::clone(&self.0), state: State::Memory, charged: 0 }
    }
}
