//! Imports events from files: maps columns, interprets cells, and sends the events on.

pub(crate) mod cells;
pub(crate) mod columns;
pub(crate) mod sink;
pub(crate) mod survey;
pub(crate) mod times;

#[cfg(test)]
mod alike;
