//! Summarises a report for lists of experiments.
//!
//! A run stores the summary with the sums that it publishes, so that a list of fifty
//! experiments reads fifty short rows instead of building fifty reports.

use serde::{Deserialize, Serialize};
use trialog_model::experiment::Status;
use trialog_model::sequence::Break;

use crate::health::{self, Checked};
use crate::sequence::{self, SequenceBreak};
use crate::standing::basis::short_text;
use crate::standing::{Look, Measurements, Standing};
use crate::{Decided, Paused, Progress, Report, Subject, Warning, no_verdict, variants};

/// The name of the analysis under which summaries are stored.
pub const SUMMARY: &str = "summary";

/// The version of the encoding, and of what a summary means.
const VERSION: u32 = 1;

/// The part of a report that a list shows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Where the experiment is in its life.
    pub status: Status,
    /// When the numbers were published, RFC 3339; `None` before the first run.
    pub computed_at: Option<String>,
    /// Users of all variants together.
    pub users: u64,
    /// The progress towards the planned sample.
    pub plan: Option<Progress>,
    /// The warnings, the most severe first.
    pub warnings: Vec<Warning>,
}

/// A summary as it is stored, with its basis.
#[derive(Serialize, Deserialize)]
struct Stored {
    version: u32,
    basis: String,
    summary: Summary,
}

impl Summary {
    /// Extracts the summary from `report`.
    pub fn from_report(report: &Report) -> Self {
        Self {
            status: report.status,
            computed_at: report.computed_at.clone(),
            users: report.variants.iter().map(|variant| variant.users).sum(),
            plan: report.plan.clone(),
            warnings: report.health.warnings.clone(),
        }
    }

    /// Summarises the report on a published look without building it: intervals and p-values are
    /// in no list. `standing` is that after the look, none if the look does not count; `current` is
    /// the fingerprint of the definition, and `breaks` are those in its sequence of looks.
    pub fn from_look(
        look: &Look<'_>,
        measured: &Measurements,
        standing: Option<&Standing>,
        current: &str,
        breaks: &[Break],
    ) -> Self {
        let Look {
            subject,
            computation,
            at,
            ..
        } = look;
        let definition = subject.definition;
        let mut health = health::health(&Checked {
            subject: *subject,
            computation,
            measured: &measured.metrics,
            srm: standing.and_then(|standing| standing.srm),
            is_published: true,
            is_filtered: false,
            counts_events: true,
            current,
        });
        sequence::warn(&mut health.warnings, breaks);
        no_verdict::warn(&mut health, &measured.metrics, measured.control.as_deref());
        let variants = variants(definition, computation);
        Self {
            status: subject.status,
            computed_at: Some(at.to_rfc3339()),
            users: variants.iter().map(|variant| variant.users).sum(),
            plan: health::progress(definition, computation),
            warnings: health.warnings,
        }
    }

    /// Writes the summary with its `basis`.
    pub fn to_json(&self, basis: &str) -> String {
        let stored = Stored {
            version: VERSION,
            basis: basis.to_owned(),
            summary: self.clone(),
        };
        serde_json::to_string(&stored).unwrap_or_default()
    }

    /// Reads a summary; `None` where it was made from anything but `basis`, or by another
    /// version: then a report has to be built.
    pub fn from_json(text: &str, basis: &str) -> Option<Self> {
        let stored: Stored = serde_json::from_str(text).ok()?;
        let is_current = stored.version == VERSION && stored.basis == basis;
        is_current.then_some(stored.summary)
    }
}

/// Writes everything that a summary depends on beside the published sums: the words of this
/// version, the subject, the fingerprint `current` of its definition, and the breaks in its
/// sequence of looks.
pub fn basis(subject: &Subject<'_>, current: &str, breaks: &[Break]) -> String {
    let breaks: Vec<_> = breaks.iter().map(SequenceBreak::from_break).collect();
    let pauses: Vec<_> = subject.pauses.iter().map(Paused::from_pause).collect();
    let parts = (
        env!("CARGO_PKG_VERSION"),
        subject.definition,
        subject.defined_metrics,
        subject.status,
        subject.started_at.map(|time| time.0),
        subject.stopped_at.map(|time| time.0),
        subject.decision.map(Decided::from_decision),
        pauses,
        subject.failure,
        current,
        breaks,
    );
    short_text(&serde_json::to_string(&parts).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use trialog_model::experiment::Definition;
    use trialog_model::ids::ExperimentId;

    use super::*;

    #[test]
    fn a_summary_holds_only_for_what_it_was_made_from() {
        let definition = Definition::unregistered(ExperimentId::new("checkout").unwrap());
        let subject = Subject::from_definition(&definition);
        let basis_now = basis(&subject, "f", &[]);
        let summary = Summary {
            status: Status::Running,
            computed_at: Some("2026-01-05T09:30:00Z".to_owned()),
            users: 7,
            plan: None,
            warnings: Vec::new(),
        };
        let text = summary.to_json(&basis_now);
        assert_eq!(Summary::from_json(&text, &basis_now), Some(summary));
        let failed = Subject {
            failure: Some("a sum overflows"),
            ..subject
        };
        let stopped = Subject {
            status: Status::Stopped,
            ..subject
        };
        for other in [
            basis(&failed, "f", &[]),
            basis(&stopped, "f", &[]),
            basis(&subject, "g", &[]),
        ] {
            assert_eq!(Summary::from_json(&text, &other), None);
        }
        assert_eq!(Summary::from_json("{}", &basis_now), None);
    }
}
