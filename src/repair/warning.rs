//! A warning: a doubt about a request that is forwarded all the same.
use super::reason::Reason;

/// Something about a request that may be a mistake, although the request is forwarded. Not a
/// [`Problem`](super::Problem): it never changes what is done with the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    pub reason: Reason,
    /// The input's alias; empty for the whole request.
    pub input: String,
    /// One line of ASCII, as clients and operators see it.
    pub text: String,
}
