//! `signature`: what a model takes and gives.
use anyhow::anyhow;

use super::Failure;
use super::args::SignatureArgs;

/// STUB: the body comes with the request path.
pub(super) fn signature(arguments: &SignatureArgs) -> Result<(), Failure> {
    Err(Failure::from(anyhow!("`signature` is not available yet, asked for {arguments:?}")))
}
