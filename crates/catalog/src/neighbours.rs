//! Suggests similar known names when a name does not exist.
//!
//! A lookup of a name that does not exist reads at most [`N_AROUND`] names on either
//! side of it in their order, and the names that it becomes when one of its characters
//! is left out or swapped: a bounded number, however many there are.

use std::collections::BTreeSet;

use trialog_model::nearest::there_are;

use crate::database::{self, Connection, params};
use crate::documents::Table;

/// The names that are read on each side.
const N_AROUND: usize = 500;

impl Table {
    /// Ends a message about `name`, which does not exist, with the known names and the nearest.
    pub(crate) fn instead_of(
        self,
        connection: &Connection<'_>,
        name: &str,
    ) -> database::Result<String> {
        let before = self.around(connection, "<", "DESC", name)?;
        let after = self.around(connection, ">", "ASC", name)?;
        let more = before.len() == N_AROUND || after.len() == N_AROUND;
        let mut names: BTreeSet<String> = before.into_iter().chain(after).collect();
        if more {
            for slip in slips(name) {
                names.extend(self.exact(connection, &slip)?);
            }
        }
        let names: Vec<String> = names.into_iter().collect();
        Ok(there_are(name, &names, more))
    }

    fn around(
        self,
        connection: &Connection<'_>,
        side: &str,
        order: &str,
        name: &str,
    ) -> database::Result<Vec<String>> {
        let (table, column) = (self.name, self.key());
        let sql = format!(
            "SELECT {column} FROM {table} WHERE {column} {side} ?1 ORDER BY {column} {order} LIMIT {N_AROUND}"
        );
        (connection.prepare_cached(&sql)?)
            .query_map([name], |row| row.get(0))?
            .collect()
    }

    fn exact(self, connection: &Connection<'_>, name: &str) -> database::Result<Option<String>> {
        let (table, column) = (self.name, self.key());
        let sql = format!("SELECT {column} FROM {table} WHERE {column} = ?1");
        (connection.prepare_cached(&sql)?)
            .query_map(params![name], |row| row.get(0))?
            .next()
            .transpose()
    }
}

/// `name` with a character left out, or swapped with the next.
fn slips(name: &str) -> Vec<String> {
    let characters: Vec<char> = name.chars().collect();
    let without = |at: usize| {
        let mut left = characters.clone();
        left.remove(at);
        left.into_iter().collect()
    };
    let swapped = |at: usize| {
        let mut turned = characters.clone();
        turned.swap(at, at + 1);
        turned.into_iter().collect()
    };
    (0..characters.len())
        .map(without)
        .chain((0..characters.len().saturating_sub(1)).map(swapped))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_leaves_a_character_out_or_swaps_two() {
        assert_eq!(slips("abc"), ["bc", "ac", "ab", "bac", "acb"]);
        assert_eq!(slips("").len(), 0);
    }
}
