//! The analyses: each an accumulator of the fold in a file of its own, and beside it, where
//! pushing down pays, the SQL that gives the same numbers where the events are.

pub mod arrivals;
pub mod ranks;
pub mod scorecard;
pub mod values;
