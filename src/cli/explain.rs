//! `explain`: what would be repaired or refused in a request, and why.
use anyhow::anyhow;

use super::Failure;
use super::args::ExplainArgs;

/// STUB: the body comes with the request path.
pub(super) fn explain(arguments: &ExplainArgs) -> Result<(), Failure> {
    Err(Failure::from(anyhow!("`explain` is not available yet, asked for {arguments:?}")))
}
