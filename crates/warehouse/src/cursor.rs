//! Steps through a sorted stream of events: a run on disk, a block in memory, rows of ClickHouse.

use crate::batch::Block;
#[cfg(feature = "clickhouse")]
use crate::clickhouse::stream::EventStream;
use crate::error::WarehouseError;
use crate::run::RunReader;

/// Where sorted blocks come from.
pub(crate) enum Source {
    /// Blocks that lie in memory, sorted among themselves.
    Memory(std::vec::IntoIter<Block>),
    /// Rows of a run.
    Run(Box<RunReader>),
    /// Rows that ClickHouse sends.
    #[cfg(feature = "clickhouse")]
    ClickHouse(Box<EventStream>),
}

impl Source {
    pub(crate) fn next_block(&mut self) -> Result<Option<Block>, WarehouseError> {
        match self {
            Self::Memory(blocks) => Ok(blocks.next()),
            Self::Run(reader) => reader.next_block(),
            #[cfg(feature = "clickhouse")]
            Self::ClickHouse(stream) => stream.next_block(),
        }
    }
}

/// Reads a source row by row; at any time it stands on a row or at the end.
pub struct Cursor {
    source: Source,
    /// The block it stands in; none at the end.
    block: Option<Block>,
    row: usize,
    /// The end, in the block, of the rows of the current row's experiment.
    experiment_end: usize,
    /// Counts the blocks, so that a user can tell when dictionaries changed.
    generation: u64,
}

impl Cursor {
    pub(crate) fn new(source: Source) -> Result<Self, WarehouseError> {
        let mut cursor = Self {
            source,
            block: None,
            row: 0,
            experiment_end: 0,
            generation: 0,
        };
        cursor.next_block()?;
        Ok(cursor)
    }

    fn next_block(&mut self) -> Result<(), WarehouseError> {
        self.block = self.source.next_block()?;
        while self.block.as_ref().is_some_and(Block::is_empty) {
            self.block = self.source.next_block()?;
        }
        self.row = 0;
        self.generation += 1;
        self.experiment_end = self
            .block
            .as_ref()
            .map_or(0, |block| block.experiment_end(0));
        Ok(())
    }

    /// The block and the row in it; none at the end.
    pub(crate) fn here(&self) -> Option<(&Block, usize)> {
        self.block.as_ref().map(|block| (block, self.row))
    }

    /// The experiment of the current row; none at the end.
    pub(crate) fn experiment(&self) -> Option<&str> {
        self.here().map(|(block, row)| block.experiment_at(row))
    }

    /// The end, in the block, of the current experiment's rows.
    pub(crate) fn experiment_end(&self) -> usize {
        self.experiment_end
    }

    /// Changes whenever another block, with other dictionaries, is entered.
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// Moves to `row` of the block, or to what follows the block.
    ///
    /// Tells whether the experiment may have changed.
    pub(crate) fn move_to(&mut self, row: usize) -> Result<bool, WarehouseError> {
        self.row = row;
        if row < self.experiment_end {
            return Ok(false);
        }
        match &self.block {
            Some(block) if row < block.len() => self.experiment_end = block.experiment_end(row),
            Some(_) => self.next_block()?,
            None => {}
        }
        Ok(true)
    }
}

/// A [`Cursor`] that shows the rows of one experiment at a time.
pub(crate) struct WithinExperiment {
    cursor: Cursor,
    /// Whether it stands on the experiment that was entered.
    inside: bool,
}

impl WithinExperiment {
    /// In no experiment yet.
    pub(crate) fn new(cursor: Cursor) -> Self {
        Self {
            cursor,
            inside: false,
        }
    }

    /// Moves to `experiment`, past what is left of earlier ones.
    pub(crate) fn enter(&mut self, experiment: &str) -> Result<(), WarehouseError> {
        while self
            .cursor
            .experiment()
            .is_some_and(|current| current < experiment)
        {
            self.cursor.move_to(self.cursor.experiment_end())?;
        }
        self.inside = self.cursor.experiment() == Some(experiment);
        Ok(())
    }

    /// The block and the row in it; none at the end of the experiment.
    pub(crate) fn here(&self) -> Option<(&Block, usize)> {
        self.cursor.here().filter(|_| self.inside)
    }

    /// The user of the current row; none at the end of the experiment.
    pub(crate) fn user(&self) -> Option<i64> {
        self.here().map(|(block, row)| block.user[row])
    }

    /// As [`Cursor::experiment_end`].
    pub(crate) fn experiment_end(&self) -> usize {
        self.cursor.experiment_end()
    }

    /// As [`Cursor::generation`].
    pub(crate) fn generation(&self) -> u64 {
        self.cursor.generation()
    }

    /// Passes over the rows of users before `user`.
    pub(crate) fn skip_to(&mut self, user: i64) -> Result<(), WarehouseError> {
        while let Some((block, row)) = self.here() {
            let users = &block.user[row..self.experiment_end()];
            let n_before = users.iter().take_while(|other| **other < user).count();
            if n_before == 0 {
                break;
            }
            self.move_to(row + n_before)?;
        }
        Ok(())
    }

    /// Moves to `row` of the block, or to what follows the block.
    pub(crate) fn move_to(&mut self, row: usize) -> Result<(), WarehouseError> {
        if row < self.cursor.experiment_end() {
            return self.cursor.move_to(row).map(drop);
        }
        // Only here the experiment can change, so the text is compared rarely.
        let before = self.cursor.experiment().map(str::to_owned);
        self.cursor.move_to(row)?;
        self.inside = before.is_some() && before.as_deref() == self.cursor.experiment();
        Ok(())
    }
}
