//! The addresses that a running sidecar listens on.
use super::Sidecar;
use crate::config::ListenAddr;

impl Sidecar {
    /// The address for clients, with the actual port.
    pub fn grpc_addr(&self) -> &ListenAddr {
        &self.grpc
    }

    /// The address of the REST listener, with the actual port; none if it is not configured.
    pub fn rest_addr(&self) -> Option<&ListenAddr> {
        self.rest.as_ref()
    }

    /// The address of the admin listener, with the actual port.
    pub fn admin_addr(&self) -> &ListenAddr {
        &self.admin
    }

    /// The address that takes only a drain, with the actual port; none if it is not configured.
    pub fn drain_addr(&self) -> Option<&ListenAddr> {
        self.drain.as_ref()
    }
}
