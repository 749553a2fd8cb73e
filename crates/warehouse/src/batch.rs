//! Stores events in columns: the form in which they are collected, sorted and stored.
//!
//! A [`Batch`] grows row by row and has no order. [`Batch::sorted`] gives the
//! [`Block`] that runs, memory segments and readers share: rows ordered by
//! experiment, user, time, name, value and event id.

use std::collections::HashMap;
use std::ops::Range;

use arrow_array::builder::StringBuilder;
use arrow_array::{Array, StringArray};
use arrow_buffer::ScalarBuffer;
use trialog_model::event::{Event, EventKind};

use crate::texts::Texts;

/// The distinct texts of a column with their codes.
#[derive(Debug, Clone, Default)]
pub struct Dictionary {
    texts: Vec<String>,
    codes: HashMap<String, u32>,
    n_bytes: usize,
    /// The last text looked up: consecutive events tend to repeat it.
    last: u32,
}

impl Dictionary {
    /// Returns the code of `text`, adding it if it is new.
    pub fn code(&mut self, text: &str) -> u32 {
        if self
            .texts
            .get(self.last as usize)
            .is_some_and(|last| last == text)
        {
            return self.last;
        }
        self.last = match self.codes.get(text) {
            Some(&code) => code,
            None => {
                let code = u32::try_from(self.texts.len())
                    .expect("a batch is bounded far below 2^32 rows");
                self.texts.push(text.to_owned());
                self.codes.insert(text.to_owned(), code);
                self.n_bytes += 2 * text.len() + 80;
                code
            }
        };
        self.last
    }

    /// Returns whether `text` has a code.
    pub(crate) fn contains(&self, text: &str) -> bool {
        self.codes.contains_key(text)
    }

    /// Returns the texts by code.
    pub fn texts(&self) -> &[String] {
        &self.texts
    }

    /// For every code its rank in the order of the texts, and the texts so ordered.
    fn ranked(&self) -> (Vec<u32>, Vec<String>) {
        let mut order: Vec<u32> = (0..self.texts.len() as u32).collect();
        order.sort_unstable_by(|&a, &b| self.texts[a as usize].cmp(&self.texts[b as usize]));
        let mut ranks = vec![0; order.len()];
        for (rank, &code) in order.iter().enumerate() {
            ranks[code as usize] = rank as u32;
        }
        let texts = order
            .iter()
            .map(|&code| self.texts[code as usize].clone())
            .collect();
        (ranks, texts)
    }
}

/// Events of one kind in the order of arrival.
#[derive(Debug, Clone)]
pub struct Batch {
    kind: EventKind,
    pub(crate) experiments: Dictionary,
    pub(crate) names: Dictionary,
    pub(crate) experiment: Vec<u32>,
    pub(crate) user: Vec<i64>,
    pub(crate) timestamp: Vec<i64>,
    pub(crate) name: Vec<u32>,
    pub(crate) value: Vec<i64>,
    pub(crate) event_id: Vec<i64>,
    /// None where no context was sent; metric events have no contexts at all.
    contexts: Texts,
    /// None where the user is an integer; metric events have none at all.
    user_texts: Texts,
}

/// One event as a row of the columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventRow<'a> {
    /// The experiment.
    pub experiment: &'a str,
    /// The user, as stored.
    pub user: i64,
    /// Microseconds since 1970, UTC.
    pub timestamp: i64,
    /// The variant or the event type.
    pub name: &'a str,
    /// The forced flag, or the value in 1/10,000.
    pub value: i64,
    /// The fingerprint of the event id.
    pub event_id: i64,
    /// The context as JSON text; empty if there is none.
    pub context: &'a str,
    /// The user as it was sent if that is a text; empty for integers and if the text is not known.
    pub user_text: &'a str,
}

