//! Decides the verdict to act on.

use trialog_model::metric_definition::Direction;
use trialog_stats::Alpha;

use super::{Comparison, Flag, Headline, Looks, Terms, always_valid, desirable, ends, tested};
use crate::Measured;
use crate::standing::{self, Standing};

const UNCONFIRMED: &str = "settings that results are tested with were changed after the start: there is no verdict until the change is confirmed";

/// Decides the headline of `comparison`. `at_once` is the adjusted p-value of its one look,
/// `always` that of the always-valid test.
pub(super) fn headline(
    comparison: &Comparison,
    measured: &Measured,
    [at_once, always]: [Option<f64>; 2],
    terms: &Terms<'_>,
) -> Headline {
    let Some(looks) = terms.looks else {
        return fixed_headline(comparison, measured.direction, at_once, terms);
    };
    let early = early_headline(comparison, measured, always, terms);
    let headline = match planned_headline(looks, comparison, measured, terms) {
        Some(planned) if planned.flag == Some(Flag::Significant) => planned,
        Some(planned) if early.flag != Some(Flag::Significant) => planned,
        _ => early,
    };
    if looks.is_unconfirmed {
        return Headline {
            flag: None,
            desirable: None,
            reason: UNCONFIRMED.to_owned(),
            ..headline
        };
    }
    headline
}

/// Returns the verdict of the planned look, which later looks do not change; `None` if the planned
/// look gave no verdict, so that sequential looks go on.
fn planned_headline(
    looks: Looks<'_>,
    comparison: &Comparison,
    measured: &Measured,
    terms: &Terms<'_>,
) -> Option<Headline> {
    let was_taken = |standing: &&Standing| looks.is_as_planned && standing.planned.is_some();
    let standing = looks.standing.filter(was_taken)?;
    let key = (
        measured.metric.as_str(),
        measured.kind,
        comparison.treatment.as_str(),
    );
    let basis = standing::basis_of_verdict(&looks.subject, measured, terms);
    let stored = standing
        .planned_headline(key, &basis)
        .filter(|headline| headline.flag.is_some())?;
    let reason = "the planned look, at which every arm had its planned users: its outcome stands";
    Some(Headline {
        reason: reason.to_owned(),
        ..stored.clone()
    })
}

/// Where the data are whole and looked at once.
fn fixed_headline(
    comparison: &Comparison,
    direction: Option<Direction>,
    p_value: Option<f64>,
    terms: &Terms<'_>,
) -> Headline {
    // Of a guardrail without a direction there is a test and nothing that it says.
    let p_value = p_value.filter(|_| direction.is_some());
    let flag = p_value.map(|p_value| tells(p_value, terms.alpha));
    Headline {
        test: comparison.ci.map(|_| "fixed_horizon".to_owned()),
        difference: comparison.difference,
        relative_difference: comparison.relative_difference,
        p_value,
        alpha: Some(terms.alpha.get()),
        ci: comparison.ci,
        relative_ci: comparison.relative_ci,
        at: None,
        flag,
        desirable: desirable(flag, comparison.difference, direction),
        reason: no_headline(comparison, p_value)
            .unwrap_or("the data are whole and looked at once")
            .to_owned(),
    }
}

/// While users come in and results are looked at, only a test that holds at every look keeps
/// its level. Without a p-value there are intervals and no verdict.
fn early_headline(
    comparison: &Comparison,
    measured: &Measured,
    p_value: Option<f64>,
    terms: &Terms<'_>,
) -> Headline {
    let level = terms.early();
    let [ci, relative_ci] = always_valid_intervals(comparison, measured, level, terms);
    let p_value = p_value.filter(|_| measured.direction.is_some());
    let flag = p_value.map(|p_value| tells(p_value, level));
    // What an earlier look has shown is no verdict on a difference of the other sign.
    let then = comparison.sequential.as_ref().map(|test| test.difference);
    let shown = (comparison.difference).filter(|now| then.is_none_or(|then| then * now > 0.0));
    let reason = match terms.plan {
        Some(_) => {
            "results can be looked at whenever they are published, and this test holds at every look; it spends a fifth of alpha, the planned look the rest"
        }
        None => {
            "results can be looked at whenever they are published, and this test holds at every look"
        }
    };
    Headline {
        test: ci.map(|_| "always_valid".to_owned()),
        difference: comparison.difference,
        relative_difference: comparison.relative_difference,
        p_value,
        alpha: Some(level.get()),
        ci,
        relative_ci,
        at: None,
        flag,
        desirable: desirable(flag, shown, measured.direction),
        reason: no_headline(comparison, p_value)
            .unwrap_or(reason)
            .to_owned(),
    }
}

/// The intervals of the difference and the lift that hold at every look, at `level`.
fn always_valid_intervals(
    comparison: &Comparison,
    measured: &Measured,
    level: Alpha,
    terms: &Terms<'_>,
) -> [Option<[f64; 2]>; 2] {
    let intervals = || {
        let test = tested(comparison, measured)?;
        let valid = always_valid(&test, terms)?;
        let lift = test.always_valid_lift(&valid, level).map(ends);
        Some([valid.interval(level).map(ends), lift])
    };
    intervals().unwrap_or_default()
}

/// Why there is no verdict; `None` where there is a p-value for one.
fn no_headline(comparison: &Comparison, p_value: Option<f64>) -> Option<&str> {
    if p_value.is_some() {
        return None;
    }
    Some(match &comparison.flag_reason {
        Some(reason) => reason,
        None if comparison.test == "quantile_metric" => {
            "a quantile has no test that holds at every look"
        }
        None => "there is no test: nobody differs yet, or an arm has a single user",
    })
}

/// The flag of a p-value at `level`.
fn tells(p_value: f64, level: Alpha) -> Flag {
    match p_value < level.get() {
        true => Flag::Significant,
        false => Flag::NotSignificant,
    }
}
