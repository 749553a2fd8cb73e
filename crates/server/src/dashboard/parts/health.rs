//! Renders sample ratio checks and warnings as rows.

use trialog_report::{Severity, SrmReport, Warning};

use super::format::{self, Sign};
use super::number::Number;

/// A sample ratio check.
#[derive(Debug)]
pub(crate) struct Check {
    pub(crate) name: &'static str,
    pub(crate) chi_squared: Option<Number>,
    pub(crate) df: Number,
    pub(crate) p_value: Option<Number>,
    pub(crate) sequential: Option<Number>,
    pub(crate) failed: bool,
}

/// A warning with its appearance.
#[derive(Debug)]
pub(crate) struct WarningRow {
    pub(crate) code: String,
    pub(crate) text: String,
    /// `Error`, `Warning` or `Note`.
    pub(crate) label: &'static str,
    pub(crate) is_severe: bool,
}

impl WarningRow {
    pub(crate) fn from_warning(warning: &Warning) -> Self {
        Self {
            code: warning.code.clone(),
            text: warning.text(),
            label: match warning.severity {
                Severity::Error => "Error",
                Severity::Warning => "Warning",
                Severity::Info => "Note",
            },
            is_severe: warning.severity == Severity::Error,
        }
    }
}

impl Check {
    pub(crate) fn from_report(
        name: &'static str,
        path: &str,
        srm: Option<&SrmReport>,
    ) -> Option<Self> {
        let srm = srm?;
        Some(Self {
            name,
            chi_squared: srm.chi_squared.map(|chi| {
                Number::new(
                    format!("{path}/chi_squared"),
                    chi,
                    format::significant(chi, 3, Sign::Minus),
                )
            }),
            df: Number::count(format!("{path}/df"), srm.df as u64),
            p_value: srm
                .p_value
                .map(|p| Number::new(format!("{path}/p_value"), p, format::p_is(p))),
            sequential: srm
                .sequential_p_value
                .map(|p| Number::new(format!("{path}/sequential_p_value"), p, format::p_is(p))),
            failed: srm.failed,
        })
    }
}
