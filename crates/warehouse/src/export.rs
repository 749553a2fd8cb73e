//! Exports every event once, in the order of the warehouse, for other tools.
//!
//! The rule for copies is that of the fold: of the events of a user in an
//! experiment that share an event id, and of metric events also their type, the
//! first in the order of time and content counts. Events that differ in their
//! context only are ordered by its checksum, as the fold orders them. Users are
//! the texts that were sent, as far as these are known.

use std::collections::HashSet;
use std::ops::Range;

use trialog_model::event::EventKind;

use crate::batch::{Block, Dictionary, EventRow};
use crate::cursor::Cursor;
use crate::error::WarehouseError;
use crate::fold::source::EventSource;
use crate::merge::compare_rows;
use crate::run::Columns;
use crate::snapshot::Snapshot;
use crate::user_texts::UserTexts;

/// The selected events.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Only these experiments; all where it is empty.
    pub experiments: Vec<String>,
    /// Only events within this range, in microseconds since 1970.
    pub within: Range<Option<i64>>,
}

impl Selection {
    /// Returns whether events of the experiment `id` are selected.
    pub(crate) fn has_experiment(&self, id: &str) -> bool {
        let mut wanted = self.experiments.iter();
        self.experiments.is_empty() || wanted.any(|wanted| wanted == id)
    }

    fn takes(&self, timestamp: i64) -> bool {
        self.within.start.is_none_or(|start| timestamp >= start)
            && self.within.end.is_none_or(|end| timestamp < end)
    }
}

impl Snapshot {
    /// Passes every selected event to `each`, without copies. Needs memory for a block of every
    /// run, and for the event ids of one user.
    ///
    /// # Errors
    ///
    /// A damaged run, or what `each` gives.
    pub fn each_event<E: From<WarehouseError>>(
        &self,
        kind: EventKind,
        selection: &Selection,
        each: impl FnMut(&EventRow<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut ids = self.experiments_after(kind, 0);
        ids.retain(|id| selection.has_experiment(id));
        let mut cursors = self.cursors(kind, &ids, &(None..None), Columns::All)?;
        let texts = self.all_user_texts(&ids)?;
        hand_on_once(kind, &ids, &mut cursors, texts, selection, each)
    }
}

/// Passes every selected event in `cursors` to `each`, without copies: those of the experiments
/// `ids`, which are in order. `texts` has the texts of the users.
pub(crate) fn hand_on_once<E: From<WarehouseError>>(
    kind: EventKind,
    ids: &[&str],
    cursors: &mut [Cursor],
    mut texts: UserTexts,
    selection: &Selection,
    mut each: impl FnMut(&EventRow<'_>) -> Result<(), E>,
) -> Result<(), E> {
    for &id in ids {
        texts.enter(id)?;
        let mut experiment = Experiment {
            cursors: (cursors.iter_mut())
                .filter(|cursor| cursor.experiment() == Some(id))
                .collect(),
            id,
            kind,
        };
        let mut with_text = |event: &EventRow<'_>| {
            if !event.user_text.is_empty() {
                return each(event);
            }
            // Events of metrics have no texts, and an assignment may be older than texts are.
            let user_text = texts.text_of(event.user)?;
            each(&EventRow {
                user_text,
                ..*event
            })
        };
        experiment.each(selection, &mut with_text)?;
    }
    Ok(())
}

/// The rows of one experiment; all cursors are positioned in it.
struct Experiment<'a> {
    id: &'a str,
    kind: EventKind,
    cursors: Vec<&'a mut Cursor>,
}

/// The events of a user that were handed on already.
struct Seen {
    kind: EventKind,
    names: Dictionary,
    /// Event ids, of metric events with the code of the type.
    ids: HashSet<(i64, u32)>,
}

impl Seen {
    fn new(kind: EventKind) -> Self {
        Self {
            kind,
            names: Dictionary::default(),
            ids: HashSet::new(),
        }
    }

