//! Where clients and operators connect: the addresses, the gRPC listener and the admin listener.
pub(crate) mod admin;
pub(crate) mod bind;
pub(crate) mod grpc;
pub(crate) mod rest;
