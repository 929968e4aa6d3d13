//! The JSON layer against the requests recorded with a real TF Serving, and against random bodies.
mod golden;
mod models;
mod random;
mod rules;
