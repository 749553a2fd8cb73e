//! Describes how far the results reach, on every page.

use trialog_catalog::runs::{RunRecord, RunStatus};
use trialog_model::published::HighWaterMark;
use trialog_model::time::UnixMicros;

use super::format;

/// A time for display: in full, and how long ago.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Moment {
    pub(crate) full: String,
    pub(crate) minute: String,
    pub(crate) ago: String,
}

impl Moment {
    pub(crate) fn new(time: UnixMicros, now: UnixMicros) -> Self {
        let full = time.to_rfc3339();
        Self {
            minute: format::minute(&full),
            full,
            ago: format::ago(now.0.saturating_sub(time.0)),
        }
    }

    /// Parses a time of the report, which is RFC 3339.
    pub(crate) fn parse(text: &str, now: UnixMicros) -> Option<Self> {
        UnixMicros::parse_rfc3339(text)
            .ok()
            .map(|time| Self::new(time, now))
    }
}

/// How far published results reach, and how much waits behind them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Freshness {
    /// Events up to this time are in the results; none before the first run.
    pub(crate) reaches: Option<Moment>,
    /// Whether events came in after that; `None` for results of the past.
    pub(crate) is_behind: Option<bool>,
    /// Why the last run failed.
    pub(crate) failure: Option<String>,
}

impl Freshness {
    pub(crate) fn new(
        mark: &HighWaterMark,
        position: u64,
        last: Option<&RunRecord>,
        now: UnixMicros,
    ) -> Self {
        let failed = last.filter(|run| run.status == RunStatus::Failed);
        Self {
            reaches: (mark.run_id > 0).then(|| Moment::new(mark.data_time, now)),
            is_behind: Some(position > mark.position),
            failure: failed.map(|run| {
                run.error
                    .clone()
                    .unwrap_or_else(|| "no reason was recorded".to_owned())
            }),
        }
    }

    /// Describes results as they were published at an earlier time.
    pub(crate) fn past(data_time: Option<&str>, now: UnixMicros) -> Self {
        Self {
            reaches: data_time.and_then(|text| Moment::parse(text, now)),
            is_behind: None,
            failure: None,
        }
    }
}
