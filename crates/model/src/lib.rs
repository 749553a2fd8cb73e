//! Defines ids, events, experiments and hashing.
//!
//! Pure: no I/O, no clock, no randomness, no logging. Everything here is a
//! function of its arguments, so the SDK, the HTTP interface, the importers
//! and the consumers share one meaning of an event.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod assignment;
pub mod bucket;
pub mod cell;
pub mod configuration;
pub mod decimal;
pub mod document;
pub mod duration;
pub mod event;
pub mod experiment;
pub mod formula;
pub mod fraction;
pub mod funnel;
pub mod hex;
pub mod holdout;
pub mod ids;
pub mod interleave;
pub mod json;
pub mod life;
pub mod metric;
pub mod metric_definition;
pub mod murmur3;
pub mod nearest;
pub mod percent;
pub mod published;
pub mod ranges;
mod semver;
pub mod sequence;
pub mod text;
pub mod time;
pub mod user_id;
pub mod wire;
