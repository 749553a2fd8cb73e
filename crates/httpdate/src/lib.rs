//! Formats the dates of HTTP as hyper writes them, for every time that a clock can have.
//!
//! hyper renders the header `Date` with the crate `httpdate` whenever it polls a connection, also
//! where the header is switched off, and that crate panics before 1970 and after 9999. This one
//! stands in its place and has the part of it that hyper uses.
#![forbid(unsafe_code)]

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use trialog_model::time::UnixMicros;

/// A date as HTTP writes it: the nearest one that has a form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HttpDate(UnixMicros);

impl From<SystemTime> for HttpDate {
    fn from(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(UnixMicros(
            i64::try_from(since.as_micros()).unwrap_or(i64::MAX),
        ))
    }
}

impl fmt::Display for HttpDate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_http_date())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn every_time_has_a_date() {
        let centuries = Duration::from_secs(86_400 * 365 * 9_000);
        let text = |time: SystemTime| HttpDate::from(time).to_string();
        assert_eq!(
            text(UNIX_EPOCH - centuries),
            "Thu, 01 Jan 1970 00:00:00 GMT"
        );
        assert_eq!(
            text(UNIX_EPOCH + centuries),
            "Fri, 31 Dec 9999 23:59:59 GMT"
        );
        let known = UNIX_EPOCH + Duration::from_secs(784_111_777);
        assert_eq!(text(known), "Sun, 06 Nov 1994 08:49:37 GMT");
    }
}
