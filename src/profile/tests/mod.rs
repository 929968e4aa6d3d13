//! The checks before data of known shapes: every mistake is to be named, and honest callers never.
mod corpus;
mod data;
mod honest;
mod matrix;
mod parts;
mod sample;
