//! Tests of reading: recorded requests of a real server, random values, and hostile bodies.
mod golden;
mod mistakes;
mod random;
mod short;
mod support;
