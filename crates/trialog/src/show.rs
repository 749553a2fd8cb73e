//! Formats tables for people.

mod bars;
mod breakdown;
mod cohorts;
mod context;
mod funnel;
mod timeline;

use std::fmt::Write;

use serde_json::Value;
use trialog_model::experiment::Status;
use trialog_model::metric::MetricRole;
use trialog_model::published::EventCounts;
use trialog_model::text::escaped;
use trialog_report::{
    Comparison, Flag, Guardrail, Headline, MetricReport, Report, headline_levels,
};

use self::bars::Bar;
pub(crate) use self::breakdown::breakdown;
pub(crate) use self::cohorts::cohorts;
pub(crate) use self::context::context;
pub(crate) use self::funnel::funnel;
pub(crate) use self::timeline::timeline;

/// Columns that are as wide as their widest cell; numbers to the right.
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(head: &[&str]) -> Self {
        Self {
            rows: vec![head.iter().map(|cell| (*cell).to_owned()).collect()],
        }
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        // A line break in a cell would begin a row.
        let shown = |cell: String| escaped(&cell, false).into_owned();
        self.rows.push(cells.into_iter().map(shown).collect());
    }

    pub(crate) fn text(&self) -> String {
        let n_columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            self.rows
                .iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
        };
        let widths: Vec<usize> = (0..n_columns)
            .map(|column| width(column).unwrap_or(0))
            .collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::from("  ");
            for (cell, width) in row.iter().zip(&widths) {
                let padding = " ".repeat(width - cell.chars().count());
                let is_number =
                    cell.starts_with(|first: char| first.is_ascii_digit() || "-+[".contains(first));
                let (before, after) = if is_number {
                    (padding.as_str(), "")
                } else {
                    ("", padding.as_str())
                };
                line.push_str(&format!("{before}{cell}{after}  "));
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

pub(crate) fn experiments(experiments: &[Value]) -> String {
    let mut table = Table::new(&["experiment", "status", "variants", "owner"]);
    for experiment in experiments {
        let text = |field: &str| experiment[field].as_str().unwrap_or_default().to_owned();
        let variants = experiment["variants"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        let names: Vec<&str> = variants
            .iter()
            .filter_map(|variant| variant["variant"].as_str())
            .collect();
        table.row([
            text("experiment_id"),
            status(experiment),
            names.join(", "),
            text("owner"),
        ]);
    }
    table.text()
}

/// Where an experiment is in its life, with the decision about it.
fn status(experiment: &Value) -> String {
    let status = experiment["status"].as_str().unwrap_or_default();
    let decision = &experiment["decision"];
    match (decision["ship"].as_str(), status) {
        (Some(variant), "stopped") => format!("{status}, ships {variant}"),
        (Some(variant), _) => format!("{status}, shipped {variant}"),
        (None, _) if decision.is_object() => format!("{status}, ships nothing"),
        (None, _) => status.to_owned(),
    }
}

pub(crate) fn metrics(metrics: &[Value]) -> String {
    let mut table = Table::new(&[
        "metric",
        "kind",
        "event type",
        "window",
        "direction",
        "owner",
    ]);
    for metric in metrics {
        let text = |field: &str| metric[field].as_str().unwrap_or_default().to_owned();
        table.row(["name", "kind", "event_type", "window", "direction", "owner"].map(text));
    }
    table.text()
}

pub(crate) fn layers(layers: &[Value]) -> String {
    let mut table = Table::new(&["layer", "experiments", "free", "owner"]);
    for layer in layers {
        let experiments = layer["experiments"].as_array().map_or(0, Vec::len);
        let free = layer["free_share"].as_f64().unwrap_or_default() * 100.0;
        table.row([
            layer["name"].as_str().unwrap_or_default().to_owned(),
            experiments.to_string(),
            format!("{free:.2} %"),
            layer["owner"].as_str().unwrap_or_default().to_owned(),
        ]);
    }
    table.text()
}

pub(crate) fn holdouts(holdouts: &[Value]) -> String {
    let mut table = Table::new(&["holdout", "status", "size", "scope", "owner"]);
    for holdout in holdouts {
        let text = |field: &str| holdout[field].as_str().unwrap_or_default().to_owned();
        let size = holdout["size"].as_f64().unwrap_or_default() * 100.0;
        let scope = match holdout["experiments"].as_array() {
            Some(scope) => format!("{} experiments", scope.len()),
            None => "every experiment".to_owned(),
        };
        table.row([
            text("name"),
            text("status"),
            format!("{size} %"),
            scope,
            text("owner"),
        ]);
    }
    table.text()
}

/// Shows the decisions about a user, with their steps if they are included.
pub(crate) fn assignments(assignments: &[Value]) -> String {
    let mut table = Table::new(&["experiment", "decision", "variant"]);
    for assignment in assignments {
        let text = |field: &str| assignment[field].as_str().unwrap_or_default().to_owned();
        table.row(["experiment_id", "decision", "variant"].map(text));
    }
    let mut shown = table.text();
    for assignment in assignments {
        for step in assignment["why"].as_array().into_iter().flatten() {
            let (id, text) = (&assignment["experiment_id"], &step["text"]);
            let (id, text) = (
                id.as_str().unwrap_or_default(),
                text.as_str().unwrap_or_default(),
            );
            // Writing to a String cannot fail.
            let _ = writeln!(shown, "{id}: {text}");
        }
    }
    shown
}

pub(crate) fn report(report: &Report) -> String {
    let computed = report.computed_at.as_deref().unwrap_or("never");
    let decision = match &report.decision {
        Some(decided) => format!(
            "decision: {} ({}, {}): {}\n",
            decided.outcome(),
            decided.by,
            decided.at,
            decided.reason
        ),
        None if report.status == Status::Stopped => format!(
            "decision: none yet, everybody sees the control: `trialog decide {} --ship VARIANT --reason TEXT`, or --none\n",
            report.experiment_id
        ),
        None => String::new(),
    };
    format!(
        "{} ({}), computed at {computed}\n{decision}{}",
        report.experiment_id,
        report.status.as_str(),
        body(report)
    )
}

/// Shows a report on a file.
pub(crate) fn analysis(report: &Report) -> String {
    let users: u64 = report.variants.iter().map(|variant| variant.users).sum();
    format!("{}, {users} users\n{}", report.experiment_id, body(report))
}

/// Users, health, and every metric.
fn body(report: &Report) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    if let Some(filter) = &report.filter {
        let segment: Vec<String> = filter
            .segment
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        let bound = |name: &str, time: &Option<String>| {
            time.as_ref().map(|time| format!("exposed {name} {time}"))
        };
        let parts = segment
            .into_iter()
            .chain(bound("from", &filter.from))
            .chain(bound("before", &filter.to));
        let _ = writeln!(
            text,
            "only users with {}",
            parts.collect::<Vec<_>>().join(", ")
        );
    }
    let _ = writeln!(text, "\n{}", users(report).text());
    if let Some(srm) = &report.health.srm {
        let verdict = if srm.failed { "FAILED" } else { "passed" };
        let at_looks = srm.sequential_p_value.map_or_else(String::new, |p_value| {
            format!(
                "at every look together p = {}; this look ",
                number(Some(p_value))
            )
        });
        let _ = writeln!(
            text,
            "sample ratio: {verdict} ({at_looks}p = {})",
            number(srm.p_value)
        );
    }
    if let Some(reason) = &report.health.srm_reason {
        let _ = writeln!(text, "sample ratio: not measured ({reason})");
    }
    if report.health.crossovers + report.health.forced > 0 || report.computed_at.is_some() {
        let _ = writeln!(
            text,
            "crossovers: {}, forced: {}",
            report.health.crossovers, report.health.forced
        );
    }
    text.push_str(&plan(report));
    for warning in &report.health.warnings {
        let severity = warning.severity.as_str();
        let _ = writeln!(text, "{severity}: {}", warning.text());
    }
    text.push_str(&event_table(
        report.health.events.as_deref().unwrap_or_default(),
    ));
    for metric in &report.metrics {
        let _ = write!(text, "\n{}", metric_table(metric, report.alpha));
    }
    let bars = bars::draw(&bars(report));
    if !bars.is_empty() {
        let comparisons = report.metrics.iter().flat_map(|metric| &metric.comparisons);
        let level = level(comparisons, report.alpha);
        let _ = write!(
            text,
            "\nrelative differences with {level} intervals\n{bars}"
        );
    }
    text
}

/// The users of each variant.
fn users(report: &Report) -> Table {
    let mut users = Table::new(&["variant", "users", "weight", ""]);
    for variant in &report.variants {
        let is_control = report.control.as_deref() == Some(&variant.variant);
        let weight = variant
            .weight
            .map(|weight| weight.to_string())
            .unwrap_or_default();
        let note = if is_control { "control" } else { "" };
        users.row([
            variant.variant.clone(),
            variant.users.to_string(),
            weight,
            note.to_owned(),
        ]);
    }
    users
}

/// Shows how the events of each type were used; empty if there are none.
fn event_table(events: &[EventCounts]) -> String {
    if events.is_empty() {
        return String::new();
    }
    let mut table = Table::new(&[
        "events",
        "all",
        "counted",
        "before exposure",
        "after window",
        "without exposure",
        "left out",
        "unknown variant",
    ]);
    for counted in events {
        let counts = [
            counted.events,
            counted.counted,
            counted.before_exposure,
            counted.after_window,
            counted.unexposed,
            counted.excluded,
            counted.unknown_variant,
        ];
        let counts = counts.map(|count| count.to_string());
        table.row(std::iter::once(counted.event_type.clone()).chain(counts));
    }
    format!("\n{}", table.text())
}

/// The levels of the intervals to act on: `95 %`.
fn level<'c>(comparisons: impl Iterator<Item = &'c Comparison>, alpha: f64) -> String {
    // 1 - 0.05 is not exactly 0.95.
    let text = |alpha: f64| format!("{} %", ((1.0 - alpha) * 1e8).round() / 1e6);
    let levels = headline_levels(comparisons, alpha).into_iter().map(text);
    levels.collect::<Vec<_>>().join(" or ")
}