impl Batch {
    /// Creates a batch without rows.
    pub fn new(kind: EventKind) -> Self {
        Self {
            kind,
            experiments: Dictionary::default(),
            names: Dictionary::default(),
            experiment: Vec::new(),
            user: Vec::new(),
            timestamp: Vec::new(),
            name: Vec::new(),
            value: Vec::new(),
            event_id: Vec::new(),
            contexts: Texts::default(),
            user_texts: Texts::default(),
        }
    }

    /// Returns the kind of its events.
    pub fn kind(&self) -> EventKind {
        self.kind
    }

    /// Returns the experiments that occur in the batch, each once.
    pub fn experiments(&self) -> &[String] {
        self.experiments.texts()
    }

    /// Returns the number of rows.
    pub fn len(&self) -> usize {
        self.user.len()
    }

    /// Returns whether the batch has no rows.
    pub fn is_empty(&self) -> bool {
        self.user.is_empty()
    }

    /// Estimates the memory that the batch takes.
    pub fn size_bytes(&self) -> usize {
        let row = size_of::<i64>() * 4 + size_of::<u32>() * 2;
        self.len() * row
            + self.contexts.size_bytes()
            + self.user_texts.size_bytes()
            + self.experiments.n_bytes
            + self.names.n_bytes
    }

    /// Adds a validated event. `event_id` is used if the event has no id.
    pub fn push_event(&mut self, event: &Event<'_>, event_id: u64) {
        self.push(&EventRow {
            experiment: &event.experiment_id,
            user: event.user_id,
            timestamp: event.timestamp.0,
            name: &event.name,
            value: event.value,
            event_id: event.event_id.unwrap_or(event_id).cast_signed(),
            context: event.context.as_deref().unwrap_or_default(),
            user_text: event.user_text.as_deref().unwrap_or_default(),
        });
    }

    /// Adds a row.
    pub fn push(&mut self, row: &EventRow<'_>) {
        if self.kind == EventKind::Assignment {
            self.contexts.set(self.len(), row.context);
            self.user_texts.set(self.len(), row.user_text);
        }
        self.experiment.push(self.experiments.code(row.experiment));
        self.name.push(self.names.code(row.name));
        self.user.push(row.user);
        self.timestamp.push(row.timestamp);
        self.value.push(row.value);
        self.event_id.push(row.event_id);
    }

