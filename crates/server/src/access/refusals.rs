//! Logs rejected requests: the first at once, the others as counts.
//!
//! Whoever has no key can be refused thousands of times a second, and a line for each fills
//! the disk. So a line is written at most once a minute, and has the number of rejections.

use std::sync::{Mutex, PoisonError};

use trialog_model::time::UnixMicros;

/// Between two lines.
const EVERY_MICROS: i64 = 60_000_000;

/// The reason why a request was rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The server does not know the key.
    UnknownKey,
    /// Its key was revoked.
    RevokedKey,
    /// Its key has expired.
    ExpiredKey,
    /// Its key has not the scope that it takes.
    NoScope,
    /// The keys cannot be read from the catalog.
    KeysUnread,
}

#[derive(Default)]
struct Counts {
    written_at: Option<i64>,
    /// In the order of [`Refusal`].
    n_refused: [u64; 5],
    /// The last one in words, such as the name of its key.
    last: String,
}

/// The rejections that are not logged yet.
#[derive(Default)]
pub(crate) struct Refusals(Mutex<Counts>);

impl Refusals {
    /// Counts a rejection at `now`, and returns the line to log if one is due.
    pub(crate) fn note(&self, refusal: Refusal, why: &str, now: UnixMicros) -> Option<String> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.n_refused[refusal as usize] += 1;
        if counts.last != why {
            why.clone_into(&mut counts.last);
        }
        // A clock that was set back does not stop the lines.
        let is_due = counts
            .written_at
            .is_none_or(|at| now.0 >= at.saturating_add(EVERY_MICROS) || now.0 < at);
        is_due.then(|| counts.line(now))
    }

    /// Returns the line about rejections that were counted and not logged, if there are any.
    pub(crate) fn rest(&self, now: UnixMicros) -> Option<String> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let n_refused: u64 = counts.n_refused.iter().sum();
        (n_refused > 0).then(|| counts.line(now))
    }
}

impl Counts {
    fn line(&mut self, now: UnixMicros) -> String {
        let last = std::mem::take(&mut self.last);
        let counted = std::mem::take(&mut self.n_refused);
        self.written_at = Some(now.0);
        let total: u64 = counted.iter().sum();
        if total == 1 {
            return format!("refused a request: {last}");
        }
        let reasons = [
            "unknown keys",
            "revoked keys",
            "expired keys",
            "missing scopes",
            "keys that cannot be read",
        ];
        let details: Vec<String> = (reasons.iter().zip(counted))
            .filter(|(_, n_refused)| *n_refused > 0)
            .map(|(reason, n_refused)| format!("{n_refused} for {reason}"))
            .collect();
        format!(
            "refused {total} requests: {}; the last: {last}",
            details.join(", ")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: i64 = 1_760_000_000_000_000;

    fn at(seconds: i64) -> UnixMicros {
        UnixMicros(START + seconds * 1_000_000)
    }

    #[test]
    fn the_first_is_told_at_once_and_the_others_once_a_minute() {
        let refusals = Refusals::default();
        let first = refusals.note(Refusal::UnknownKey, "no such key", at(0));
        assert_eq!(first.unwrap(), "refused a request: no such key");
        for step in 0..10_000 {
            let none = refusals.note(Refusal::UnknownKey, "no such key", at(step % 59));
            assert_eq!(none, None);
        }
        assert_eq!(refusals.note(Refusal::NoScope, "key `page`", at(59)), None);
        let line = refusals.note(Refusal::UnknownKey, "no such key", at(60));
        assert_eq!(
            line.unwrap(),
            "refused 10002 requests: 10001 for unknown keys, 1 for missing scopes; the last: no such key"
        );
        assert_eq!(refusals.rest(at(60)), None);
    }

    #[test]
    fn what_was_counted_is_told_although_nothing_more_is_refused() {
        let refusals = Refusals::default();
        assert_eq!(refusals.rest(at(0)), None);
        refusals
            .note(Refusal::RevokedKey, "key `old`", at(0))
            .unwrap();
        refusals.note(Refusal::RevokedKey, "key `old`", at(1));
        refusals.note(Refusal::ExpiredKey, "key `gone`", at(2));
        let line = refusals.rest(at(3)).unwrap();
        assert!(line.starts_with("refused 2 requests: 1 for revoked keys, 1 for expired keys"));
        assert_eq!(refusals.rest(at(100)), None);
    }

    #[test]
    fn a_clock_that_is_set_back_does_not_silence_the_log() {
        let refusals = Refusals::default();
        refusals.note(Refusal::UnknownKey, "a", at(0)).unwrap();
        assert!(refusals.note(Refusal::UnknownKey, "a", at(-9)).is_some());
    }
}
