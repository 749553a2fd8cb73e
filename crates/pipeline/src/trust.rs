//! Checks the clock against other sources of time.
//!
//! A clock may be wrong by years for five seconds, and what is published or
//! dropped then would stay. Two witnesses know better: the time that the
//! catalog's storage gives (the file system's, or the database server's), and
//! the newest event, whose time comes from other machines. A clock that is
//! more than a day away from both, on the same side, is not believed. One
//! witness alone proves nothing: a service without traffic has old events, and
//! where the machine's clock is wrong the file system's is as well.

use trialog_model::time::UnixMicros;

use crate::error::PipelineError;

/// The largest difference between the clock and both witnesses, in microseconds: a day.
pub(crate) const TOLERANCE_MICROS: i64 = 86_400_000_000;
/// How far the clock may be behind the last run while the next run still follows it. The clocks of
/// several machines differ by less, and small corrections of a clock are smaller.
pub(crate) const SKEW_MICROS: i64 = 60_000_000;

/// Other sources of time; `None` where one is not available.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Witnesses {
    /// The time of what the catalog wrote last.
    pub(crate) storage: Option<UnixMicros>,
    /// The time of the newest event.
    pub(crate) newest_event: Option<UnixMicros>,
}

impl Witnesses {
    /// Rejects a `now` that both witnesses contradict.
    ///
    /// # Errors
    ///
    /// [`PipelineError::Clock`], with the times.
    pub(crate) fn check(&self, now: UnixMicros) -> Result<(), PipelineError> {
        let (Some(storage), Some(newest)) = (self.storage, self.newest_event) else {
            return Ok(());
        };
        let is_off = |apart: fn(i64, i64) -> i64| {
            let far = |time: UnixMicros| apart(now.0, time.0) > TOLERANCE_MICROS;
            far(storage) && far(newest)
        };
        let side = if is_off(|now, time| now.saturating_sub(time)) {
            "ahead of"
        } else if is_off(|now, time| time.saturating_sub(now)) {
            "behind"
        } else {
            return Ok(());
        };
        Err(PipelineError::Clock(format!(
            "the clock says {now}, which is more than a day {side} the time of the catalog's storage, {storage}, and that of the newest event, {newest}: nothing is published or dropped by it; set the clock right"
        )))
    }
}

/// The time of a run in relation to the last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RunTime {
    /// The time that it counts as.
    pub(crate) at: UnixMicros,
    /// The time of the last run, where that lies so far ahead that its clock was wrong.
    pub(crate) before_last: Option<UnixMicros>,
}

impl RunTime {
    /// Returns the time of a run that begins at `now` after one that was published at `last`.
    pub(crate) fn from_clock(now: UnixMicros, last: Option<UnixMicros>) -> Self {
        match last {
            Some(last) if last.0.saturating_sub(now.0) > SKEW_MICROS => Self {
                at: now,
                before_last: Some(last),
            },
            last => Self {
                at: last.map_or(now, |last| now.max(UnixMicros(last.0.saturating_add(1)))),
                before_last: None,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY: i64 = TOLERANCE_MICROS;
    const NOW: i64 = 20_000 * DAY;

    fn check(now: i64, storage: Option<i64>, newest: Option<i64>) -> Option<String> {
        let witnesses = Witnesses {
            storage: storage.map(UnixMicros),
            newest_event: newest.map(UnixMicros),
        };
        let refused = witnesses.check(UnixMicros(now)).err();
        refused.map(|error| error.to_string())
    }

    #[test]
    fn a_clock_that_both_witnesses_speak_against_is_not_believed() {
        let years = 3 * 365 * DAY;
        for (now, storage, newest) in [
            (NOW, Some(NOW), Some(NOW)),
            (NOW, Some(NOW), Some(NOW - years)),
            (NOW, Some(NOW - years), Some(NOW - DAY)),
            (NOW, Some(NOW + years), Some(NOW)),
            (NOW, None, Some(NOW - years)),
            (NOW + years, Some(NOW), None),
            (NOW + DAY, Some(NOW), Some(NOW)),
        ] {
            assert_eq!(check(now, storage, newest), None);
        }
        let message = check(NOW + 2 * DAY, Some(NOW), Some(NOW - DAY)).unwrap();
        assert!(
            message.contains("ahead of") && message.contains("2024-10-04"),
            "{message}"
        );
        let message = check(NOW - years, Some(NOW), Some(NOW)).unwrap();
        assert!(message.contains("behind"), "{message}");
    }

    #[test]
    fn a_run_follows_the_last_one_or_says_that_its_time_lies_before() {
        let run_time = |now, last: Option<i64>| {
            let time = RunTime::from_clock(UnixMicros(now), last.map(UnixMicros));
            (time.at.0, time.before_last.map(|last| last.0))
        };
        assert_eq!(run_time(NOW, None), (NOW, None));
        assert_eq!(run_time(NOW, Some(NOW - 5)), (NOW, None));
        assert_eq!(run_time(NOW, Some(NOW + 5)), (NOW + 6, None));
        assert_eq!(
            run_time(NOW, Some(NOW + 2 * DAY)),
            (NOW, Some(NOW + 2 * DAY))
        );
    }

    proptest! {
        #[test]
        fn no_time_whatever_is_too_odd(now: i64, last: Option<i64>, storage: Option<i64>, newest: Option<i64>) {
            let _ = check(now, storage, newest);
            let time = RunTime::from_clock(UnixMicros(now), last.map(UnixMicros));
            prop_assert!(time.at.0 >= now);
        }
    }
}