    /// Returns row `row` in the order of arrival.
    pub fn row(&self, row: usize) -> EventRow<'_> {
        EventRow {
            experiment: &self.experiments.texts[self.experiment[row] as usize],
            user: self.user[row],
            timestamp: self.timestamp[row],
            name: &self.names.texts[self.name[row] as usize],
            value: self.value[row],
            event_id: self.event_id[row],
            context: self.contexts.get(row),
            user_text: self.user_texts.get(row),
        }
    }

    /// Returns whether the batch has the text of a user.
    pub(crate) fn has_user_texts(&self) -> bool {
        !self.user_texts.is_empty()
    }

    /// Drops the texts of users and keeps their numbers.
    pub fn drop_user_texts(&mut self) {
        self.user_texts = Texts::default();
    }

    /// Adds all rows of `other`, which is of the same kind.
    pub fn append(&mut self, other: &Self) {
        debug_assert_eq!(self.kind, other.kind, "a batch holds one kind of event");
        self.contexts.append(self.len(), &other.contexts);
        self.user_texts.append(self.len(), &other.user_texts);
        let experiments = recode(&mut self.experiments, &other.experiments);
        let names = recode(&mut self.names, &other.names);
        self.experiment.extend(
            other
                .experiment
                .iter()
                .map(|&code| experiments[code as usize]),
        );
        self.name
            .extend(other.name.iter().map(|&code| names[code as usize]));
        self.user.extend_from_slice(&other.user);
        self.timestamp.extend_from_slice(&other.timestamp);
        self.value.extend_from_slice(&other.value);
        self.event_id.extend_from_slice(&other.event_id);
    }

    /// Adds `rows` of `block`; the code tables remember how its codes translate.
    pub(crate) fn extend(
        &mut self,
        block: &Block,
        rows: Range<usize>,
        experiments: &mut [Option<u32>],
        names: &mut [Option<u32>],
    ) {
        if self.kind == EventKind::Assignment {
            for (at, row) in (self.len()..).zip(rows.clone()) {
                self.contexts.set(at, block.context_at(row));
                self.user_texts.set(at, block.user_text_at(row));
            }
        }
        for row in rows.clone() {
            let (experiment, name) = (block.experiment[row] as usize, block.name[row] as usize);
            let experiment = *experiments[experiment]
                .get_or_insert_with(|| self.experiments.code(block.experiment_at(row)));
            let name = *names[name].get_or_insert_with(|| self.names.code(block.name_at(row)));
            self.experiment.push(experiment);
            self.name.push(name);
        }
        self.user.extend_from_slice(&block.user[rows.clone()]);
        self.timestamp
            .extend_from_slice(&block.timestamp[rows.clone()]);
        self.value.extend_from_slice(&block.value[rows.clone()]);
        self.event_id.extend_from_slice(&block.event_id[rows]);
    }

    /// Converts the rows, in their order, to columns that are cheap to share.
    pub(crate) fn into_block(self) -> Block {
        let rows = 0..self.len();
        let context =
            (self.kind == EventKind::Assignment).then(|| column(&self.contexts, rows.clone()));
        let user_text = self
            .has_user_texts()
            .then(|| column(&self.user_texts, rows));
        let codes = |codes: Vec<u32>| codes.into_iter().map(u32::cast_signed).collect();
        Block {
            experiments: StringArray::from(self.experiments.texts),
            names: StringArray::from(self.names.texts),
            experiment: codes(self.experiment),
            user: self.user.into(),
            timestamp: self.timestamp.into(),
            name: codes(self.name),
            value: self.value.into(),
            event_id: self.event_id.into(),
            context,
            user_text,
        }
    }

    /// Sorts the rows into the order of the warehouse.
    pub fn sorted(&self) -> Block {
        let (experiment_ranks, experiments) = self.experiments.ranked();
        let (name_ranks, names) = self.names.ranked();
        let order = self.order(&experiment_ranks, &name_ranks);
        let pick = |column: &[i64]| order.iter().map(|&row| column[row as usize]).collect();
        let rank = |ranks: &[u32], column: &[u32]| {
            order
                .iter()
                .map(|&row| ranks[column[row as usize] as usize].cast_signed())
                .collect()
        };
        let rows = || order.iter().map(|&row| row as usize);
        let context = (self.kind == EventKind::Assignment).then(|| column(&self.contexts, rows()));
        let user_text = self
            .has_user_texts()
            .then(|| column(&self.user_texts, rows()));
        Block {
            experiments: StringArray::from(experiments),
            names: StringArray::from(names),
            experiment: rank(&experiment_ranks, &self.experiment),
            user: pick(&self.user),
            timestamp: pick(&self.timestamp),
            name: rank(&name_ranks, &self.name),
            value: pick(&self.value),
            event_id: pick(&self.event_id),
            context,
            user_text,
        }
    }

    /// The rows in order. They are first dealt out to their experiments, then
    /// each experiment is sorted by user, and each user by time and content.
    fn order(&self, experiment_ranks: &[u32], name_ranks: &[u32]) -> Vec<u32> {
        let n_rows = u32::try_from(self.len()).expect("a batch is bounded far below 2^32 rows");
        let mut ends = vec![0usize; experiment_ranks.len()];
        for &code in &self.experiment {
            ends[experiment_ranks[code as usize] as usize] += 1;
        }
        let mut n_before = 0;
        for end in &mut ends {
            n_before += std::mem::replace(end, n_before);
        }
        let mut keys = vec![(0i64, 0u32); self.len()];
        for row in 0..n_rows {
            let at = row as usize;
            let end = &mut ends[experiment_ranks[self.experiment[at] as usize] as usize];
            keys[*end] = (self.user[at], row);
            *end += 1;
        }
        let content = |row: u32| {
            let at = row as usize;
            (
                self.timestamp[at],
                name_ranks[self.name[at] as usize],
                self.value[at],
                self.event_id[at],
            )
        };
        sort_stretches(&mut keys, &ends, &|keys| {
            keys.sort_unstable_by_key(|key| key.0);
            for of_user in keys
                .chunk_by_mut(|a, b| a.0 == b.0)
                .filter(|rows| rows.len() > 1)
            {
                of_user.sort_unstable_by_key(|key| content(key.1));
            }
        });
        keys.into_iter().map(|key| key.1).collect()
    }
}

