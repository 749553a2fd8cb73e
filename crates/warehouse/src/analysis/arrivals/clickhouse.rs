//! Counts in SQL what became of events.

use crate::analysis::arrivals::TypeArrivals;
use crate::clickhouse::View;
use crate::clickhouse::plans::{Piece, Reach, USERS};
use crate::error::WarehouseError;

impl View {
    /// Counts the events of the users of `piece`, by the code of the plan and by event type.
    pub(crate) fn count_arrivals(
        &self,
        piece: &Piece<'_>,
        reach: &[Reach],
        metrics: &str,
    ) -> Result<Vec<(usize, String, TypeArrivals)>, WarehouseError> {
        let statement = self
            .statement_about(&[USERS, include_str!("arrivals.sql")], piece, reach)
            .with("metrics", metrics);
        type Counts = (
            usize,
            String,
            u64,
            u64,
            u64,
            u64,
            u64,
            u64,
            u64,
            u64,
            u64,
            Vec<i64>,
        );
        let rows = self
            .client
            .rows::<Counts>("count what became of events", statement.text())?;
        let mut arrivals = Vec::with_capacity(rows.len());
        for (
            code,
            event_type,
            events,
            counted,
            before_exposure,
            after_window,
            unexposed,
            excluded,
            unknown_variant,
            unexposed_users,
            senders_exposed,
            sample,
        ) in rows
        {
            let counts = TypeArrivals {
                events,
                counted,
                before_exposure,
                after_window,
                unexposed,
                excluded,
                unknown_variant,
                unexposed_users,
                senders_exposed,
                sample,
            };
            arrivals.push((code, event_type, counts));
        }
        Ok(arrivals)
    }
}
