//! Where clients and operators connect: the addresses, the gRPC listener and the admin listener.
pub mod admin;
pub mod bind;
pub mod grpc;