/// Rows from which on two threads sort faster than one.
const PARALLEL_ROWS: usize = 64 * 1024;

/// Users and rows.
type Keys = [(i64, u32)];

/// Sorts each stretch of `keys`; `ends` are where the stretches end.
fn sort_stretches(keys: &mut Keys, ends: &[usize], sort: &(impl Fn(&mut Keys) + Sync)) {
    let middle = ends[..ends.partition_point(|end| *end <= keys.len() / 2)]
        .last()
        .copied()
        .unwrap_or(0);
    let n_left = ends.partition_point(|end| *end <= middle);
    let each = |keys: &mut Keys, ends: &[usize], offset: usize| {
        let mut start = 0;
        for end in ends {
            sort(&mut keys[start..end - offset]);
            start = end - offset;
        }
    };
    if keys.len() < PARALLEL_ROWS || middle == 0 {
        return each(keys, ends, 0);
    }
    let (left, right) = keys.split_at_mut(middle);
    std::thread::scope(|scope| {
        scope.spawn(|| each(left, &ends[..n_left], 0));
        each(right, &ends[n_left..], middle);
    });
}

/// The texts of `rows` as a column.
fn column(texts: &Texts, rows: impl ExactSizeIterator<Item = usize>) -> StringArray {
    let mut column = StringBuilder::with_capacity(rows.len(), texts.n_bytes());
    rows.for_each(|row| column.append_value(texts.get(row)));
    column.finish()
}

/// For every code of `from` the code of the same text in `into`.
fn recode(into: &mut Dictionary, from: &Dictionary) -> Vec<u32> {
    from.texts.iter().map(|text| into.code(text)).collect()
}

/// A sorted range of events in columns; cheap to clone.
///
/// Codes index the block's own dictionaries, whose order means nothing.
#[derive(Debug, Clone)]
pub struct Block {
    /// The texts of `experiment`.
    pub experiments: StringArray,
    /// The texts of `name`.
    pub names: StringArray,
    /// Codes of experiments.
    pub experiment: ScalarBuffer<i32>,
    /// Users, as stored.
    pub user: ScalarBuffer<i64>,
    /// Microseconds since 1970, UTC.
    pub timestamp: ScalarBuffer<i64>,
    /// Codes of variants or event types.
    pub name: ScalarBuffer<i32>,
    /// Forced flags, or values in 1/10,000.
    pub value: ScalarBuffer<i64>,
    /// Fingerprints of the event ids.
    pub event_id: ScalarBuffer<i64>,
    /// The contexts, if they were read.
    pub context: Option<StringArray>,
    /// The users as texts, if they were read and there are any.
    pub user_text: Option<StringArray>,
}

impl Block {
    /// Returns the number of rows.
    pub fn len(&self) -> usize {
        self.user.len()
    }

    /// Returns whether the block has no rows.
    pub fn is_empty(&self) -> bool {
        self.user.is_empty()
    }

    /// Returns the experiment of row `row`.
    pub fn experiment_at(&self, row: usize) -> &str {
        self.experiments.value(self.experiment[row] as usize)
    }

    /// Returns the name of row `row`.
    pub fn name_at(&self, row: usize) -> &str {
        self.names.value(self.name[row] as usize)
    }

    /// Returns the context of row `row`; empty if it has none or contexts were not read.
    pub fn context_at(&self, row: usize) -> &str {
        text_at(self.context.as_ref(), row)
    }

