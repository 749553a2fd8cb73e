//! Renders the pages, one file for each.

pub(super) mod error;
pub(super) mod experiment;
pub(super) mod list;
pub(super) mod report;
