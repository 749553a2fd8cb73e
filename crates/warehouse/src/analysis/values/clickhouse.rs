//! Counts the values of context keys in SQL, and adds the counts up.

use crate::analysis::values::tally::Tally;
use crate::analysis::values::{KeyQuestion, KeyValues};
use crate::clickhouse::View;
use crate::clickhouse::plans::{Reach, USERS};
use crate::error::WarehouseError;
use crate::fold::Plan;

impl View {
    /// Finds the values of `keys` among the exposed users of `plan`, as `question` asks for them.
    pub(super) fn key_values(
        &self,
        plan: &Plan,
        keys: &[String],
        question: &KeyQuestion,
    ) -> Result<KeyValues, WarehouseError> {
        let mut tally = Tally::new(&question.spill);
        let mut outcome = Ok(());
        for piece in self.pieces(std::slice::from_ref(plan))? {
            self.check()?;
            let parts = [USERS, include_str!("values.sql")];
            let statement = self.statement_with_values(&parts, &piece, &[Reach::default()], keys);
            let action = "count users by value";
            self.client
                .each_row::<(String, u64)>(action, statement.text(), |(text, users)| {
                    if outcome.is_ok() {
                        let number = tally.number(&text);
                        tally.add(number, users);
                        outcome = tally.spill_if_large();
                    }
                })?;
        }
        outcome?;
        let (values, _) = tally.into_largest(question.limit)?;
        Ok(values)
    }
}
