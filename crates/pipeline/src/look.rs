//! Stores the standing of the looks with each run, and decides whether a look is the planned one.

use std::ops::Range;

use trialog_catalog::experiments::Experiment;
use trialog_catalog::sequence::STANDING;
use trialog_catalog::{Catalog, CatalogError};
use trialog_model::experiment::Metrics;
use trialog_model::published::{AnalysisRow, Computation, HighWaterMark};
use trialog_model::sequence::{Break, PastLook, Sequence};
use trialog_model::time::UnixMicros;
use trialog_report::Subject;
use trialog_report::standing::{self, Look, Measurements, Planned, Standing};
use trialog_report::summary::{self, SUMMARY, Summary};
use trialog_warehouse::fold::UserFilter;
use trialog_warehouse::view::View;

use crate::compute::{Computed, Limits, compute, fingerprint};
use crate::error::PipelineError;
use crate::subject;

/// How long until an experiment that waits for its users to be mature is looked at again.
const AGAIN_MICROS: i64 = 3_600_000_000;

/// Whether the next look is the planned one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    /// No look is planned, it was taken, or users are missing.
    No,
    /// There are enough users, and their windows have yet to close.
    ForWindows,
    /// It is this one.
    Over,
}

impl Wait {
    /// Returns when the experiment is due only because time passes. `next` is when an event makes
    /// it due.
    pub(crate) fn until(self, next: Option<UnixMicros>, now: UnixMicros) -> Option<UnixMicros> {
        let again = UnixMicros(now.0.saturating_add(AGAIN_MICROS));
        match (self, next) {
            (Self::ForWindows, Some(next)) => Some(next.min(again)),
            (Self::ForWindows, None) => Some(again),
            (Self::No | Self::Over, next) => next,
        }
    }
}

/// What a run needs to know about earlier looks.
pub(crate) struct Looking<'a> {
    view: &'a View,
    limits: &'a Limits,
    n_threads: usize,
    data_time: UnixMicros,
    /// The standing of each experiment before this run.
    previous: Vec<Option<Standing>>,
    /// The breaks in the looks at each experiment.
    breaks: Vec<Vec<Break>>,
}

impl<'a> Looking<'a> {
    /// Reads the standings of `experiments` before this run.
    pub(crate) fn at(
        catalog: &Catalog,
        (view, limits, n_threads): (&'a View, &'a Limits, usize),
        experiments: &[Experiment],
        data_time: UnixMicros,
    ) -> Result<Self, CatalogError> {
        let ids: Vec<_> = (experiments.iter())
            .map(|experiment| &experiment.definition.experiment_id)
            .collect();
        let sequences = catalog.sequences(&ids)?;
        let previous = (experiments.iter().zip(&sequences))
            .map(|(experiment, sequence)| previous_standing(catalog, experiment, limits, sequence));
        Ok(Self {
            view,
            limits,
            n_threads,
            data_time,
            previous: previous.collect::<Result<_, CatalogError>>()?,
            breaks: (sequences.into_iter())
                .map(|sequence| sequence.breaks)
                .collect(),
        })
    }

    /// Decides whether the look at the experiment with this number is the planned one.
    pub(crate) fn wait(
        &self,
        number: usize,
        experiment: &Experiment,
        computed: &Computed,
    ) -> Result<Wait, PipelineError> {
        let Ok(computation) = &computed.outcome else {
            return Ok(Wait::No);
        };
        let previous = self.previous[number].as_ref();
        let Planned::If {
            mature,
            first,
            users,
        } = standing::when_planned(&subject(experiment), computation, previous, self.data_time)
        else {
            return Ok(Wait::No);
        };
        let is_mature = self.have_users(experiment, mature, users)?;
        let is_over = is_mature
            && match first {
                None => true,
                Some(before) => self.have_users(experiment, before, 1)?,
            };
        Ok(if is_over {
            Wait::Over
        } else {
            Wait::ForWindows
        })
    }

