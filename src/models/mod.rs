//! The models of TF Serving: the catalog that requests read, the refresher that keeps it current,
//! and the metadata client.
pub(crate) mod catalog;
pub(crate) mod changes;
pub(crate) mod config_problems;
pub(crate) mod fetch;
pub(crate) mod forecasts;
mod metadata_client;
mod model_version;
mod probes;
pub(crate) mod problems;
pub(crate) mod refresher;
mod refusals;