/// How far it is on the way to the planned sample, and the planned look.
fn plan(report: &Report) -> String {
    let mut text = String::new();
    if let Some(plan) = &report.plan {
        let percent = plan.share * 100.0;
        let _ = writeln!(
            text,
            "planned sample: {percent:.0} % of {} users per variant",
            plan.sample_size_per_variant
        );
        if let Some(mde) = plan.mde {
            let _ = writeln!(text, "minimum detectable effect as planned: {mde} absolute");
        }
    }
    if let Some(planned) = report
        .sequence
        .as_ref()
        .and_then(|sequence| sequence.planned.as_ref())
    {
        let lacks_users = report.plan.as_ref().is_some_and(|plan| plan.share < 1.0);
        let has_ended = matches!(report.status, Status::Stopped | Status::Archived);
        let _ = match &planned.at {
            Some(at) => writeln!(text, "planned look: taken at {at}, its outcome stands"),
            None if has_ended && lacks_users => {
                writeln!(
                    text,
                    "planned look: did not come, it ended with too few users"
                )
            }
            None => writeln!(
                text,
                "planned look: to come, with {} users per variant whose windows have closed and after 7 days",
                planned.sample_size_per_variant
            ),
        };
    }
    text
}

/// A bar for each comparison that has a relative interval.
fn bars(report: &Report) -> Vec<Bar> {
    let of_metric = |metric: &MetricReport| {
        let bar = |comparison: &Comparison| {
            let (value, ends) =
                (comparison.headline.relative_difference).zip(comparison.headline.relative_ci)?;
            let percent = |value: f64| format!("{:+.2} %", value * 100.0);
            Some(Bar {
                label: format!(
                    "{} ({}), {}",
                    metric.metric, metric.kind, comparison.treatment
                ),
                value,
                ends,
                text: format!(
                    "{} [{}, {}]",
                    percent(value),
                    percent(ends[0]),
                    percent(ends[1])
                ),
            })
        };
        metric
            .comparisons
            .iter()
            .filter_map(bar)
            .collect::<Vec<_>>()
    };
    report.metrics.iter().flat_map(of_metric).collect()
}

