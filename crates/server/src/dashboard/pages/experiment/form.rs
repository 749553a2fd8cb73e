//! Renders the filter form of the page of an experiment.

use trialog_catalog::experiments::Experiment;
use trialog_model::metric::MetricKind;
use trialog_model::time::UnixMicros;
use trialog_report::Report;

use crate::dashboard::parts::choice::Choice;
use crate::dashboard::query::{self, Pairs};

/// The filter form, filled in from the query.
#[derive(Debug)]
pub(super) struct Form {
    pub(super) metric: String,
    pub(super) metrics: Vec<String>,
    pub(super) kinds: Vec<Choice>,
    pub(super) segments: Vec<(String, String)>,
    pub(super) from: Time,
    pub(super) to: Time,
    pub(super) as_of: String,
    pub(super) alpha: String,
    pub(super) own_alpha: String,
    pub(super) corrections: Vec<Choice>,
    pub(super) controls: Vec<Choice>,
    pub(super) is_filtered: bool,
}

/// A time in a form, without parts below a second, which a browser's field does not support.
#[derive(Debug)]
pub(super) struct Time {
    pub(super) input: &'static str,
    pub(super) value: String,
}

impl Form {
    /// Fills the form in from `query`.
    pub(super) fn new(experiment: &Experiment, report: &Report, query: &Pairs) -> Self {
        let value = |name: &str| query::value(query, name);
        let declared = experiment
            .definition
            .metrics
            .iter()
            .map(|(metric, _)| metric.to_string());
        let seen = report
            .metrics
            .iter()
            .map(|metric| format!("{}:{}", metric.metric, metric.kind));
        let mut metrics: Vec<String> = declared.chain(seen).collect();
        metrics.sort();
        metrics.dedup();
        let segment = |(name, value): &(String, String)| {
            name.starts_with("segment.")
                .then(|| (name.clone(), value.clone()))
        };
        Self {
            metric: value("metric").to_owned(),
            metrics,
            kinds: Choice::among(MetricKind::ALL.map(MetricKind::as_str), value("kind")),
            segments: query.iter().filter_map(segment).collect(),
            from: Time::from_query(value("from")),
            to: Time::from_query(value("to")),
            as_of: value("as_of").to_owned(),
            alpha: value("alpha").to_owned(),
            own_alpha: report.alpha.to_string(),
            corrections: Choice::among(["holm", "bonferroni", "bh", "none"], value("correction")),
            controls: Choice::among(
                report.variants.iter().map(|variant| &variant.variant),
                value("control"),
            ),
            is_filtered: !query.is_empty(),
        }
    }
}

impl Time {
    fn from_query(text: &str) -> Self {
        let shown = UnixMicros::parse_rfc3339(text)
            .map(UnixMicros::to_rfc3339)
            .unwrap_or_default();
        match shown.strip_suffix('Z') {
            Some(seconds) if seconds.len() == "2026-01-31T09:30:00".len() => Self {
                input: "datetime-local",
                value: seconds.to_owned(),
            },
            _ if text.is_empty() => Self {
                input: "datetime-local",
                value: String::new(),
            },
            _ => Self {
                input: "text",
                value: text.to_owned(),
            },
        }
    }
}
