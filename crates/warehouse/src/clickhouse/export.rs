//! Exports every event once, out of ClickHouse.

use trialog_model::event::EventKind;

use super::stream::{Buffering, EventStream, Rows};
use super::view::View;
use crate::batch::EventRow;
use crate::error::WarehouseError;
use crate::export::{Selection, hand_on_once};
use crate::run::Columns;
use crate::user_texts::UserTexts;

impl View {
    /// Hands every selected event to `each`, without copies. Needs memory for a block of events
    /// and the event ids of one user, and disk for the answers about a piece of the events.
    ///
    /// # Errors
    ///
    /// The server cannot be reached, or what `each` gives.
    pub fn each_event<E: From<WarehouseError>>(
        &self,
        kind: EventKind,
        selection: &Selection,
        each: impl FnMut(&EventRow<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut ids = self.experiments(kind)?;
        ids.retain(|id| selection.has_experiment(id));
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        let pieces = self.stream_pieces(&ids)?;
        // Whoever takes the events may be slow, and the server does not wait for long.
        let stream = |kind, columns| {
            EventStream::new(self, kind, columns, pieces.clone()).buffered_in(Buffering::File)
        };
        let events = stream(kind, Columns::All).into_cursor()?;
        let texts = stream(EventKind::Assignment, Columns::WithUserText)
            .only(Rows::WithUserText)
            .into_cursor()?;
        let (mut events, texts) = (vec![events], UserTexts::new(vec![texts]));
        hand_on_once(kind, &ids, &mut events, texts, selection, each)
    }
}
