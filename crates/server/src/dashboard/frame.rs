//! What surrounds every page, and how far the results reach.

use trialog_catalog::runs::{RunRecord, RunStatus};
use trialog_model::published::HighWaterMark;
use trialog_model::time::UnixMicros;

use super::format;

/// A time as it is shown, in full, and how long ago.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Moment {
    pub(super) full: String,
    pub(super) minute: String,
    pub(super) ago: String,
}

impl Moment {
    pub(super) fn new(time: UnixMicros, now: UnixMicros) -> Self {
        let full = time.to_rfc3339();
        Self {
            minute: format::minute(&full),
            full,
            ago: format::ago(now.0.saturating_sub(time.0)),
        }
    }

    /// From a time of the report, which is RFC 3339.
    pub(super) fn parse(text: &str, now: UnixMicros) -> Option<Self> {
        UnixMicros::parse_rfc3339(text)
            .ok()
            .map(|time| Self::new(time, now))
    }
}

/// How far published results reach, and what waits behind them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Freshness {
    /// Events up to this time are in the results; none before the first run.
    pub(super) reaches: Option<Moment>,
    /// Whether events came in after that; not asked of the past.
    pub(super) is_behind: Option<bool>,
    /// Why the last run failed.
    pub(super) failure: Option<String>,
}

impl Freshness {
    pub(super) fn new(
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

    /// Of results as they were published at an earlier time.
    pub(super) fn past(data_time: Option<&str>, now: UnixMicros) -> Self {
        Self {
            reaches: data_time.and_then(|text| Moment::parse(text, now)),
            is_behind: None,
            failure: None,
        }
    }
}
