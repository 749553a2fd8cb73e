//! Simulates experiments: a demo whose truth is known, and a population for benchmarks.
//!
//! Pure: no I/O, no clock. Times and seeds are arguments, and the same
//! arguments give the same events on every machine.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod demo;
mod mix;
pub mod population;
