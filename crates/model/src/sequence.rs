//! Describes the looks at an experiment, and the events after which earlier looks no longer count.

use crate::time::UnixMicros;

/// The time and the run that published a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PastLook {
    /// When, by the clock of that run.
    pub at: UnixMicros,
    /// The run: a later one has a greater number.
    pub run_id: i64,
}

/// The reason why past looks no longer count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakReason {
    /// A user's events were erased.
    Erasure,
    /// Retention dropped events.
    Retention,
    /// The definition that results are tested with was changed after the start.
    Definition,
    /// The holdout that the experiment measures let units in, who are left out since.
    Holdout,
}

impl BreakReason {
    /// Every reason.
    pub const ALL: [Self; 4] = [
        Self::Erasure,
        Self::Retention,
        Self::Definition,
        Self::Holdout,
    ];

    /// Returns the word in JSON and in the catalog.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Erasure => "erasure",
            Self::Retention => "retention",
            Self::Definition => "definition",
            Self::Holdout => "holdout",
        }
    }
}

/// The last time that past looks at an experiment ceased to count for a reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Break {
    /// Why.
    pub reason: BreakReason,
    /// When.
    pub at: UnixMicros,
    /// The last run before it, where that is known: looks of later runs count.
    pub after_run: Option<i64>,
    /// Who caused it.
    pub actor: String,
    /// The fields that were changed since the last confirmation; empty for other reasons.
    pub fields: Vec<String>,
    /// When and by whom the change was confirmed.
    pub confirmed: Option<(UnixMicros, String)>,
}

/// The last look at an experiment and the breaks of its sequence.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sequence {
    /// The last look; none before the first.
    pub looked_at: Option<PastLook>,
    /// The standing of the last look, as text; none for looks from before standings were kept.
    pub standing: Option<String>,
    /// The breaks, at most one of each reason.
    pub breaks: Vec<Break>,
}

impl Sequence {
    /// Returns whether `look` still counts.
    #[must_use]
    pub fn counts(&self, look: PastLook) -> bool {
        self.breaks.iter().all(|broken| match broken.after_run {
            // The clock may have been ahead, then or now.
            Some(last) => last < look.run_id,
            None => broken.at < look.at,
        })
    }
}
