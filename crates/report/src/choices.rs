//! Defines the options of a request for a report.

use trialog_model::ids::Variant;
use trialog_model::metric::{MetricKind, MetricRef};
use trialog_stats::{Alpha, Correction};

use crate::MetricReport;

/// The options of a request for a report.
#[derive(Debug, Clone, PartialEq)]
pub struct Choices {
    /// Only this metric.
    pub metric: Option<MetricRef>,
    /// Only metrics of this kind.
    pub kind: Option<MetricKind>,
    /// The variant to compare with, instead of the experiment's control.
    pub control: Option<Variant>,
    /// The level, instead of the experiment's.
    pub alpha: Option<Alpha>,
    /// How p-values are adjusted within a family.
    pub correction: Option<Correction>,
}

impl Default for Choices {
    fn default() -> Self {
        Self {
            metric: None,
            kind: None,
            control: None,
            alpha: None,
            correction: Some(Correction::Holm),
        }
    }
}

impl Choices {
    /// Returns the kind under which the request wants `metric`, if it names one.
    pub(crate) fn kind_of(&self, metric: &str) -> Option<MetricKind> {
        let of_metric = (self.metric.as_ref()).filter(|chosen| chosen.name.as_str() == metric);
        self.kind.or(of_metric.and_then(|chosen| chosen.kind))
    }

    /// Returns whether the request wants `report`.
    pub(crate) fn include(&self, report: &MetricReport) -> bool {
        self.include_metric(&report.metric, report.kind)
    }

    /// Returns whether the request wants `metric` under this kind.
    pub(crate) fn include_metric(&self, metric: &str, kind: MetricKind) -> bool {
        let by_kind = self.kind.is_none_or(|wanted| wanted == kind);
        by_kind
            && self.metric.as_ref().is_none_or(|wanted| {
                wanted.name.as_str() == metric && wanted.kind.is_none_or(|wanted| wanted == kind)
            })
    }
}

/// Parses the name of a correction; the inner `None` is for `none`.
pub fn correction(name: &str) -> Option<Option<Correction>> {
    match name {
        "none" => Some(None),
        "bonferroni" => Some(Some(Correction::Bonferroni)),
        "holm" => Some(Some(Correction::Holm)),
        "bh" => Some(Some(Correction::BenjaminiHochberg)),
        _ => None,
    }
}

/// Returns the name of `correction` in requests and reports.
pub(crate) fn correction_name(correction: Option<Correction>) -> &'static str {
    match correction {
        None => "none",
        Some(Correction::Bonferroni) => "bonferroni",
        Some(Correction::Holm) => "holm",
        Some(Correction::BenjaminiHochberg) => "bh",
        Some(Correction::BenjaminiYekutieli) => "by",
    }
}