fn metric_table(metric: &MetricReport, alpha: f64) -> String {
    let role = match metric.role {
        MetricRole::Primary => "primary",
        MetricRole::Secondary => "secondary",
        MetricRole::Guardrail => "guardrail",
        MetricRole::Exploratory => "exploratory",
    };
    let level = format!("{} interval", level(metric.comparisons.iter(), alpha));
    let has_events = metric.variants.iter().any(|row| row.events.is_some());
    let mut head = vec!["variant", "users", "converted"];
    head.extend(has_events.then_some("events"));
    head.extend(["total", "mean", "difference", &level]);
    head.extend(["relative", "p", "verdict", "p of this look", "adjusted"]);
    let mut table = Table::new(&head);
    for row in &metric.variants {
        let comparison =
            (metric.comparisons.iter()).find(|comparison| comparison.treatment == row.variant);
        let users = [
            row.variant.clone(),
            row.users.to_string(),
            row.converted_users.to_string(),
        ];
        let sums = [row.total.clone(), number(Some(row.mean))];
        let cells = (users.into_iter())
            .chain(row.events.map(|events| events.to_string()))
            .chain(sums)
            .chain(comparison.into_iter().flat_map(comparison_cells));
        table.row(cells);
    }
    let mut text = format!(
        "{} ({}, {role})\n{}",
        metric.metric,
        metric.kind,
        table.text()
    );
    for line in notes(metric) {
        text.push_str(&format!("  {line}\n"));
    }
    text
}

