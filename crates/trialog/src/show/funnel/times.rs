//! The tables of how long users take to the steps of a funnel.

use trialog_report::{Funnel, ReachedShare, StepTimes, TimeComparison};

use super::{share, signed_points};
use crate::show::{Table, number};

/// Shows the times of each variant and step; `None` where they were not asked for.
pub(super) fn times(funnel: &Funnel) -> Option<Table> {
    let timed = funnel.variants.iter().flat_map(|variant| {
        let steps = variant.steps.iter();
        steps.filter_map(|step| Some((&variant.variant, &step.event_type, step.times.as_ref()?)))
    });
    let timed: Vec<(&String, &String, &StepTimes)> = timed.collect();
    let (_, _, first) = timed.first()?;
    let within = first.reached_by.iter();
    let within: Vec<String> = within
        .map(|share| format!("within {}", share.within))
        .collect();
    let fixed = [
        "variant", "step", "observed", "reached", "median", "interval",
    ];
    let titles = fixed.into_iter().chain(within.iter().map(String::as_str));
    let mut table = Table::new(&titles.collect::<Vec<_>>());
    for (variant, event_type, times) in &timed {
        let cells = [
            (*variant).clone(),
            (*event_type).clone(),
            times.mature_users.to_string(),
            times.mature_reached.to_string(),
            times.median_seconds.map_or_else(String::new, duration),
            interval(times.median_ci),
        ];
        let shares = times.reached_by.iter();
        table.row(cells.into_iter().chain(shares.map(reached)));
    }
    Some(table)
}

/// Shows who reached the last step by preset times.
pub(super) fn by_time(comparisons: &[TimeComparison], level: &str) -> Table {
    let mut table = Table::new(&["last step", "difference", level, "p", "adjusted", ""]);
    for comparison in comparisons {
        let points = |value: f64| format!("{} points", signed_points(value));
        table.row([
            format!("within {}", comparison.within),
            comparison.difference.map_or_else(String::new, points),
            comparison.ci.map_or_else(String::new, |[low, high]| {
                format!("{} to {}", signed_points(low), signed_points(high))
            }),
            number(comparison.p_value),
            number(comparison.adjusted_p_value),
            if comparison.significant {
                "significant"
            } else {
                ""
            }
            .to_owned(),
        ]);
    }
    table
}

fn reached(reached: &ReachedShare) -> String {
    match reached.rate {
        Some(rate) => share(Some(rate)),
        None => "not observed".to_owned(),
    }
}

fn interval([low, high]: [Option<f64>; 2]) -> String {
    if low.is_none() && high.is_none() {
        return String::new();
    }
    let end = |end: Option<f64>| end.map_or_else(|| "?".to_owned(), duration);
    format!("{} to {}", end(low), end(high))
}

/// Shows seconds in the largest unit of which there is one at least.
fn duration(seconds: f64) -> String {
    let units = [(86_400.0, "d"), (3_600.0, "h"), (60.0, "min")];
    let unit = units.into_iter().find(|(length, _)| seconds >= *length);
    let (length, name) = unit.unwrap_or((1.0, "s"));
    format!("{:.1} {name}", seconds / length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_the_largest_unit_that_fits() {
        let shown = [0.25, 59.0, 60.0, 5_400.0, 172_800.0].map(duration);
        assert_eq!(shown, ["0.2 s", "59.0 s", "1.0 min", "1.5 h", "2.0 d"]);
        assert_eq!(interval([Some(60.0), None]), "1.0 min to ?");
        assert_eq!(interval([None, None]), "");
    }
}