    /// Returns whether each arm of `experiment` has `users` who were exposed before `before`.
    fn have_users(
        &self,
        experiment: &Experiment,
        before: i64,
        users: u64,
    ) -> Result<bool, PipelineError> {
        let filter = UserFilter {
            exposed: Range {
                start: None,
                end: Some(before),
            },
            ..UserFilter::default()
        };
        // Users are counted, and no events of theirs.
        let mut counted = experiment.clone();
        counted.definition.metrics = Metrics::default();
        counted.defined_metrics.clear();
        let limits = Limits {
            undeclared_event_types: 0,
            ..*self.limits
        };
        let (view, one) = (self.view, std::slice::from_ref(&counted));
        let computed = compute(view, one, &limits, self.data_time, &filter, self.n_threads)?;
        // An experiment that cannot be counted waits; its own outcome says what is wrong.
        let computation = computed
            .into_iter()
            .next()
            .and_then(|computed| computed.outcome.ok());
        let has_users =
            |counted: Computation| standing::has_users(&experiment.definition, &counted, users);
        Ok(computation.is_some_and(has_users))
    }

    /// Builds the rows that are published with `look` at the experiment with this number: its
    /// standing, and the summary of its report for lists.
    pub(crate) fn rows(
        &self,
        number: usize,
        look: &Look<'_>,
        mark: HighWaterMark,
    ) -> Vec<AnalysisRow> {
        let measured = look.measure();
        let standing = Standing::after(self.previous[number].as_ref(), look, &measured);
        let sequence = Sequence {
            looked_at: None,
            standing: None,
            breaks: self.breaks[number].clone(),
        };
        let this = PastLook {
            at: look.at,
            run_id: mark.run_id,
        };
        let counting = Some(&standing).filter(|_| sequence.counts(this));
        let summary = summary_row(look, &measured, counting, &sequence.breaks);
        let standing = AnalysisRow {
            analysis: STANDING.to_owned(),
            key: String::new(),
            body: standing.to_json(),
        };
        vec![standing, summary]
    }
}

/// Makes the row with the summary of the report on `look`, which a list reads instead of
/// building the report.
fn summary_row(
    look: &Look<'_>,
    measured: &Measurements,
    standing: Option<&Standing>,
    breaks: &[Break],
) -> AnalysisRow {
    // What is published ends an earlier failure.
    let subject = Subject {
        failure: None,
        ..look.subject
    };
    let look = Look { subject, ..*look };
    let current = &look.computation.fingerprint;
    let summary = Summary::from_look(&look, measured, standing, current, breaks);
    AnalysisRow {
        analysis: SUMMARY.to_owned(),
        key: String::new(),
        body: summary.to_json(&summary::basis(&subject, current, breaks)),
    }
}

/// Reads the standing after the last look, or makes it from stored sums where looks are from
/// before standings were kept.
fn previous_standing(
    catalog: &Catalog,
    experiment: &Experiment,
    limits: &Limits,
    sequence: &Sequence,
) -> Result<Option<Standing>, CatalogError> {
    if sequence.standing.is_some() || sequence.looked_at.is_none() {
        return Ok(Standing::from_sequence(sequence));
    }
    let fingerprint = fingerprint(experiment, limits);
    let looks = catalog.looks(&experiment.definition.experiment_id, &fingerprint)?;
    let counting: Vec<_> = (looks.into_iter())
        .filter(|(look, _)| sequence.counts(*look))
        .map(|(look, rows)| (look.at, rows))
        .collect();
    Ok(Standing::of_looks(&subject(experiment), &counting))
}

/// Builds the look that is about to be published.
pub(crate) fn look<'a>(
    experiment: &'a Experiment,
    computation: &'a Computation,
    at: UnixMicros,
    wait: Wait,
) -> Look<'a> {
    Look {
        subject: subject(experiment),
        computation,
        at,
        is_planned: wait == Wait::Over,
    }
}
