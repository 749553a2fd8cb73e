//! The commands through the real binary, each test in a directory of its own.

#![expect(clippy::unwrap_used, reason = "a failing helper fails its test")]

mod check;
mod demo;
mod fixture;
mod funnel;
mod health;
mod import;
mod keys;
mod maintenance;
