//! Looks up in SQL the string id that was sent for the 64-bit id of a user.

use std::collections::BTreeMap;

use super::plans::PIECE_EXPERIMENTS;
use super::sql::{list, quoted};
use super::view::View;
use crate::error::WarehouseError;
use crate::index::MAX_CLASHES;
use crate::user_texts::MAX_USERS;

impl View {
    /// The texts of `users` in `experiment`, as far as they are texts and known; of the first
    /// [`MAX_USERS`] in the order of their numbers.
    ///
    /// # Errors
    ///
    /// The server cannot be reached.
    pub fn user_texts(
        &self,
        experiment: &str,
        users: &[i64],
    ) -> Result<BTreeMap<i64, String>, WarehouseError> {
        let mut users = users.to_vec();
        users.sort_unstable();
        users.dedup();
        users.truncate(MAX_USERS);
        if users.is_empty() {
            return Ok(BTreeMap::new());
        }
        let users: Vec<String> = users.iter().map(i64::to_string).collect();
        let statement = self
            .statement(&[include_str!("sql/user_texts.sql")])
            .with("users", users.join(", "))
            .with("experiment", quoted(experiment));
        let rows = self
            .client
            .rows::<(i64, String)>("look up users", statement.text())?;
        Ok(rows.into_iter().collect())
    }

    /// The users of each of `experiments` of which one number stands for two texts, at most
    /// [`MAX_CLASHES`] of each; experiments without any are absent.
    ///
    /// # Errors
    ///
    /// The server cannot be reached.
    pub fn clashing_users(
        &self,
        experiments: &[&str],
    ) -> Result<BTreeMap<String, Vec<i64>>, WarehouseError> {
        let mut found = BTreeMap::new();
        for some in experiments.chunks(PIECE_EXPERIMENTS) {
            self.check()?;
            let statement = self
                .statement(&[include_str!("sql/clashing_users.sql")])
                .with("n_users", MAX_CLASHES.to_string())
                .with("experiments", list(some.iter().copied()));
            let rows = self
                .client
                .rows::<(String, Vec<i64>)>("look for users with two texts", statement.text())?;
            found.extend(rows);
        }
        Ok(found)
    }
}
