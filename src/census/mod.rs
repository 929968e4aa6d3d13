//! The traffic census: the distinct forms of the requests that came, and what a new version of a
//! model would make of each. Bounded, and never a value.
mod classify;
pub(crate) mod file;
pub(crate) mod forecast;
mod form;
mod key;
mod outcome;
pub(crate) mod outputs;
pub(crate) mod report;
mod sample;
mod store;
#[cfg(test)]
mod tests;

pub(crate) use form::{Api, Choice, Form, Method, Range};
pub(crate) use key::{Request, Seen, key};
pub(crate) use store::{Census, Recently};
