//! Cuts the work of a fold into pieces of similar size.

use std::ops::Range;

use trialog_model::event::EventKind;

use crate::fold::Plan;
use crate::snapshot::Snapshot;

/// Neighbouring small experiments are taken together up to about this many
/// rows, and fewer where there would be too few pieces for the threads.
const PIECE_ROWS: u64 = 1 << 20;
/// Pieces per thread that are enough for threads to end at about the same time.
const PIECES_PER_THREAD: u64 = 4;
/// An experiment is cut by users only where it is larger than this: every cut
/// decodes some row groups twice.
const LARGE_ROWS: u64 = 8 << 20;

/// Some experiments, or a range of the users of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Places of the plans.
    pub(crate) plans: Range<usize>,
    /// The users, from the first one on and before the second one.
    pub(crate) users: Range<Option<i64>>,
    n_rows: u64,
}

/// The pieces, the largest first, so that threads end at about the same time.
pub(crate) fn pieces(snapshot: &Snapshot, plans: &[Plan], n_threads: usize) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = Vec::new();
    let mut open: Option<Piece> = None;
    let n_rows: u64 = plans.iter().map(|plan| plan.n_rows).sum();
    let piece_rows = PIECE_ROWS.min(n_rows / (PIECES_PER_THREAD * n_threads.max(1) as u64));
    for (at, plan) in plans.iter().enumerate() {
        if plan.n_rows > LARGE_ROWS && n_threads > 1 {
            pieces.extend(open.take());
            pieces.extend(cut_by_users(snapshot, at, plan));
            continue;
        }
        let piece = open.get_or_insert(Piece {
            plans: at..at,
            users: None..None,
            n_rows: 0,
        });
        piece.plans.end = at + 1;
        piece.n_rows += plan.n_rows;
        if piece.n_rows >= piece_rows {
            pieces.extend(open.take());
        }
    }
    pieces.extend(open);
    pieces.sort_by_key(|piece| std::cmp::Reverse(piece.n_rows));
    pieces
}

/// Cuts one experiment at users that begin row groups of its largest run.
fn cut_by_users(snapshot: &Snapshot, at: usize, plan: &Plan) -> Vec<Piece> {
    let whole = Piece {
        plans: at..at + 1,
        users: None..None,
        n_rows: plan.n_rows,
    };
    let Some((run, rows)) = snapshot.largest_run_of(EventKind::Metric, plan.experiment.as_str())
    else {
        return vec![whole];
    };
    let starts: Vec<i64> = (run.row_groups())
        .filter(|(group, _)| group.start > rows.start && group.end <= rows.end)
        .filter_map(|(_, users)| users.map(|(least, _)| least))
        .collect();
    let n_pieces = plan.n_rows.div_ceil(LARGE_ROWS / 2) as usize;
    let step = starts.len().div_ceil(n_pieces).max(1);
    let mut cuts: Vec<Option<i64>> = starts
        .iter()
        .skip(step)
        .step_by(step)
        .copied()
        .map(Some)
        .collect();
    cuts.dedup();
    let begins = std::iter::once(None).chain(cuts.iter().copied());
    let ends = cuts.iter().copied().chain(std::iter::once(None));
    let n_rows = plan.n_rows / (cuts.len() as u64 + 1);
    begins
        .zip(ends)
        .map(|(begin, end)| Piece {
            plans: at..at + 1,
            users: begin..end,
            n_rows,
        })
        .collect()
}
