//! Renders the scorecard: the report's metrics by role, as tables and a forest plot.

mod row;

use askama::Template;
use askama::filters::HtmlSafe;
use trialog_model::metric::{MetricKind, MetricRole};

use self::row::{Cells, Row};
use super::forest::{self, Estimate, Forest};
use super::format::{self, Sign};
use trialog_report::{MetricReport, Report, VariantSums, headline_levels};

/// The most rows of a role's table; the API has all of them.
const MOST_ROWS: usize = 400;

/// The metrics of a role.
#[derive(Debug, Template)]
#[template(path = "scorecard.html")]
pub(crate) struct Section {
    id: String,
    title: &'static str,
    note: &'static str,
    level: String,
    /// Empty where p-values are not adjusted together.
    correction: String,
    metrics: Vec<Metric>,
    left_out: usize,
    plot: Option<Forest>,
    plot_left_out: usize,
    /// Comparisons that the plot cannot show, and why.
    not_plotted: Vec<(String, String)>,
}

impl HtmlSafe for Section {}

#[derive(Debug)]
struct Metric {
    name: String,
    kind: MetricKind,
    /// What is good, in words.
    good: String,
    rows: Vec<Row>,
}

/// Returns the sections of `report` that have metrics. Their ids end with `suffix`, so that a page
/// may show several reports.
pub(crate) fn sections(report: &Report, suffix: &str) -> Vec<Section> {
    [
        (MetricRole::Primary, "primary", "Primary metrics", "They decide the experiment; their p-values are adjusted together."),
        (MetricRole::Secondary, "secondary", "Secondary metrics", "They explain the outcome; their p-values are adjusted together."),
        (MetricRole::Guardrail, "guardrail", "Guardrail metrics", "They must not get worse; each is tested on its own, without adjustment."),
        (MetricRole::Exploratory, "exploratory", "Exploratory", "Event types that the experiment does not declare: for ideas, never for a decision, so no verdict is given."),
    ]
    .into_iter()
    .filter_map(|(role, id, title, note)| {
        let is_adjusted = matches!(role, MetricRole::Primary | MetricRole::Secondary);
        let section = Section {
            id: format!("{id}{suffix}"),
            title,
            note,
            level: level(report, role),
            correction: if is_adjusted { report.correction.clone() } else { String::new() },
            metrics: Vec::new(),
            left_out: 0,
            plot: None,
            plot_left_out: 0,
            not_plotted: Vec::new(),
        };
        self::section(report, role, section)
    })
    .collect()
}

/// The levels of the intervals to act on: `95 %`.
fn level(report: &Report, role: MetricRole) -> String {
    let of_role = report.metrics.iter().filter(|metric| metric.role == role);
    let comparisons = of_role.flat_map(|metric| &metric.comparisons);
    let text = |alpha: f64| {
        let percent = format::significant((1.0 - alpha) * 100.0, 5, Sign::Minus);
        format!("{percent} %")
    };
    let levels = headline_levels(comparisons, report.alpha)
        .into_iter()
        .map(text);
    levels.collect::<Vec<_>>().join(" or ")
}

fn section(report: &Report, role: MetricRole, mut section: Section) -> Option<Section> {
    let mut n_rows = 0;
    let mut estimates = Vec::new();
    for (index, metric) in report.metrics.iter().enumerate() {
        if metric.role != role {
            continue;
        }
        if n_rows > 0 && n_rows + metric.variants.len() > MOST_ROWS {
            section.left_out += 1;
            continue;
        }
        n_rows += metric.variants.len();
        let shown = Metric::from_report(
            metric,
            report.control.as_deref(),
            &format!("/metrics/{index}"),
        );
        shown.plot(&mut estimates, &mut section.not_plotted);
        section.metrics.push(shown);
    }
    section.plot_left_out = estimates.len().saturating_sub(forest::MOST_ROWS);
    let control = report.control.as_deref().unwrap_or_default();
    let title = format!(
        "{}: relative difference from {control}, with {} intervals",
        section.title, section.level
    );
    section.plot = Forest::new(&format!("forest-{}", section.id), &title, &estimates);
    (!section.metrics.is_empty()).then_some(section)
}

impl Metric {
    fn from_report(metric: &MetricReport, control: Option<&str>, path: &str) -> Self {
        let row = |(index, sums): (usize, &VariantSums)| {
            let found = metric
                .comparisons
                .iter()
                .position(|comparison| comparison.treatment == sums.variant);
            let comparison = found.map(|at| {
                Cells::from_comparison(
                    &metric.comparisons[at],
                    metric.kind,
                    &format!("{path}/comparisons/{at}"),
                )
            });
            Row::from_sums(
                sums,
                metric.kind,
                control,
                &format!("{path}/variants/{index}"),
                comparison,
            )
        };
        Self {
            name: metric.metric.clone(),
            kind: metric.kind,
            good: match metric.direction {
                Some(direction) => format!("{} is good", direction.as_str()),
                None => "nobody said which way is good".to_owned(),
            },
            rows: metric.variants.iter().enumerate().map(row).collect(),
        }
    }

