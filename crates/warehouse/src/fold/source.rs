//! Defines where a fold reads events: the interface that both warehouses implement.

use std::ops::Range;
use std::path::Path;

use trialog_model::event::EventKind;

use crate::cursor::Cursor;
use crate::error::WarehouseError;
use crate::run::Columns;

/// Reads the events of one moment in the order `(experiment, user, time)`, whatever is stored
/// meanwhile.
pub trait EventSource: Sync {
    /// Gives [`WarehouseError::Abandoned`] once reading is to end.
    ///
    /// # Errors
    ///
    /// Nobody waits for an answer any more.
    fn go_on(&self) -> Result<(), WarehouseError>;

    /// The directory for histories that memory does not hold.
    fn spill(&self) -> &Path;

    /// Limits the pieces that `n_threads` fold.
    fn piece_limits(&self, n_threads: usize) -> PieceLimits;

    /// Finds users that cut `experiment` into about `n_pieces` parts, in order; fewer where the
    /// warehouse knows no more.
    ///
    /// # Errors
    ///
    /// The warehouse cannot be read.
    fn cuts(&self, experiment: &str, n_pieces: u64) -> Result<Vec<i64>, WarehouseError>;

    /// Opens the events of `kind` of `experiments`, which are in order, as sorted sources. Users
    /// outside of `users` may be left out.
    ///
    /// # Errors
    ///
    /// The warehouse cannot be read.
    fn cursors(
        &self,
        kind: EventKind,
        experiments: &[&str],
        users: &Range<Option<i64>>,
        columns: Columns,
    ) -> Result<Vec<Cursor>, WarehouseError>;
}

/// How large the pieces of a fold are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PieceLimits {
    /// An experiment with more rows is cut by its users into pieces of half as many.
    pub cut_rows: u64,
    /// Experiments of one piece.
    pub experiments: usize,
}
