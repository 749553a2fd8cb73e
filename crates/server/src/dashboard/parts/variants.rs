//! Renders the users of a report: by variant, and by filter.

use trialog_report::{Report, VariantUsers};

use super::format::{self, Sign};
use super::number::{Number, Unit};

/// The users of a variant.
#[derive(Debug)]
pub(crate) struct VariantRow {
    pub(crate) name: String,
    pub(crate) is_control: bool,
    pub(crate) users: Number,
    pub(crate) planned: Option<Number>,
    pub(crate) observed: String,
}

/// Describes the users that the report is about; empty for all users.
pub(crate) fn filter(report: &Report) -> Vec<String> {
    let Some(filter) = &report.filter else {
        return Vec::new();
    };
    let segments = filter
        .segment
        .iter()
        .map(|(key, value)| format!("{key} = {value}"));
    let from = filter
        .from
        .iter()
        .map(|time| format!("exposed from {}", format::minute(time)));
    let to = filter
        .to
        .iter()
        .map(|time| format!("exposed before {}", format::minute(time)));
    segments.chain(from).chain(to).collect()
}

/// Lists the variants with their users and shares.
pub(crate) fn variants(report: &Report) -> Vec<VariantRow> {
    let users: u64 = report.variants.iter().map(|variant| variant.users).sum();
    let weights: f64 = report
        .variants
        .iter()
        .filter_map(|variant| variant.weight)
        .sum();
    let row = |(index, variant): (usize, &VariantUsers)| {
        let share = variant.users as f64 / users.max(1) as f64;
        let error = (share * (1.0 - share) / users.max(1) as f64).sqrt();
        VariantRow {
            name: variant.variant.clone(),
            is_control: report.control.as_deref() == Some(variant.variant.as_str()),
            users: Number::count(format!("/variants/{index}/users"), variant.users),
            planned: variant.weight.map(|weight| {
                let shown = format!(
                    "{} %",
                    format::significant(weight / weights * 100.0, 4, Sign::Minus)
                );
                Number::new(format!("/variants/{index}/weight"), weight, shown)
            }),
            observed: if users == 0 {
                format::NONE.to_owned()
            } else {
                Unit::Percent.show(share, Some(error), Sign::Minus)
            },
        }
    };
    report.variants.iter().enumerate().map(row).collect()
}
