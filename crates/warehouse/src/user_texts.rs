//! Finds the string id of a user by the 64-bit id.
//!
//! A string id is stored with the assignments of its user, and is known in the experiments in which
//! the user was assigned. If two string ids share one 64-bit id, the one that sorts first is returned.

use std::collections::BTreeMap;

use trialog_model::event::EventKind;

use crate::cursor::{Cursor, WithinExperiment};
use crate::error::WarehouseError;
use crate::fold::source::EventSource;
use crate::run::Columns;
use crate::snapshot::Snapshot;

/// The maximum number of users whose string ids one call returns.
pub const MAX_USERS: usize = 1_000;

impl Snapshot {
    /// Returns the string ids of `users` in `experiment`, as far as they have one that is known; of
    /// the first [`MAX_USERS`] in the order of their 64-bit ids. Reads the row groups that may hold them.
    ///
    /// # Errors
    ///
    /// A run is damaged or cannot be read.
    pub fn user_texts(
        &self,
        experiment: &str,
        users: &[i64],
    ) -> Result<BTreeMap<i64, String>, WarehouseError> {
        let mut users = users.to_vec();
        users.sort_unstable();
        users.dedup();
        users.truncate(MAX_USERS);
        let mut found = BTreeMap::new();
        if self.has_user_texts(experiment) {
            let cursors = self.assignments_of(experiment, &users)?;
            let mut texts = UserTexts::new(cursors);
            texts.enter(experiment)?;
            for user in users {
                match texts.text_of(user)? {
                    "" => {}
                    text => drop(found.insert(user, text.to_owned())),
                }
            }
        }
        Ok(found)
    }

    /// Returns whether the warehouse has the text of a user in `experiment`.
    pub(crate) fn has_user_texts(&self, experiment: &str) -> bool {
        (self.contents_of(EventKind::Assignment, experiment))
            .is_some_and(|entry| entry.user_texts.is_some())
    }

    /// Returns the texts of the users of `experiments`, which are in order.
    pub(crate) fn all_user_texts(&self, experiments: &[&str]) -> Result<UserTexts, WarehouseError> {
        let with_texts: Vec<&str> = (experiments.iter().copied())
            .filter(|experiment| self.has_user_texts(experiment))
            .collect();
        let all = None..None;
        let cursors = self.cursors(
            EventKind::Assignment,
            &with_texts,
            &all,
            Columns::WithUserText,
        )?;
        Ok(UserTexts::new(cursors))
    }

    /// Returns the users of each of `experiments` (in order) whose number stands for two texts.
    /// Experiments without any are absent. Reads all assignments and is therefore exact, while
    /// [`crate::index::TextUsers`] covers one run or segment.
    ///
    /// # Errors
    ///
    /// A run is damaged or cannot be read.
    pub fn clashing_users(
        &self,
        experiments: &[&str],
    ) -> Result<BTreeMap<String, Vec<i64>>, WarehouseError> {
        let mut texts = self.all_user_texts(experiments)?;
        let mut found = BTreeMap::new();
        for experiment in experiments {
            texts.enter(experiment)?;
            let mut clashing = Vec::new();
            while let Some(user) = texts.next_user() {
                texts.text_of(user)?;
                if texts.text.clashes {
                    clashing.push(user);
                }
            }
            if !clashing.is_empty() {
                found.insert((*experiment).to_owned(), clashing);
            }
        }
        Ok(found)
    }
}

/// Keeps the first in order of the string ids that share one 64-bit id; empty while none is known.
#[derive(Debug, Default)]
pub(crate) struct LeastText {
    text: String,
    /// Whether there was another text, too.
    clashes: bool,
}

impl LeastText {
    /// Adds `text`, which is empty if none was stored.
    pub(crate) fn note(&mut self, text: &str) {
        if text.is_empty() || self.text == text {
            return;
        }
        self.clashes |= !self.text.is_empty();
        if self.text.is_empty() || text < self.text.as_str() {
            self.text.clear();
            self.text.push_str(text);
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    fn clear(&mut self) {
        self.text.clear();
        self.clashes = false;
    }
}

/// The texts of users, read in the order of the warehouse.
pub(crate) struct UserTexts {
    sources: Vec<WithinExperiment>,
    /// The last requested user of the experiment, and the text.
    user: Option<i64>,
    text: LeastText,
}

impl UserTexts {
    /// Reads the texts in `cursors`.
    pub(crate) fn new(cursors: Vec<Cursor>) -> Self {
        Self {
            sources: cursors.into_iter().map(WithinExperiment::new).collect(),
            user: None,
            text: LeastText::default(),
        }
    }

    /// Moves to `experiment`, past the rest of earlier ones.
    pub(crate) fn enter(&mut self, experiment: &str) -> Result<(), WarehouseError> {
        self.user = None;
        self.sources
            .iter_mut()
            .try_for_each(|source| source.enter(experiment))
    }

    /// Returns the text of `user`, which must not precede earlier requests; empty if no text is
    /// known.
    pub(crate) fn text_of(&mut self, user: i64) -> Result<&str, WarehouseError> {
        if self.user != Some(user) {
            self.user = Some(user);
            self.text.clear();
            for source in &mut self.sources {
                source.skip_to(user)?;
                while source.user() == Some(user) {
                    let Some((block, row)) = source.here() else {
                        break;
                    };
                    self.text.note(block.user_text_at(row));
                    source.move_to(row + 1)?;
                }
            }
        }
        Ok(self.text.as_str())
    }

    /// Returns the least user of the experiment that was not yet requested.
    fn next_user(&self) -> Option<i64> {
        self.sources.iter().filter_map(WithinExperiment::user).min()
    }
}

#[cfg(test)]
mod tests;
