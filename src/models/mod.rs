//! What TF Serving serves: the catalog that requests read, the refresher that keeps it current, and
//! the client that asks.
pub mod catalog;
pub mod fetch;
mod metadata_client;
pub mod refresher;
