//! The models of TF Serving: the catalog that requests read, the refresher that keeps it current,
//! and the metadata client.
pub mod catalog;
mod changes;
pub(crate) mod config_problems;
pub mod fetch;
mod metadata_client;
pub mod problems;
pub mod refresher;
mod refusals;
