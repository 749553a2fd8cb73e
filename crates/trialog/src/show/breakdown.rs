//! Formats the table of a breakdown: segments one below the other, metric by metric.

use std::fmt::Write;

use trialog_report::{
    Breakdown, Evidence, Heterogeneity, HeterogeneityVerdict, MetricReport, Segment,
};

use super::{Table, comparison_cells, level, number};

/// Shows a breakdown: the segments, then each metric with a row for each segment and treatment.
pub(crate) fn breakdown(breakdown: &Breakdown) -> String {
    let computed = breakdown.computed_at.as_deref().unwrap_or("never");
    let keys = breakdown.by.join(" and ");
    let mut text = format!(
        "{} by {keys}, computed at {computed}\n\n",
        breakdown.experiment_id
    );
    if breakdown.segments.is_empty() {
        text.push_str("no exposed users\n");
        return text;
    }
    text.push_str(&segments(breakdown).text());
    // Writing to a String cannot fail.
    for (at, metric) in breakdown.segments[0].metrics.iter().enumerate() {
        let _ = write!(text, "\n{}", metric_table(breakdown, at, metric));
    }
    let _ = write!(text, "\n{}", differences(breakdown));
    text
}

/// Whether the effects differ between segments: the tests, then the segments that make the
/// difference.
fn differences(breakdown: &Breakdown) -> String {
    let mut table = Table::new(&[
        "metric",
        "kind",
        "treatment",
        "F",
        "p",
        "adjusted",
        "the effect",
    ]);
    for test in &breakdown.heterogeneity {
        table.row([
            test.metric.clone(),
            test.kind.to_string(),
            test.treatment.clone(),
            number(test.f),
            number(test.p_value),
            number(test.adjusted_p_value),
            says(test),
        ]);
    }
    let evidence = match breakdown.evidence {
        Evidence::Confirmatory => {
            "These segments were declared before the start, so what differs is confirmed."
        }
        Evidence::Exploratory => {
            "These segments were not declared before the start: what differs is a question for the next experiment."
        }
    };
    let advice = "Segments are not corrected for one another above: the more of them, the more differences appear by chance. Whether effects differ is tested here.";
    match breakdown.heterogeneity.is_empty() {
        true => "one segment: there is nothing to compare\n".to_owned(),
        false => format!("{}\n{advice}\n{evidence}\n", table.text()),
    }
}

/// What the test says, with the segments that it names.
fn says(test: &Heterogeneity) -> String {
    let named: Vec<String> = (test.segments.iter())
        .filter(|segment| segment.named)
        .map(|segment| {
            let shrunk = number(Some(segment.shrunk));
            format!("{} ({shrunk} shrunk)", segment.segment)
        })
        .collect();
    match (test.verdict, &test.reason) {
        (Some(HeterogeneityVerdict::Differs), _) if named.is_empty() => "differs".to_owned(),
        (Some(HeterogeneityVerdict::Differs), _) => format!("differs in {}", named.join(", ")),
        (Some(HeterogeneityVerdict::NoDifferenceFound), _) => "is not shown to differ".to_owned(),
        (None, reason) => format!("no verdict: {}", reason.as_deref().unwrap_or("no test")),
    }
}

/// The users of each segment and its sample ratio check.
fn segments(breakdown: &Breakdown) -> Table {
    let mut table = Table::new(&["segment", "users", "sample ratio", "p"]);
    for segment in &breakdown.segments {
        let srm = segment.health.srm.as_ref();
        let verdict = srm.map_or("not measured", |srm| match srm.failed {
            true => "FAILED",
            false => "passed",
        });
        table.row([
            segment.label.clone(),
            segment.users.to_string(),
            verdict.to_owned(),
            number(srm.and_then(|srm| srm.p_value)),
        ]);
    }
    table
}

/// One metric in every segment; every segment has the same metrics in the same order.
fn metric_table(breakdown: &Breakdown, at: usize, metric: &MetricReport) -> String {
    let of_segments = || {
        let segments = breakdown.segments.iter();
        segments.filter_map(|segment| Some((segment, segment.metrics.get(at)?)))
    };
    let comparisons = of_segments().flat_map(|(_, metric)| &metric.comparisons);
    let level = format!("{} interval", level(comparisons, breakdown.alpha));
    let mut table = Table::new(&[
        "segment",
        "variant",
        "users",
        "mean",
        "difference",
        &level,
        "relative",
        "p",
        "verdict",
        "p of this look",
        "adjusted",
    ]);
    for (segment, metric) in of_segments() {
        add_rows(&mut table, segment, metric);
    }
    format!("{} ({})\n{}", metric.metric, metric.kind, table.text())
}

fn add_rows(table: &mut Table, segment: &Segment, metric: &MetricReport) {
    for row in &metric.variants {
        let comparison =
            (metric.comparisons.iter()).find(|comparison| comparison.treatment == row.variant);
        let cells = [
            segment.label.clone(),
            row.variant.clone(),
            row.users.to_string(),
            number(Some(row.mean)),
        ];
        let compared = comparison.into_iter().flat_map(comparison_cells);
        table.row(cells.into_iter().chain(compared));
    }
}
