//! Ranks users in SQL: counts how many users have which value.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::analysis::ranks::{RankedPlan, Ranks, Users};
use crate::clickhouse::View;
use crate::clickhouse::metric_rows::{METRIC_COLUMNS, Part, metric_row};
use crate::clickhouse::plans::{HAPPENED, Piece, Reach, USERS};
use crate::clickhouse::sql::table;
use crate::error::{FoldError, WarehouseError};
use crate::fold::Plan;

impl View {
    /// Carries out the passes of `ranked` over the users of `plan`.
    ///
    /// # Errors
    ///
    /// The server cannot be reached; the inner error is the experiment's own.
    pub(super) fn ranks(
        &self,
        plan: &Plan,
        ranked: Vec<RankedPlan>,
    ) -> Result<Result<Vec<RankedPlan>, FoldError>, WarehouseError> {
        let mut ranks = Ranks::new(plan, ranked);
        let plans = std::slice::from_ref(plan);
        for piece in self.pieces(plans)? {
            self.check()?;
            if let Err(error) = self.count_values(&piece, &mut ranks)? {
                return Ok(Err(error));
            }
        }
        Ok(Ok(ranks.into_plans()))
    }

    /// Adds to `ranks` how many users of `piece` have which value.
    fn count_values(
        &self,
        piece: &Piece<'_>,
        ranks: &mut Ranks,
    ) -> Result<Result<(), FoldError>, WarehouseError> {
        let rows: Vec<Value> = (1..)
            .zip(ranks.plans())
            .map(|(number, ranked)| {
                metric_row(
                    piece.plans,
                    0,
                    number,
                    &ranked.metric,
                    ranked.quantity,
                    Part::First,
                )
            })
            .collect();
        let reach = vec![Reach::from_metrics(
            ranks.plans().iter().map(|ranked| &ranked.metric),
        )];
        let statement = self
            .statement_about(
                &[USERS, HAPPENED, include_str!("values.sql")],
                piece,
                &reach,
            )
            .with("metrics", table(METRIC_COLUMNS, &rows));
        // Users who did something, by slot and metric; number 0 has all of them.
        let mut n_users: BTreeMap<(u32, usize), u64> = BTreeMap::new();
        let mut outcome = Ok(());
        let action = "order users";
        self.client.each_row::<(u32, usize, String, u64)>(
            action,
            statement.text(),
            |(slot, number, value, n)| {
                *n_users.entry((slot, number)).or_default() += n;
                if let (Some(metric), Ok(value), Ok(())) =
                    (number.checked_sub(1), value.parse(), &outcome)
                {
                    outcome = ranks.add_users(slot as usize, metric, value, n);
                }
            },
        )?;
        let n_metrics = ranks.plans().len();
        let exposed: Vec<(u32, u64)> = (n_users.iter())
            .filter_map(|(&(slot, number), &n)| (number == 0).then_some((slot, n)))
            .collect();
        for (slot, n_exposed) in exposed {
            for metric in 0..n_metrics {
                let n_active = n_users.get(&(slot, metric + 1)).copied().unwrap_or(0);
                let counts_all = ranks.plans()[metric].users == Users::All;
                if let (Ok(()), true) = (&outcome, counts_all && n_exposed > n_active) {
                    outcome = ranks.add_users(slot as usize, metric, 0, n_exposed - n_active);
                }
            }
        }
        Ok(outcome)
    }
}
