//! Determines from a user's assignments whether, when and to which variant the user was exposed.

use crate::error::WarehouseError;
use crate::fold::history::History;
use crate::fold::split::Split;
use crate::fold::{Exposure, Plan, Row};

/// What a user's assignments come to. A cell is the one of the earliest assignment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// No assignment counts, or the filter leaves the user out.
    Unexposed,
    /// The plan leaves the user out whole.
    LeftOut,
    /// An assignment was forced.
    Forced {
        /// The number of the cell.
        cell: u32,
    },
    /// The plan does not know the earliest variant.
    UnknownVariant {
        /// The number of the cell.
        cell: u32,
    },
    /// Two or more variants.
    Crossover {
        /// The number of the cell.
        cell: u32,
        /// The code of the earliest variant.
        variant: u32,
    },
    /// One variant.
    Exposed(Exposure),
}

impl Status {
    /// The number of the cell; none of users who have no cell.
    pub(crate) fn cell(&self) -> Option<u32> {
        match *self {
            Self::Unexposed | Self::LeftOut => None,
            Self::Forced { cell }
            | Self::UnknownVariant { cell }
            | Self::Crossover { cell, .. } => Some(cell),
            Self::Exposed(exposure) => Some(exposure.cell),
        }
    }

    /// The same status in another cell, of the split of `plan`.
    pub(crate) fn in_cell(self, plan: &Plan, cell: u32) -> Self {
        match self {
            Self::Unexposed | Self::LeftOut => self,
            Self::Forced { .. } => Self::Forced { cell },
            Self::UnknownVariant { .. } => Self::UnknownVariant { cell },
            Self::Crossover { variant, .. } => Self::Crossover { cell, variant },
            Self::Exposed(exposure) => Self::Exposed(exposure.in_cell(plan, cell)),
        }
    }
}

/// Why the events of a user count nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeftOut {
    /// The user has no assignment that counts.
    Unexposed,
    /// The user has several variants, or a forced one.
    Excluded,
    /// The plan does not know the user's variant.
    UnknownVariant,
}

/// Judges the assignments in `history`.
///
/// Only assignments within the experiment's `[start_at, end_at)` are looked
/// at, forced ones too, so a finished experiment stays as it is.
pub(crate) fn status(
    plan: &Plan,
    user: i64,
    history: &mut History,
) -> Result<Status, WarehouseError> {
    let mut first: Option<Row> = None;
    let mut forced = false;
    let mut crossover = false;
    history.each_chunk(|rows| {
        for row in rows
            .iter()
            .filter(|row| contains(&plan.within, row.timestamp))
        {
            forced |= row.value != 0;
            crossover |= first.get_or_insert(*row).name != row.name;
        }
    })?;
    let Some(first) = first else {
        return Ok(Status::Unexposed);
    };
    let is_filtered =
        !first.detail.in_segment() || !contains(&plan.filter.exposed, first.timestamp);
    let cell = match &plan.split {
        Split::Days(days) => days.cell(first.timestamp),
        Split::Whole | Split::Keys(_) => first.detail.cell(),
    };
    Ok(match (is_filtered, forced, first.name.code(), crossover) {
        (true, _, _, _) => Status::Unexposed,
        (_, true, _, _) => Status::Forced { cell },
        (_, _, None, _) => Status::UnknownVariant { cell },
        (_, _, Some(variant), true) => Status::Crossover { cell, variant },
        (_, _, Some(variant), false) => Status::Exposed(Exposure {
            user,
            variant,
            cell,
            slot: plan.slot(cell, variant),
            at: first.timestamp,
        }),
    })
}

fn contains(range: &std::ops::Range<Option<i64>>, time: i64) -> bool {
    range.start.is_none_or(|start| time >= start) && range.end.is_none_or(|end| time < end)
}
