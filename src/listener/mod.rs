//! Where clients and operators connect: the addresses, the gRPC, REST and admin listeners.
pub(crate) mod admin;
mod arrival;
pub(crate) mod bind;
pub(crate) mod grpc;
mod inflate;
mod lifetime;
mod pages;
pub(crate) mod rest;
