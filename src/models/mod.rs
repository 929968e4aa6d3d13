//! The models of TF Serving: the catalog that requests read, the refresher that keeps it current,
//! and the metadata client.
pub mod catalog;
#[cfg_attr(not(test), expect(dead_code, reason = "used by the next commits"))]
pub(crate) mod config_problems;
pub mod fetch;
mod metadata_client;
pub mod refresher;
mod refusals;
