//! Computes the scorecard in SQL: ClickHouse counts and sums where the events are.

use serde_json::Value;

use crate::analysis::arrivals::TypeArrivals;
use crate::analysis::scorecard::{MetricPlan, MetricSums, Scorecard, SecondSums, Shape};
use crate::clickhouse::View;
use crate::clickhouse::metric_rows::{METRIC_COLUMNS, metric_rows};
use crate::clickhouse::plans::{FARTHEST, HAPPENED, Piece, Reach, USERS, groups};
use crate::clickhouse::sql::table;
use crate::error::{FoldError, WarehouseError};
use crate::fold::{Folded, Outcomes, Plan, UserFilter};

impl View {
    /// Computes the scorecards of `plans`, which are in the order of their experiments and have
    /// one data time and one segment; `metrics` are those of each plan.
    ///
    /// # Errors
    ///
    /// The server cannot be reached or refuses a statement.
    pub(super) fn scorecards(
        &self,
        plans: &[Plan],
        metrics: &[Vec<MetricPlan>],
    ) -> Result<Outcomes<Scorecard>, WarehouseError> {
        let mut outcomes = Vec::with_capacity(plans.len());
        let mut at = 0;
        for group in groups(plans) {
            let metrics = &metrics[at..at + group.len()];
            at += group.len();
            let mut whole: Option<Outcomes<Scorecard>> = None;
            for piece in self.pieces(group)? {
                self.check()?;
                let part = self.scorecards_of_piece(&piece, metrics)?;
                whole = Some(match whole {
                    None => part,
                    Some(whole) => whole.into_iter().zip(part).map(merged).collect(),
                });
            }
            let mut whole = whole.unwrap_or_default();
            self.add_waiting(group, &mut whole)?;
            outcomes.append(&mut whole);
        }
        Ok(outcomes)
    }

    fn scorecards_of_piece(
        &self,
        piece: &Piece<'_>,
        metrics: &[Vec<MetricPlan>],
    ) -> Result<Outcomes<Scorecard>, WarehouseError> {
        let reach: Vec<Reach> = metrics.iter().map(Reach::from_metrics).collect();
        let mut gathered: Vec<Gathered> = (piece.plans.iter().zip(metrics))
            .map(|(plan, metrics)| Gathered::new(plan, metrics.len()))
            .collect();
        self.add_exposures(piece, &reach, &mut gathered)?;
        let rows: Vec<Value> = (metrics.iter().enumerate())
            .flat_map(|(code, metrics)| metric_rows(piece.plans, code, metrics))
            .collect();
        let metrics_table = table(METRIC_COLUMNS, &rows);
        // What became of events is told of all users only.
        let is_unfiltered = |plan: &Plan| plan.filter == UserFilter::default();
        if !rows.is_empty() && piece.plans.iter().any(is_unfiltered) {
            for (code, event_type, counts) in self.count_arrivals(piece, &reach, &metrics_table)? {
                gathered[code].arrivals.push((event_type, counts));
            }
        }
        if metrics.iter().any(|metrics| !metrics.is_empty()) {
            let has_retention = (metrics.iter().flatten())
                .any(|metric| matches!(metric.shape, Shape::Retention { .. }));
            if has_retention {
                self.add_unready(piece, &reach, &metrics_table, &mut gathered)?;
            }
            self.add_sums(piece, &reach, &metrics_table, &mut gathered)?;
        }
        let outcomes = gathered.into_iter().zip(piece.plans.iter().zip(metrics));
        Ok(outcomes
            .map(|(gathered, (plan, metrics))| gathered.outcome(plan, metrics))
            .collect())
    }

    fn add_exposures(
        &self,
        piece: &Piece<'_>,
        reach: &[Reach],
        gathered: &mut [Gathered],
    ) -> Result<(), WarehouseError> {
        let statement = self.statement_about(&[USERS, include_str!("exposures.sql")], piece, reach);
        let rows = self
            .client
            .rows::<(usize, String, usize, u64)>("count exposed users", statement.text())?;
        for (code, status, place, n) in rows {
            let gathered = &mut gathered[code];
            match status.as_str() {
                "forced" => gathered.forced[place] += n,
                "unknown" => gathered.unknown_variant[place] += n,
                "crossover" => gathered.crossovers[place] += n,
                "left_out" => {}
                _ => gathered.users[place] += n,
            }
        }
        Ok(())
    }

    fn add_unready(
        &self,
        piece: &Piece<'_>,
        reach: &[Reach],
        metrics: &str,
        gathered: &mut [Gathered],
    ) -> Result<(), WarehouseError> {
        let statement = self
            .statement_about(&[USERS, include_str!("unready.sql")], piece, reach)
            .with("metrics", metrics);
        type Unready = (usize, usize, usize, u64, i64);
        let rows = self
            .client
            .rows::<Unready>("count users whose window is open", statement.text())?;
        for (code, slot, metric, n, until) in rows {
            let gathered = &mut gathered[code];
            gathered.sums(slot, metric - 1).waiting_users += n;
            // A window without an end ends as it does in the fold.
            let until = if until >= FARTHEST { i64::MAX } else { until };
            gathered.next_user_at =
                Some(gathered.next_user_at.map_or(until, |next| next.min(until)));
        }
        Ok(())
    }

