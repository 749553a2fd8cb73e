//! What a report says of the looks: since when they count, the planned one, what broke them.

use serde::{Deserialize, Serialize};
use trialog_model::experiment::Definition;
use trialog_model::sequence::{Break, BreakReason, Sequence};
use trialog_stats::Alpha;

use crate::standing::{self, Standing};
use crate::{Severity, Warning};

/// The looks that were taken at an experiment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SequenceReport {
    /// How many count, this one included.
    pub looks: u64,
    /// When the first of them was published, RFC 3339; null where only the last one counts.
    pub since: Option<String>,
    /// The level of always-valid tests: alpha, or with a plan a fifth of it.
    pub early_alpha: f64,
    /// The planned look; null without a plan.
    pub planned: Option<PlannedOutcome>,
    /// Why earlier looks no longer count, the last time of each reason.
    pub breaks: Vec<SequenceBreak>,
}

/// The planned look.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlannedOutcome {
    /// Users whose windows have closed that each arm needs.
    pub sample_size_per_variant: u64,
    /// The level that it spends.
    pub alpha: f64,
    /// When it was published, RFC 3339; null as long as it has not come.
    pub at: Option<String>,
}

/// Why earlier looks no longer count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SequenceBreak {
    /// `erasure`, `retention` or `definition`.
    pub reason: String,
    /// When, RFC 3339.
    pub at: String,
    /// Who did it.
    pub actor: String,
    /// What was changed; empty for other reasons.
    pub fields: Vec<String>,
    /// When a change was confirmed, RFC 3339; null as long as nobody has.
    pub confirmed_at: Option<String>,
    /// Who confirmed it.
    pub confirmed_by: Option<String>,
}

impl SequenceBreak {
    fn of(own: &Break) -> Self {
        let confirmed = own.confirmed.as_ref();
        Self {
            reason: own.reason.as_str().to_owned(),
            at: own.at.to_rfc3339(),
            actor: own.actor.clone(),
            fields: own.fields.clone(),
            confirmed_at: confirmed.map(|(at, _)| at.to_rfc3339()),
            confirmed_by: confirmed.map(|(_, by)| by.clone()),
        }
    }
}

pub(crate) fn report(
    definition: &Definition,
    sequence: &Sequence,
    standing: Option<&Standing>,
) -> SequenceReport {
    let alpha = Alpha::new(definition.alpha).unwrap_or(Alpha::P05);
    SequenceReport {
        looks: standing.map_or(1, |own| own.looks.max(1)),
        since: standing
            .and_then(Standing::since)
            .map(|time| time.to_rfc3339()),
        early_alpha: standing::early(alpha, definition.plan.is_some()).get(),
        planned: (definition.plan.as_ref()).map(|plan| PlannedOutcome {
            sample_size_per_variant: plan.sample_size_per_variant,
            alpha: standing::planned(alpha).get(),
            at: standing
                .and_then(Standing::planned_at)
                .map(|time| time.to_rfc3339()),
        }),
        breaks: sequence.breaks.iter().map(SequenceBreak::of).collect(),
    }
}

/// Whether a change after the start waits for somebody to confirm it.
pub(crate) fn is_unconfirmed(sequence: &Sequence) -> bool {
    (sequence.breaks.iter())
        .any(|own| own.reason == BreakReason::Definition && own.confirmed.is_none())
}

/// Says why earlier looks no longer count.
pub(crate) fn warn(warnings: &mut Vec<Warning>, sequence: &Sequence) {
    warnings.extend(sequence.breaks.iter().map(warning));
    warnings.sort_by_key(|warning| warning.severity);
}

fn warning(own: &Break) -> Warning {
    let (at, actor) = (own.at, &own.actor);
    match (own.reason, &own.confirmed) {
        (BreakReason::Definition, None) => {
            let message = format!(
                "{} changed at {at}, after the start, by {actor}: looks from before no longer count, and there is no verdict until somebody confirms the change",
                own.fields.join(", ")
            );
            Warning::new(Severity::Error, "changed_after_start", message)
                .action("POST /v1/experiments/{id}/confirm, or `trialog experiments confirm ID`, if the change was not made because of what results had shown; else change it back or register a new experiment")
        }
        (BreakReason::Definition, Some((confirmed_at, by))) => {
            let message = format!(
                "{} changed at {at}, after the start, by {actor}; {by} confirmed it at {confirmed_at}: only looks since the change count",
                own.fields.join(", ")
            );
            Warning::new(Severity::Warning, "changed_after_start", message)
        }
        (BreakReason::Erasure, _) => {
            let message = format!(
                "events of users were erased, the last time at {at}: looks from before no longer count, as their data no longer do"
            );
            Warning::new(Severity::Info, "looks_before_erasure", message)
        }
        (BreakReason::Retention, _) => {
            let message = format!(
                "retention dropped events at {at}: of the looks only the last counts, as the data of the others are gone"
            );
            Warning::new(Severity::Info, "looks_before_retention", message)
        }
        (BreakReason::Holdout, _) => {
            let message = format!(
                "the holdout got smaller, the last time at {at} by {actor}: units that it let in are left out of both groups, and looks from before no longer count"
            );
            Warning::new(Severity::Info, "looks_before_holdout_shrank", message)
        }
    }
}
