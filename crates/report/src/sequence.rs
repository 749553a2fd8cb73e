//! Reports the looks: since when they count, the planned one, and what interrupted them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trialog_model::experiment::Definition;
use trialog_model::sequence::{Break, BreakReason, Sequence};
use trialog_stats::Alpha;

use crate::standing::{self, Standing};
use crate::{Severity, Warning};

/// The looks at an experiment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SequenceReport {
    /// The number of looks that count, this one included.
    pub looks: u64,
    /// When the first look that counts was published, RFC 3339; null where only the last one
    /// counts.
    #[schemars(extend("format" = "date-time"))]
    pub since: Option<String>,
    /// The level of always-valid tests: alpha without a plan, a fifth of it with one.
    #[schemars(range(min = 0, max = 1))]
    pub early_alpha: f64,
    /// The planned look; null without a plan.
    pub planned: Option<PlannedOutcome>,
    /// The breaks after which earlier looks no longer count, the last one of each reason.
    pub breaks: Vec<SequenceBreak>,
}

/// The planned look.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct PlannedOutcome {
    /// The users with closed windows that each arm needs.
    pub sample_size_per_variant: u64,
    /// The level that the planned look spends.
    #[schemars(range(min = 0, max = 1))]
    pub alpha: f64,
    /// When the planned look was published, RFC 3339; null before it.
    #[schemars(extend("format" = "date-time"))]
    pub at: Option<String>,
}

/// A break after which earlier looks no longer count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SequenceBreak {
    /// The reason: `erasure`, `retention`, `definition` or `holdout`.
    #[schemars(extend("enum" = ["erasure", "retention", "definition", "holdout"]))]
    pub reason: String,
    /// When it happened, RFC 3339.
    #[schemars(extend("format" = "date-time"))]
    pub at: String,
    /// Who caused it.
    pub actor: String,
    /// The fields that were changed; empty for reasons other than `definition`.
    pub fields: Vec<String>,
    /// When somebody confirmed the change, RFC 3339; null before that.
    #[schemars(extend("format" = "date-time"))]
    pub confirmed_at: Option<String>,
    /// Who confirmed the change; null before that.
    pub confirmed_by: Option<String>,
}

impl SequenceBreak {
    pub(crate) fn from_break(broken: &Break) -> Self {
        let confirmed = broken.confirmed.as_ref();
        Self {
            reason: broken.reason.as_str().to_owned(),
            at: broken.at.to_rfc3339(),
            actor: broken.actor.clone(),
            fields: broken.fields.clone(),
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
        looks: standing.map_or(1, |standing| standing.looks.max(1)),
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
        breaks: sequence
            .breaks
            .iter()
            .map(SequenceBreak::from_break)
            .collect(),
    }
}

/// Returns whether a change after the start still needs confirmation.
pub(crate) fn is_unconfirmed(sequence: &Sequence) -> bool {
    (sequence.breaks.iter())
        .any(|broken| broken.reason == BreakReason::Definition && broken.confirmed.is_none())
}

/// Warns why earlier looks no longer count.
pub(crate) fn warn(warnings: &mut Vec<Warning>, breaks: &[Break]) {
    warnings.extend(breaks.iter().map(warning));
    warnings.sort_by_key(|warning| warning.severity);
}

fn warning(broken: &Break) -> Warning {
    let (at, actor) = (broken.at, &broken.actor);
    match (broken.reason, &broken.confirmed) {
        (BreakReason::Definition, None) => {
            let message = format!(
                "{} changed at {at}, after the start, by {actor}: looks from before no longer count, and there is no verdict until somebody confirms the change",
                broken.fields.join(", ")
            );
            Warning::new(Severity::Error, "changed_after_start", message)
                .action("POST /v1/experiments/{id}/confirm, or `trialog experiments confirm ID`, if the change was not made because of what results had shown; else change it back or register a new experiment")
        }
        (BreakReason::Definition, Some((confirmed_at, by))) => {
            let message = format!(
                "{} changed at {at}, after the start, by {actor}; {by} confirmed it at {confirmed_at}: only looks since the change count",
                broken.fields.join(", ")
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
