//! Formats the tables of a timeline: each metric over time, and since when it has been stable.

use std::fmt::Write;

use trialog_report::{MetricTimeline, StabilityReport, Timeline, TimelineLine};

use super::{Table, number, range};

/// Shows a timeline: for each metric its lines, and the stability of each treatment.
pub(crate) fn timeline(timeline: &Timeline) -> String {
    let mut text = format!(
        "{}: {} publications\n",
        timeline.experiment_id, timeline.looks
    );
    if timeline.metrics.is_empty() {
        text.push_str("\nno primary metrics: give one with --metric\n");
    }
    // Writing to a String cannot fail.
    for metric in &timeline.metrics {
        let _ = write!(text, "\n{} ({})\n", metric.metric, metric.kind);
        if metric.lines.is_empty() {
            text.push_str("no results yet\n");
        }
        for line in &metric.lines {
            if !line.current {
                let _ = writeln!(
                    text,
                    "by an earlier definition, or before what interrupted the looks:"
                );
            }
            text.push_str(&table(line, timeline.alpha).text());
        }
        text.push_str(&notes(metric));
    }
    text
}

fn table(line: &TimelineLine, alpha: f64) -> Table {
    // 1 - 0.05 is not exactly 0.95.
    let level = ((1.0 - alpha) * 1e8).round() / 1e6;
    let (once, always) = (
        format!("{level} % of one look"),
        format!("{level} % at every look"),
    );
    let mut table = Table::new(&[
        "at",
        "",
        "variant",
        "users",
        "mean",
        "difference",
        &once,
        &always,
    ]);
    for point in &line.points {
        for variant in &point.variants {
            let comparison = (point.comparisons.iter())
                .find(|comparison| comparison.treatment == variant.variant);
            let cells = [
                point.at.clone(),
                if point.backfilled { "backfilled" } else { "" }.to_owned(),
                variant.variant.clone(),
                variant.users.to_string(),
                number(variant.mean),
            ];
            let compared = comparison.map(|comparison| {
                [
                    number(comparison.difference),
                    range(comparison.ci),
                    range(comparison.always_valid_ci),
                ]
            });
            table.row(cells.into_iter().chain(compared.into_iter().flatten()));
        }
    }
    table
}

fn notes(metric: &MetricTimeline) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    for stability in &metric.stability {
        let _ = writeln!(text, "{}", verdict(stability));
    }
    if let Some(reason) = &metric.not_backfilled {
        let _ = writeln!(text, "not backfilled: {reason}");
    }
    text
}

/// Words the stability of a treatment.
fn verdict(stability: &StabilityReport) -> String {
    let constant = match stability.constant_rejected {
        Some(true) => "the effect has changed over time",
        Some(false) => "one constant effect agrees with all looks",
        None => "nothing can be said yet",
    };
    let since = |time: &Option<String>| time.clone().unwrap_or_else(|| "not yet".to_owned());
    let mut text = format!(
        "{}: {constant}; stable since: {}",
        stability.treatment,
        since(&stability.stable_since)
    );
    if let Some(mde) = stability.mde {
        let precise = since(&stability.precise_since);
        // Writing to a String cannot fail.
        let _ = write!(text, "; precise to {mde} since: {precise}");
    }
    text
}