    fn plot(&self, estimates: &mut Vec<Estimate>, not_plotted: &mut Vec<(String, String)>) {
        let n_treatments = self
            .rows
            .iter()
            .filter(|row| row.comparison.is_some())
            .count();
        for row in &self.rows {
            let Some(cells) = &row.comparison else {
                continue;
            };
            let label = match n_treatments {
                1 => format!("{} ({})", self.name, self.kind),
                _ => format!("{} ({}), {}", self.name, self.kind, row.variant),
            };
            match (cells.lift, &cells.relative, &cells.headline_relative) {
                (Some(lift), Some(relative), Some(interval)) => estimates.push(Estimate {
                    label,
                    lift,
                    interval: interval.ends(),
                    text: format!("{} ({})", relative.shown(), interval.text()),
                    class: cells.verdict.class,
                }),
                _ => {
                    let reason = cells.no_relative.clone();
                    not_plotted.push((
                        label,
                        reason.unwrap_or_else(|| "there is no interval".to_owned()),
                    ));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn comparison(treatment: &str, difference: f64, flag: &Value) -> Value {
        json!({"treatment": treatment, "test": "two_proportion_z", "difference": difference,
               "ci": [difference - 0.01, difference + 0.01], "relative_difference": difference * 10.0,
               "relative_ci": [difference * 10.0 - 0.1, difference * 10.0 + 0.1], "statistic": 2.0, "df": null,
               "p_value": 0.0455, "adjusted_p_value": 0.0455, "cohens_d": 0.1, "flag": flag,
               "headline": {"test": "always_valid", "difference": difference, "relative_difference": difference * 10.0, "p_value": 0.03, "ci": [difference - 0.015, difference + 0.015],
                            "relative_ci": [difference * 10.0 - 0.1, difference * 10.0 + 0.1], "flag": flag, "desirable": null, "reason": "it holds at every look"}})
    }

    fn metric(name: &str, role: &str, direction: &str, comparisons: &[Value]) -> Value {
        let variant = |name: &str| {
            json!({"variant": name, "users": 1000, "converted_users": 100, "events": 150, "total": "300.5000",
                   "conversion_rate": 0.1, "mean": 0.1, "variance": 0.09})
        };
        json!({"metric": name, "event_type": name, "kind": "conversion", "role": role, "direction": direction, "window": "7d",
               "variants": [variant("old"), variant("new")], "comparisons": comparisons})
    }

    fn report(metrics: &[Value]) -> Report {
        serde_json::from_value(json!({
            "experiment_id": "gate", "status": "running", "computed_at": null, "position": null, "data_time": null, "filter": null, "alpha": 0.05,
            "correction": "holm", "control": "old", "variants": [], "plan": null, "metrics": metrics,
            "health": {"srm": null, "srm_with_crossovers": null, "crossovers": 0, "forced": 0, "warnings": []}
        }))
        .unwrap()
    }

    fn html(metrics: &[Value]) -> Vec<String> {
        sections(&report(metrics), "")
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn metrics_stand_under_their_role_in_the_order_of_importance() {
        let shown = html(&[
            metric("seen", "exploratory", "increase", &[]),
            metric("crash", "guardrail", "decrease", &[]),
            metric("buy", "primary", "increase", &[]),
        ]);
        let found: Vec<bool> = shown
            .iter()
            .zip(["buy", "crash", "seen"])
            .map(|(section, name)| section.contains(name))
            .collect();
        assert_eq!(found, [true, true, true]);
        assert!(shown[1].contains("decrease is good"));
    }

    #[test]
    fn a_verdict_says_which_way_in_words_and_in_the_plot() {
        let mut rise = [comparison("new", 0.02, &json!("significant"))];
        rise[0]["headline"]["desirable"] = json!(true);
        let better = &html(&[metric("buy", "primary", "increase", &rise)])[0];
        assert!(better.contains("significant: better") && better.contains("class=\"row good\""));
        rise[0]["headline"]["desirable"] = json!(false);
        let worse = &html(&[metric("crash", "guardrail", "decrease", &rise)])[0];
        assert!(worse.contains("significant: worse") && worse.contains("class=\"row bad\""));
    }

    #[test]
    fn a_number_is_shown_short_and_carried_in_full() {
        let shown = &html(&[metric(
            "buy",
            "primary",
            "increase",
            &[comparison("new", 0.0212345, &json!("trending"))],
        )])[0];
        let difference = r#"<data value="0.0212345" data-path="/metrics/0/comparisons/0/difference">+2.1 pp</data>"#;
        assert!(shown.contains(difference), "{shown}");
        assert!(
            shown.contains(r#"data-path="/metrics/0/variants/1/mean">10.00 %</data>"#),
            "{shown}"
        );
    }

    #[test]
    fn a_comparison_without_a_relative_interval_is_named_with_the_reason() {
        let mut not_significant = comparison("new", 0.02, &json!("not_significant"));
        not_significant["relative_ci"] = Value::Null;
        not_significant["headline"]["relative_ci"] = Value::Null;
        not_significant["relative_ci_reason"] = json!("the control's mean is 0");
        let shown = &html(&[metric("buy", "primary", "increase", &[not_significant])])[0];
        assert!(!shown.contains("<svg"));
        assert!(
            shown.contains("buy (conversion): the control&#39;s mean is 0"),
            "{shown}"
        );
    }

    #[test]
    fn names_from_events_are_escaped() {
        let name = "<script>alert('1')</script>";
        let rise = [comparison("new", 0.02, &json!("significant"))];
        let shown = &html(&[metric(name, "exploratory", "increase", &rise)])[0];
        assert!(!shown.contains("<script>"));
        assert!(shown.contains("&#60;script&#62;alert(&#39;1&#39;)&#60;/script&#62;"));
    }

    #[test]
    fn a_long_list_is_cut_and_says_so() {
        let many: Vec<Value> = (0..300)
            .map(|n| {
                metric(
                    &format!("event {n}"),
                    "exploratory",
                    "increase",
                    &[comparison("new", 0.02, &Value::Null)],
                )
            })
            .collect();
        let shown = &html(&many)[0];
        assert!(shown.contains("100 more metrics are not shown"));
        assert!(shown.contains("140 more comparisons are in the table only"));
    }
}
