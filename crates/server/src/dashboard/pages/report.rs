//! Renders reports as one self-contained page: no server, no other file.

use askama::Template;
use trialog_report::Report;

use crate::dashboard::assets;
use crate::dashboard::parts::health::{Check, WarningRow};
use crate::dashboard::parts::scorecard::{self, Section};
use crate::dashboard::parts::variants::{VariantRow, filter, variants};

#[derive(Debug, Template)]
#[template(path = "report.html")]
struct ReportPage {
    title: String,
    style: &'static str,
    parts: Vec<Part>,
}

#[derive(Debug)]
struct Part {
    name: String,
    warnings: Vec<WarningRow>,
    checks: Vec<Check>,
    unchecked: String,
    variants: Vec<VariantRow>,
    sections: Vec<Section>,
}

/// Renders `reports` as one page: all users first, then segments.
///
/// # Errors
///
/// The page cannot be made, which does not depend on the reports.
pub fn report_page(reports: &[Report]) -> Result<String, askama::Error> {
    let title = reports
        .first()
        .map_or("", |report| &report.experiment_id)
        .to_owned();
    let page = ReportPage {
        title,
        style: assets::STYLE,
        parts: reports.iter().enumerate().map(Part::from_report).collect(),
    };
    page.render()
}

impl Part {
    fn from_report((at, report): (usize, &Report)) -> Self {
        let segment = filter(report).join("; ");
        let health = &report.health;
        let check = Check::from_report("users", "/health/srm", health.srm.as_ref());
        Self {
            name: if segment.is_empty() {
                "All users".to_owned()
            } else {
                segment
            },
            warnings: health
                .warnings
                .iter()
                .map(WarningRow::from_warning)
                .collect(),
            unchecked: health.srm_reason.clone().unwrap_or_default(),
            checks: check.into_iter().collect(),
            variants: variants(report),
            sections: scorecard::sections(report, &format!("-{at}")),
        }
    }
}