/// What the table has no column for.
fn notes(metric: &MetricReport) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(winsorised) = metric
        .variants
        .iter()
        .find_map(|row| row.winsorised.as_ref())
    {
        let end =
            |name: &str, end: &Option<String>| end.as_ref().map(|end| format!("{name} {end}"));
        let ends: Vec<String> = [
            end("below", &winsorised.lower),
            end("above", &winsorised.upper),
        ]
        .into_iter()
        .flatten()
        .collect();
        let users: u64 = (metric.variants.iter().flat_map(|row| &row.winsorised))
            .map(|winsorised| winsorised.users)
            .sum();
        notes.extend((!ends.is_empty()).then(|| {
            let ends = ends.join(" or ");
            format!("winsorised: {users} users {ends} set to it")
        }));
    }
    for comparison in &metric.comparisons {
        let treatment = &comparison.treatment;
        if let Some(guard) = &comparison.non_inferiority
            && let Some(verdict) = guard.verdict
        {
            let verdict = match verdict {
                Guardrail::Kept => "kept",
                Guardrail::Violated => "violated",
                Guardrail::Inconclusive => "inconclusive",
            };
            let margin = guard.margin * 100.0;
            notes.push(format!(
                "{treatment}: no more than {margin} % worse: {verdict} by this look"
            ));
        }
        if let Some(needed) = comparison
            .power
            .as_ref()
            .and_then(|power| power.users_needed)
            && needed > 0
        {
            notes.push(format!(
                "{treatment}: {needed} more users are needed for the planned effect"
            ));
        }
        if comparison.headline.flag.is_none() && metric.role != MetricRole::Exploratory {
            notes.push(format!(
                "{treatment}: no verdict: {}",
                comparison.headline.reason
            ));
        }
        if let Some(reason) = &comparison.relative_ci_reason {
            notes.push(format!("{treatment}: no relative interval: {reason}"));
        }
    }
    notes
}

/// Difference, interval and verdict to act on, then the test of this one look.
fn comparison_cells(comparison: &Comparison) -> [String; 7] {
    let headline = &comparison.headline;
    let relative = headline
        .relative_difference
        .map_or_else(String::new, |lift| format!("{:+.2} %", lift * 100.0));
    [
        number(headline.difference),
        range(headline.ci),
        relative,
        number(headline.p_value),
        verdict(headline),
        number(comparison.p_value),
        number(comparison.adjusted_p_value),
    ]
}

/// Words the verdict that a person should act on.
pub(crate) fn verdict(headline: &Headline) -> String {
    match (headline.flag, headline.desirable) {
        (Some(Flag::Significant), Some(true)) => "significant: better".to_owned(),
        (Some(Flag::Significant), Some(false)) => "significant: worse".to_owned(),
        // An earlier look showed a difference that goes the other way now.
        (Some(Flag::Significant), None) => "significant earlier, unclear now".to_owned(),
        (other, _) => flag(other).to_owned(),
    }
}

pub(crate) fn flag(flag: Option<Flag>) -> &'static str {
    match flag {
        Some(Flag::Significant) => "significant",
        Some(Flag::Trending) => "trending",
        Some(Flag::NotSignificant) => "not significant",
        None => "",
    }
}

/// Formats the ends of an interval; empty if there is none.
pub(crate) fn range(ends: Option<[f64; 2]>) -> String {
    ends.map_or_else(String::new, |[low, high]| {
        format!("[{}, {}]", number(Some(low)), number(Some(high)))
    })
}

/// Formats five significant digits; `-` if there is no number.
pub(crate) fn number(value: Option<f64>) -> String {
    let Some(value) = value else {
        return "-".to_owned();
    };
    if value == 0.0 {
        return "0".to_owned();
    }
    let magnitude = value.abs().log10().floor();
    if !(-4.0..9.0).contains(&magnitude) {
        return format!("{value:.4e}");
    }
    let decimals = (4.0 - magnitude).max(0.0) as usize;
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_five_significant_digits() {
        let shown = [
            0.0,
            0.123456789,
            -12.345678,
            123456.7,
            0.00012345678,
            0.00001,
            1e12,
        ]
        .map(|value| number(Some(value)));
        assert_eq!(
            shown,
            [
                "0",
                "0.12346",
                "-12.346",
                "123457",
                "0.00012346",
                "1.0000e-5",
                "1.0000e12"
            ]
        );
    }
}