    fn add_sums(
        &self,
        piece: &Piece<'_>,
        reach: &[Reach],
        metrics: &str,
        gathered: &mut [Gathered],
    ) -> Result<(), WarehouseError> {
        let statement = self
            .statement_about(&[USERS, HAPPENED, include_str!("sums.sql")], piece, reach)
            .with("metrics", metrics);
        type Sums = (
            usize,
            usize,
            usize,
            u64,
            u64,
            String,
            String,
            String,
            String,
            String,
            String,
        );
        let rows = self
            .client
            .rows::<Sums>("sum up events", statement.text())?;
        for (
            code,
            slot,
            metric,
            converted_users,
            events,
            squared_events,
            total,
            squared_total,
            second,
            squared_second,
            product,
        ) in rows
        {
            let gathered = &mut gathered[code];
            let n_variants = piece.plans[code].variants.len();
            let Some(metric) = metric.checked_sub(1) else {
                gathered.not_aggregated[slot / n_variants.max(1)] += events;
                continue;
            };
            if metric >= gathered.n_metrics {
                continue;
            }
            // Sums are wider there; what does not fit here is an overflow, as in the fold.
            let exact = || {
                Some(MetricSums {
                    converted_users,
                    events,
                    squared_events: squared_events.parse().ok()?,
                    total: total.parse().ok()?,
                    squared_total: squared_total.parse().ok()?,
                    second: SecondSums {
                        total: second.parse().ok()?,
                        squared_total: squared_second.parse().ok()?,
                        product: product.parse().ok()?,
                    },
                    waiting_users: 0,
                })
            };
            match exact() {
                Some(sums) => {
                    let waiting_users = gathered.sums(slot, metric).waiting_users;
                    *gathered.sums(slot, metric) = MetricSums {
                        waiting_users,
                        ..sums
                    };
                }
                None => {
                    gathered.overflow =
                        Some(gathered.overflow.map_or(metric, |other| other.min(metric)))
                }
            }
        }
        Ok(())
    }
}

fn merged(
    (left, right): (
        Result<Folded<Scorecard>, FoldError>,
        Result<Folded<Scorecard>, FoldError>,
    ),
) -> Result<Folded<Scorecard>, FoldError> {
    let mut left = left?;
    left.merge(right?)?;
    Ok(left)
}

/// Gathers what statements say about one experiment.
struct Gathered {
    users: Vec<u64>,
    crossovers: Vec<u64>,
    forced: Vec<u64>,
    unknown_variant: Vec<u64>,
    n_metrics: usize,
    sums: Vec<MetricSums>,
    not_aggregated: Vec<u64>,
    next_user_at: Option<i64>,
    /// The first metric of which a sum left its range.
    overflow: Option<usize>,
    /// What became of events, by their type.
    arrivals: Vec<(String, TypeArrivals)>,
}

impl Gathered {
    fn new(plan: &Plan, n_metrics: usize) -> Self {
        let (n_slots, n_cells) = (plan.n_slots(), plan.split.n_cells());
        Self {
            users: vec![0; n_slots],
            crossovers: vec![0; n_slots],
            forced: vec![0; n_cells],
            unknown_variant: vec![0; n_cells],
            n_metrics,
            sums: vec![MetricSums::default(); n_slots * n_metrics],
            not_aggregated: vec![0; n_cells],
            next_user_at: None,
            overflow: None,
            arrivals: Vec::new(),
        }
    }

    fn sums(&mut self, slot: usize, metric: usize) -> &mut MetricSums {
        &mut self.sums[slot * self.n_metrics + metric]
    }

    fn outcome(self, plan: &Plan, metrics: &[MetricPlan]) -> Result<Folded<Scorecard>, FoldError> {
        if let Some(metric) = self.overflow {
            return Err(FoldError::SumOverflow {
                experiment: plan.experiment.clone(),
                metric: metrics[metric].name.clone(),
            });
        }
        let mut scorecard = Scorecard::new(plan, metrics.to_vec());
        for (event_type, counts) in &self.arrivals {
            let code = plan.event_types.code(event_type);
            let types = scorecard.arrivals_mut();
            if let Some(known) = code.and_then(|code| types.get_mut(code as usize)) {
                known.merge(counts);
            }
        }
        Ok(Folded {
            users: self.users,
            crossovers: self.crossovers,
            forced: self.forced,
            unknown_variant: self.unknown_variant,
            next_event_at: None,
            accumulator: scorecard.with_sums(self.sums, self.not_aggregated, self.next_user_at),
        })
    }
}
