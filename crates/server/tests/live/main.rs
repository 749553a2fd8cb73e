//! The interface as clients meet it: who gets in, and what becomes of connections.

#![expect(clippy::unwrap_used, reason = "a failing helper fails its test")]

mod access;
mod bounds;
mod breakdown;
mod calc;
mod cohorts;
mod connections;
mod earlier;
mod evaluation;
mod funnel;
mod harness;
mod health;
mod kinds;
mod registry;
mod saved_funnels;
mod sequence;
mod service;
mod timeline;
