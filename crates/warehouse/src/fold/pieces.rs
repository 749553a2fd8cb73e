//! Cuts the work of a fold into pieces of similar size.

use std::ops::Range;

use crate::error::WarehouseError;
use crate::fold::Plan;
use crate::fold::source::EventSource;

/// Neighbouring small experiments are taken together up to about this many
/// rows, and fewer where there would be too few pieces for the threads.
const PIECE_ROWS: u64 = 1 << 20;
/// Pieces per thread that are enough for threads to end at about the same time.
const PIECES_PER_THREAD: u64 = 4;

/// Some experiments, or a range of the users of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Places of the plans.
    pub(crate) plans: Range<usize>,
    /// The users, from the first one on and before the second one.
    pub(crate) users: Range<Option<i64>>,
    /// The number of this piece among those of its experiment.
    pub(crate) part: usize,
    n_rows: u64,
}

/// Cuts the work into pieces, the largest first, so that threads end at about the same time.
pub(crate) fn pieces(
    source: &impl EventSource,
    plans: &[Plan],
    n_threads: usize,
) -> Result<Vec<Piece>, WarehouseError> {
    let limits = source.piece_limits(n_threads);
    let mut pieces: Vec<Piece> = Vec::new();
    let mut open: Option<Piece> = None;
    let n_rows: u64 = plans.iter().map(|plan| plan.n_rows).sum();
    let piece_rows = PIECE_ROWS.min(n_rows / (PIECES_PER_THREAD * n_threads.max(1) as u64));
    for (at, plan) in plans.iter().enumerate() {
        if let Some(exposures) = &plan.exposures {
            pieces.extend(open.take());
            pieces.extend(pieces_of(at, plan, exposures.user_ranges()));
            continue;
        }
        if plan.n_rows > limits.cut_rows {
            pieces.extend(open.take());
            pieces.extend(cut_by_users(source, at, plan, limits.cut_rows)?);
            continue;
        }
        let piece = open.get_or_insert(Piece {
            plans: at..at,
            users: None..None,
            part: 0,
            n_rows: 0,
        });
        piece.plans.end = at + 1;
        piece.n_rows += plan.n_rows;
        if piece.n_rows >= piece_rows || piece.plans.len() >= limits.experiments {
            pieces.extend(open.take());
        }
    }
    pieces.extend(open);
    pieces.sort_by_key(|piece| std::cmp::Reverse(piece.n_rows));
    Ok(pieces)
}

/// Cuts one experiment with more than `cut_rows` rows by its users.
fn cut_by_users(
    source: &impl EventSource,
    at: usize,
    plan: &Plan,
    cut_rows: u64,
) -> Result<impl Iterator<Item = Piece>, WarehouseError> {
    let n_pieces = plan.n_rows.div_ceil(cut_rows / 2);
    let cuts = source.cuts(plan.experiment.as_str(), n_pieces)?;
    Ok(pieces_of(at, plan, ranges(&cuts)))
}

/// Makes a piece of each of `ranges` of the users of `plan`, which is number `at`.
fn pieces_of(
    at: usize,
    plan: &Plan,
    ranges: Vec<Range<Option<i64>>>,
) -> impl Iterator<Item = Piece> + use<> {
    let n_rows = plan.n_rows / ranges.len().max(1) as u64;
    (ranges.into_iter().enumerate()).map(move |(part, users)| Piece {
        plans: at..at + 1,
        users,
        part,
        n_rows,
    })
}

/// The ranges of users between `cuts`, which are in order; both ends are open.
pub(crate) fn ranges(cuts: &[i64]) -> Vec<Range<Option<i64>>> {
    let starts = std::iter::once(None).chain(cuts.iter().copied().map(Some));
    let ends = cuts.iter().copied().map(Some).chain([None]);
    starts.zip(ends).map(|(start, end)| start..end).collect()
}
