//! Describes attribution windows and delays.

use trialog_model::duration::pattern;

use super::schema::{Schema, matching};

/// Returns the schema of an attribution window.
pub(crate) fn window() -> Schema {
    matching(&pattern::window())
}

/// Returns the schema of a delay of a window.
pub(crate) fn delay() -> Schema {
    matching(&pattern::delay())
}
