//! Formats the tables of cohorts: days of exposure, and days since it.

use std::fmt::Write;

use trialog_report::{
    Cohorts, DaysSinceExposure, Drift, ExposureDay, ExposureDays, FollowedMetric, MetricReport,
    Novelty,
};

use super::{Table, comparison_cells, level, number, range};

/// Shows cohorts, by whichever days they are.
pub(crate) fn cohorts(cohorts: &Cohorts) -> String {
    let computed = cohorts.computed_at.as_deref().unwrap_or("never");
    let mut text = format!(
        "{} by {}, computed at {computed}\n\n",
        cohorts.experiment_id,
        cohorts.by.replace('_', " ")
    );
    if let Some(days) = &cohorts.exposure_days {
        text.push_str(&exposure_days(days, cohorts.alpha));
    }
    if let Some(days) = &cohorts.days_since_exposure {
        text.push_str(&days_since(days, cohorts.alpha));
    }
    text
}

fn exposure_days(days: &ExposureDays, alpha: f64) -> String {
    let mut text = match days.days.is_empty() {
        true => "no day of exposure whose windows have closed\n".to_owned(),
        false => table_of_days(days).text(),
    };
    // Writing to a String cannot fail.
    if days.earlier_users > 0 {
        let _ = writeln!(text, "{} users of earlier days", days.earlier_users);
    }
    if days.open_users > 0 {
        let _ = writeln!(
            text,
            "{} users of later days, whose windows are open",
            days.open_users
        );
    }
    for (name, kind) in metrics_of(&days.days) {
        let of_days = || {
            let metrics = days.days.iter().flat_map(|day| &day.metrics);
            metrics.filter(move |metric| (metric.metric.as_str(), metric.kind) == (name, kind))
        };
        let comparisons = of_days().flat_map(|metric| &metric.comparisons);
        let level = format!("{} interval", level(comparisons, alpha));
        let mut table = Table::new(&[
            "day",
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
        for day in &days.days {
            let metric = (day.metrics.iter())
                .find(|metric| (metric.metric.as_str(), metric.kind) == (name, kind));
            if let Some(metric) = metric {
                add_rows(&mut table, &day.day, metric);
            }
        }
        let _ = write!(text, "\n{name} ({kind})\n{}", table.text());
    }
    if !days.drift.is_empty() {
        text.push_str("\ndrift over the calendar\n");
    }
    for drift in &days.drift {
        let _ = writeln!(text, "{}", drift_text(drift));
    }
    text
}

/// The metrics of all days, in the order in which they first occur.
fn metrics_of(days: &[ExposureDay]) -> Vec<(&str, trialog_model::metric::MetricKind)> {
    let mut metrics = Vec::new();
    for metric in days.iter().flat_map(|day| &day.metrics) {
        let key = (metric.metric.as_str(), metric.kind);
        if !metrics.contains(&key) {
            metrics.push(key);
        }
    }
    metrics
}

/// The users of each day and its sample ratio check.
fn table_of_days(days: &ExposureDays) -> Table {
    let mut table = Table::new(&["day", "users", "sample ratio", "p", "open metrics"]);
    for day in &days.days {
        let srm = day.health.srm.as_ref();
        let verdict = srm.map_or("not measured", |srm| match srm.failed {
            true => "FAILED",
            false => "passed",
        });
        table.row([
            day.day.clone(),
            day.users.to_string(),
            verdict.to_owned(),
            number(srm.and_then(|srm| srm.p_value)),
            day.open_metrics.join(", "),
        ]);
    }
    table
}

fn add_rows(table: &mut Table, day: &str, metric: &MetricReport) {
    for row in &metric.variants {
        let comparison =
            (metric.comparisons.iter()).find(|comparison| comparison.treatment == row.variant);
        let cells = [
            day.to_owned(),
            row.variant.clone(),
            row.users.to_string(),
            number(Some(row.mean)),
        ];
        let compared = comparison.into_iter().flat_map(comparison_cells);
        table.row(cells.into_iter().chain(compared));
    }
}

fn drift_text(drift: &Drift) -> String {
    let what = format!("{} ({}), {}", drift.metric, drift.kind, drift.treatment);
    if let Some(reason) = &drift.reason {
        return format!("{what}: no test: {reason}");
    }
    let verdict = match drift.drifts {
        Some(true) => "the effect drifts",
        _ => "no drift",
    };
    format!(
        "{what}: {verdict}: {} a day {}, p = {}, adjusted {}; over {} days, {} left out",
        number(drift.slope),
        range(drift.ci),
        number(drift.p_value),
        number(drift.adjusted_p_value),
        drift.days,
        drift.left_out_days
    )
}

fn days_since(days: &DaysSinceExposure, alpha: f64) -> String {
    let users = days.users.iter();
    let users: Vec<String> = users
        .map(|(variant, users)| format!("{users} of {variant}"))
        .collect();
    let mut text = match users.is_empty() {
        true => "no exposed users\n".to_owned(),
        false => format!(
            "users whose {} days have all ended: {}; {} users still have open days\n",
            days.days,
            users.join(", "),
            days.open_users
        ),
    };
    // Writing to a String cannot fail.
    for metric in &days.metrics {
        let _ = write!(text, "\n{} ({})\n", metric.metric, metric.kind);
        text.push_str(&table_of_metric(metric, alpha).text());
        for comparison in &metric.comparisons {
            let _ = writeln!(text, "{}", novelty_text(comparison));
        }
    }
    text
}

fn table_of_metric(metric: &FollowedMetric, alpha: f64) -> Table {
    // 1 - 0.05 is not exactly 0.95.
    let level = format!("{} % interval", ((1.0 - alpha) * 1e8).round() / 1e6);
    let mut table = Table::new(&[
        "day",
        "variant",
        "active",
        "mean",
        "difference",
        &level,
        "log ratio",
        &level,
    ]);
    let n_days = metric
        .variants
        .first()
        .map_or(0, |variant| variant.days.len());
    for at in 0..n_days {
        for variant in &metric.variants {
            let Some(day) = variant.days.get(at) else {
                continue;
            };
            let compared = (metric.comparisons.iter())
                .find(|comparison| comparison.treatment == variant.variant)
                .and_then(|comparison| comparison.days.get(at));
            let compared = compared.map(|compared| {
                [
                    number(Some(compared.difference)),
                    range(compared.ci),
                    number(compared.log_ratio),
                    range(compared.log_ratio_ci),
                ]
            });
            let cells = [
                day.day.to_string(),
                variant.variant.clone(),
                day.active_users.to_string(),
                number(day.mean),
            ];
            table.row(cells.into_iter().chain(compared.into_iter().flatten()));
        }
    }
    table
}

fn novelty_text(novelty: &Novelty) -> String {
    let treatment = &novelty.treatment;
    let verdict = match (novelty.verdict.as_deref(), &novelty.reason) {
        (Some("none"), _) => "the ratio does not change with the days".to_owned(),
        (Some("fading"), _) => "the effect fades with the days".to_owned(),
        (Some("growing"), _) => "the effect grows with the days".to_owned(),
        (Some(_), _) => "the effect changes with the days".to_owned(),
        (None, Some(reason)) => format!("no verdict: {reason}"),
        (None, None) => "no verdict".to_owned(),
    };
    let Some(per_doubling) = novelty.per_doubling else {
        return format!("{treatment}: {verdict}");
    };
    format!(
        "{treatment}: {verdict}; {:+.2} % per doubling of the days, p = {}, adjusted {}",
        100.0 * per_doubling,
        number(novelty.p_value),
        number(novelty.adjusted_p_value)
    )
}
