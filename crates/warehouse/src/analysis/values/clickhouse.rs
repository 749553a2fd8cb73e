//! The values of context keys as SQL: counts by value, which are added up here.

use crate::analysis::values::{KeyValues, Tally};
use crate::clickhouse::View;
use crate::clickhouse::plans::{Reach, USERS};
use crate::error::WarehouseError;
use crate::fold::Plan;

impl View {
    /// Finds the `limit` values of `keys` with the most exposed users of `plan`.
    ///
    /// # Errors
    ///
    /// The server cannot be reached or rejects a statement.
    pub fn key_values(
        &self,
        plan: &Plan,
        keys: &[String],
        limit: usize,
    ) -> Result<KeyValues, WarehouseError> {
        let mut tally = Tally::new(&std::env::temp_dir());
        let mut outcome = Ok(());
        for piece in self.pieces(std::slice::from_ref(plan))? {
            self.check()?;
            let parts = [USERS, include_str!("values.sql")];
            let statement = self.statement_with_values(&parts, &piece, &[Reach::default()], keys);
            let action = "count users by value";
            self.client
                .each_row::<(String, u64)>(action, statement.text(), |(text, users)| {
                    if outcome.is_ok() {
                        let number = tally.number_text(text);
                        tally.add(number, users);
                        outcome = tally.spill_if_large();
                    }
                })?;
        }
        outcome?;
        tally.into_largest(limit)
    }
}