    /// Records an event and returns whether it is not a copy of an earlier one.
    fn is_new(&mut self, row: &EventRow<'_>) -> bool {
        let name = match self.kind {
            EventKind::Assignment => 0,
            EventKind::Metric => self.names.code(row.name),
        };
        self.ids.insert((row.event_id, name))
    }

    /// Begins with another user.
    fn clear(&mut self) {
        self.ids.clear();
        self.names = Dictionary::default();
    }
}

/// An event that may yet turn out to have another context, or a text of its user.
struct Held {
    user: i64,
    timestamp: i64,
    name: String,
    value: i64,
    event_id: i64,
    context: String,
    user_text: String,
}

impl Experiment<'_> {
    fn each<E: From<WarehouseError>>(
        &mut self,
        selection: &Selection,
        each: &mut impl FnMut(&EventRow<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut held: Option<Held> = None;
        let (mut user, mut seen) = (None, Seen::new(self.kind));
        while let Some(first) = self.first() {
            if let Some((block, row)) = self.cursors[first].here() {
                let row = block.row(row);
                match &mut held {
                    Some(held) if held.ties_with(&row) => {
                        held.take_context(row.context);
                        held.take_user_text(row.user_text);
                    }
                    _ => {
                        if let Some(held) = held.take() {
                            held.hand_on(self.id, selection, each)?;
                        }
                        if user != Some(row.user) {
                            seen.clear();
                            user = Some(row.user);
                        }
                        held = seen.is_new(&row).then(|| Held::new(&row));
                    }
                }
            }
            self.advance(first)?;
        }
        match held {
            Some(held) => held.hand_on(self.id, selection, each),
            None => Ok(()),
        }
    }

    /// Returns the cursor at the least row.
    fn first(&self) -> Option<usize> {
        let here = |at: usize| -> Option<(&Block, usize)> { self.cursors[at].here() };
        (0..self.cursors.len()).min_by(|&a, &b| match (here(a), here(b)) {
            (Some((a, row_a)), Some((b, row_b))) => compare_rows(a, row_a, b, row_b),
            (a, b) => a.is_none().cmp(&b.is_none()),
        })
    }

    /// Moves a cursor on by one row, and lets go of it at the experiment's end.
    fn advance(&mut self, at: usize) -> Result<(), WarehouseError> {
        let cursor = &mut self.cursors[at];
        let Some((_, row)) = cursor.here() else {
            self.cursors.swap_remove(at);
            return Ok(());
        };
        if cursor.move_to(row + 1)? && cursor.experiment() != Some(self.id) {
            self.cursors.swap_remove(at);
        }
        Ok(())
    }
}

impl Held {
    fn new(row: &EventRow<'_>) -> Self {
        Self {
            user: row.user,
            timestamp: row.timestamp,
            name: row.name.to_owned(),
            value: row.value,
            event_id: row.event_id,
            context: row.context.to_owned(),
            user_text: row.user_text.to_owned(),
        }
    }

    /// Whether `row` differs in its context and the user's text at most.
    fn ties_with(&self, row: &EventRow<'_>) -> bool {
        (self.user, self.timestamp, self.value, self.event_id)
            == (row.user, row.timestamp, row.value, row.event_id)
            && self.name == row.name
    }

    fn take_context(&mut self, other: &str) {
        let rank = |context: &str| crc32fast::hash(context.as_bytes()) & !1;
        if (rank(other), other) < (rank(&self.context), self.context.as_str()) {
            self.context = other.to_owned();
        }
    }

    fn take_user_text(&mut self, other: &str) {
        let is_less = self.user_text.is_empty() || other < self.user_text.as_str();
        if !other.is_empty() && is_less {
            self.user_text = other.to_owned();
        }
    }

    fn hand_on<E>(
        &self,
        experiment: &str,
        selection: &Selection,
        each: &mut impl FnMut(&EventRow<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        if !selection.takes(self.timestamp) {
            return Ok(());
        }
        each(&EventRow {
            experiment,
            user: self.user,
            timestamp: self.timestamp,
            name: &self.name,
            value: self.value,
            event_id: self.event_id,
            context: &self.context,
            user_text: &self.user_text,
        })
    }
}
