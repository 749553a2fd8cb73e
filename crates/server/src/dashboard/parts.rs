//! Renders the parts that several pages share.

pub(super) mod choice;
pub(super) mod forest;
pub(super) mod format;
pub(super) mod freshness;
pub(super) mod funnels;
pub(super) mod health;
pub(super) mod next_step;
pub(super) mod number;
pub(super) mod progress;
pub(super) mod scorecard;
pub(super) mod variants;
pub(super) mod verdict;
