//! The schemas of attribution windows and delays.

use trialog_model::duration::pattern;

use super::schema::{Schema, matching};

/// An attribution window.
pub(crate) fn window() -> Schema {
    matching(&pattern::window())
}

/// A delay of a window.
pub(crate) fn delay() -> Schema {
    matching(&pattern::delay())
}
