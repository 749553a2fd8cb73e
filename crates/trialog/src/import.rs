//! Importing events from files: columns, what their cells stand for, and where the events go.

pub(crate) mod cells;
pub(crate) mod columns;
pub(crate) mod sink;
pub(crate) mod survey;
pub(crate) mod times;

#[cfg(test)]
mod alike;
