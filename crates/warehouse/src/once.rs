//! Checks and marks idempotency keys, and other sources that may be used only once, in one step.
//!
//! Whoever stores events asks here for each submission, one after the other, and stores the
//! marks together with the events. So of several submissions at once with one source, the first
//! is stored, those with the same position are answered as it is, and the others are refused.

use std::collections::HashMap;

use crate::database::SourceMark;

/// The sources of a group that is not stored yet.
#[derive(Debug, Default)]
pub struct Once {
    begun: HashMap<String, i64>,
}

/// The outcome of the check of a submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It is stored with the group.
    Store,
    /// The group already has the same submission: this one shares its outcome.
    WithGroup,
    /// The very same was stored before.
    Stored,
    /// The source was used with something else.
    Used,
}

impl Once {
    /// Checks a submission with `mark`. `stored` returns the position of a stored source.
    ///
    /// # Errors
    ///
    /// Those of `stored`.
    pub fn admit<E>(
        &mut self,
        mark: Option<&SourceMark>,
        stored: impl FnOnce(&str) -> Result<Option<i64>, E>,
    ) -> Result<Admission, E> {
        let Some(mark) = mark.filter(|mark| mark.once) else {
            return Ok(Admission::Store);
        };
        if let Some(position) = self.begun.get(&mark.source) {
            return Ok(match *position == mark.position {
                true => Admission::WithGroup,
                false => Admission::Used,
            });
        }
        Ok(match stored(&mark.source)? {
            Some(position) if position == mark.position => Admission::Stored,
            Some(_) => Admission::Used,
            None => {
                self.begun.insert(mark.source.clone(), mark.position);
                Admission::Store
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(once: &mut Once, position: i64, is_once: bool, stored: Option<i64>) -> Admission {
        let mark = SourceMark {
            source: "key:a".to_owned(),
            position,
            once: is_once,
        };
        let stored = |_: &str| Ok::<_, ()>(stored);
        once.admit(Some(&mark), stored).unwrap()
    }

    #[test]
    fn the_first_of_a_group_is_stored_and_others_as_it_is_or_not_at_all() {
        let mut once = Once::default();
        assert_eq!(admitted(&mut once, 1, true, None), Admission::Store);
        assert_eq!(admitted(&mut once, 1, true, None), Admission::WithGroup);
        assert_eq!(admitted(&mut once, 2, true, None), Admission::Used);
        assert_eq!(admitted(&mut once, 1, true, None), Admission::WithGroup);
    }

    #[test]
    fn what_is_stored_counts_like_what_is_in_the_group() {
        let mut once = Once::default();
        assert_eq!(admitted(&mut once, 1, true, Some(1)), Admission::Stored);
        assert_eq!(admitted(&mut once, 2, true, Some(1)), Admission::Used);
    }

    #[test]
    fn other_sources_go_on_from_position_to_position() {
        let mut once = Once::default();
        assert_eq!(admitted(&mut once, 1, false, Some(5)), Admission::Store);
        assert_eq!(admitted(&mut once, 2, false, Some(1)), Admission::Store);
        let unread = |_: &str| Err("is not asked");
        assert_eq!(once.admit(None, unread), Ok(Admission::Store));
    }
}
