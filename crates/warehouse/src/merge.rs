//! Merges sorted sources into one run: what flush and compaction both do.

use std::cmp::Ordering;

use arrow_array::Array;
use trialog_model::event::EventKind;

use crate::batch::{Batch, Block};
use crate::cursor::{Cursor, Source};
use crate::error::WarehouseError;
use crate::run::{ROW_GROUP_ROWS, RunWriter};

/// Writes all rows of `sources` in the order of the warehouse.
pub(crate) fn merge(
    kind: EventKind,
    sources: Vec<Source>,
    writer: &mut RunWriter,
) -> Result<(), WarehouseError> {
    let mut inputs = Vec::new();
    for source in sources {
        inputs.push(Input::new(Cursor::new(source)?));
    }
    let mut output = Output {
        batch: Batch::new(kind),
        generation: 0,
        writer,
    };
    while let Some(experiment) = inputs
        .iter()
        .filter_map(|input| input.cursor.experiment())
        .min()
    {
        let experiment = experiment.to_owned();
        let mut active: Vec<&mut Input> = inputs
            .iter_mut()
            .filter(|input| input.cursor.experiment() == Some(&experiment))
            .collect();
        merge_experiment(&experiment, &mut active, &mut output)?;
    }
    output.write()
}

/// Merges the rows of one experiment; `active` all stand on it.
fn merge_experiment(
    experiment: &str,
    active: &mut Vec<&mut Input>,
    output: &mut Output<'_>,
) -> Result<(), WarehouseError> {
    while let Some(first) = (0..active.len()).min_by(|&a, &b| active[a].compare(active[b])) {
        let next = (0..active.len())
            .filter(|&input| input != first)
            .min_by(|&a, &b| active[a].compare(active[b]));
        let to = match next {
            Some(next) => active[first].rows_up_to(active[next]),
            None => active[first].cursor.experiment_end(),
        };
        output.take(active[first], to)?;
        let input = &mut active[first];
        if input.cursor.move_to(to)? && input.cursor.experiment() != Some(experiment) {
            active.swap_remove(first);
        }
    }
    Ok(())
}

/// A source and how its codes translate into the output's.
struct Input {
    cursor: Cursor,
    /// The cursor's and the output's generation that the codes are for.
    translated: (u64, u64),
    experiments: Vec<Option<u32>>,
    names: Vec<Option<u32>>,
}

impl Input {
    fn new(cursor: Cursor) -> Self {
        Self {
            cursor,
            translated: (0, 0),
            experiments: Vec::new(),
            names: Vec::new(),
        }
    }

    fn compare(&self, other: &Self) -> Ordering {
        match (self.cursor.here(), other.cursor.here()) {
            (Some((a, row_a)), Some((b, row_b))) => compare_rows(a, row_a, b, row_b),
            (a, b) => a.is_none().cmp(&b.is_none()),
        }
    }

    /// The end of the rows, from the current one on, that do not come after
    /// the current row of `other`. At least one, as the caller took the least.
    fn rows_up_to(&self, other: &Self) -> usize {
        let (Some((block, row)), Some((stop, stop_row))) =
            (self.cursor.here(), other.cursor.here())
        else {
            return 0;
        };
        let mut to = row + 1;
        while to < self.cursor.experiment_end() && compare_rows(block, to, stop, stop_row).is_le() {
            to += 1;
        }
        to
    }
}

/// The order of two rows of the same experiment.
pub(crate) fn compare_rows(a: &Block, row_a: usize, b: &Block, row_b: usize) -> Ordering {
    (a.user[row_a], a.timestamp[row_a])
        .cmp(&(b.user[row_b], b.timestamp[row_b]))
        .then_with(|| a.name_at(row_a).cmp(b.name_at(row_b)))
        .then_with(|| (a.value[row_a], a.event_id[row_a]).cmp(&(b.value[row_b], b.event_id[row_b])))
}

/// Collects merged rows and writes them a row group at a time.
struct Output<'w> {
    batch: Batch,
    generation: u64,
    writer: &'w mut RunWriter,
}

impl Output<'_> {
    /// Takes the rows of `input` from its position up to `to`.
    fn take(&mut self, input: &mut Input, to: usize) -> Result<(), WarehouseError> {
        let generation = (input.cursor.generation(), self.generation);
        let Some((block, from)) = input.cursor.here() else {
            return Ok(());
        };
        if input.translated != generation {
            input.experiments = vec![None; block.experiments.len()];
            input.names = vec![None; block.names.len()];
            input.translated = generation;
        }
        self.batch
            .extend(block, from..to, &mut input.experiments, &mut input.names);
        if self.batch.len() >= ROW_GROUP_ROWS {
            self.write()?;
        }
        Ok(())
    }

    fn write(&mut self) -> Result<(), WarehouseError> {
        if !self.batch.is_empty() {
            let kind = self.batch.kind();
            let batch = std::mem::replace(&mut self.batch, Batch::new(kind));
            self.generation += 1;
            self.writer.write(&batch.into_block())?;
        }
        Ok(())
    }
}
