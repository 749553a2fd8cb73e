//! The handlers, one file per resource.

pub(crate) mod audit;
pub(crate) mod breakdown;
pub(crate) mod breakdowns;
pub(crate) mod calc;
pub(crate) mod cohorts;
pub(crate) mod context;
pub(crate) mod evaluation;
pub(crate) mod events;
pub(crate) mod experiments;
pub(crate) mod export;
pub(crate) mod funnel;
pub(crate) mod health;
pub(crate) mod holdouts;
pub(crate) mod keys;
pub(crate) mod layers;
pub(crate) mod maintenance;
pub(crate) mod metric_definitions;
pub(crate) mod pipeline;
pub(crate) mod resource;
pub(crate) mod results;
pub(crate) mod timeline;
mod types;