    /// Returns the user of row `row` as it was sent; empty if it is an integer or texts were not
    /// read.
    pub fn user_text_at(&self, row: usize) -> &str {
        text_at(self.user_text.as_ref(), row)
    }

    /// Returns row `row` as an event.
    pub fn row(&self, row: usize) -> EventRow<'_> {
        EventRow {
            experiment: self.experiment_at(row),
            user: self.user[row],
            timestamp: self.timestamp[row],
            name: self.name_at(row),
            value: self.value[row],
            event_id: self.event_id[row],
            context: self.context_at(row),
            user_text: self.user_text_at(row),
        }
    }

    /// Returns the end of the range of rows from `row` on that have its experiment.
    pub fn experiment_end(&self, row: usize) -> usize {
        let code = self.experiment[row];
        row + self.experiment[row..].partition_point(|&other| other == code)
    }

    /// Returns rows `from..to` without a copy.
    pub fn slice(&self, from: usize, to: usize) -> Self {
        let cut = |column: &ScalarBuffer<i64>| column.slice(from, to - from);
        let cut_texts = |column: &Option<StringArray>| {
            let column = column.as_ref()?;
            Some(column.slice(from, to - from))
        };
        Self {
            experiments: self.experiments.clone(),
            names: self.names.clone(),
            experiment: self.experiment.slice(from, to - from),
            user: cut(&self.user),
            timestamp: cut(&self.timestamp),
            name: self.name.slice(from, to - from),
            value: cut(&self.value),
            event_id: cut(&self.event_id),
            context: cut_texts(&self.context),
            user_text: cut_texts(&self.user_text),
        }
    }
}

fn text_at(column: Option<&StringArray>, row: usize) -> &str {
    match column {
        Some(texts) if texts.is_valid(row) => texts.value(row),
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn row<'a>(
        experiment: &'a str,
        user: i64,
        timestamp: i64,
        name: &'a str,
    ) -> EventRow<'a> {
        EventRow {
            experiment,
            user,
            timestamp,
            name,
            value: 1,
            event_id: 1,
            context: "",
            user_text: "",
        }
    }

    #[test]
    fn sorting_orders_by_experiment_user_time_and_content() {
        let mut batch = Batch::new(EventKind::Metric);
        for row in [
            row("b", 1, 1, "x"),
            row("a", 2, 1, "x"),
            row("a", -1, 5, "y"),
            row("a", -1, 5, "x"),
            row("a", -1, 4, "z"),
        ] {
            batch.push(&row);
        }
        let block = batch.sorted();
        let order: Vec<_> = (0..block.len())
            .map(|at| {
                let row = block.row(at);
                (row.experiment, row.user, row.timestamp, row.name)
            })
            .collect();
        assert_eq!(
            order,
            [
                ("a", -1, 4, "z"),
                ("a", -1, 5, "x"),
                ("a", -1, 5, "y"),
                ("a", 2, 1, "x"),
                ("b", 1, 1, "x")
            ]
        );
        assert_eq!(block.experiment_end(0), 4);
    }

    #[test]
    fn appending_keeps_every_row_with_its_context() {
        let mut left = Batch::new(EventKind::Assignment);
        left.push(&EventRow {
            context: "{\"a\":1}",
            ..row("a", 1, 1, "x")
        });
        let mut right = Batch::new(EventKind::Assignment);
        right.push(&row("b", 2, 2, "y"));
        right.push(&EventRow {
            context: "{\"b\":2}",
            ..row("a", 3, 3, "x")
        });
        left.append(&right);
        let rows: Vec<_> = (0..left.len()).map(|at| left.row(at)).collect();
        assert_eq!(rows[0].context, "{\"a\":1}");
        assert_eq!(
            (rows[1].experiment, rows[1].name, rows[1].context),
            ("b", "y", "")
        );
        assert_eq!((rows[2].experiment, rows[2].context), ("a", "{\"b\":2}"));
    }
}
