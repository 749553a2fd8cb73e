//! Earlier looks at experiments, kept in memory while their results are asked for.
//!
//! Reading a look takes as long as reading results, and a week has 168 of them. What
//! was published before a publication stays as it was, so it is read once for each.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use trialog_catalog::results::Published;
use trialog_catalog::{Catalog, CatalogError};
use trialog_model::ids::ExperimentId;
use trialog_model::time::UnixMicros;

use trialog_report::Look;

/// Rows that are kept, of all experiments together: about 25 MB. The experiments that
/// were asked for the longest time ago go first.
const MOST_ROWS: usize = 100_000;
/// Experiments whose looks are kept.
const MOST_EXPERIMENTS: usize = 64;
/// Fewer rows are read again as fast as they are found here.
const FEWEST_ROWS: usize = 100;

/// The looks before some publications.
#[derive(Debug, Default)]
pub(crate) struct Looks(Mutex<VecDeque<Kept>>);

#[derive(Debug, Clone)]
struct Kept {
    experiment: ExperimentId,
    before: UnixMicros,
    looks: Arc<Vec<Look>>,
}

impl Kept {
    fn rows(&self) -> usize {
        self.looks.iter().map(Vec::len).sum()
    }

    fn is_of(&self, published: &Published) -> bool {
        self.before == published.computed_at && self.experiment == published.computation.experiment
    }
}

impl Looks {
    /// The looks before `published`, read from `catalog` unless they are here.
    pub(crate) fn before(
        &self,
        published: &Published,
        catalog: &Catalog,
    ) -> Result<Arc<Vec<Look>>, CatalogError> {
        if let Some(looks) = self.kept(published) {
            return Ok(looks);
        }
        let looks = Arc::new(catalog.looks_before(published)?);
        let new = Kept {
            experiment: published.computation.experiment.clone(),
            before: published.computed_at,
            looks: Arc::clone(&looks),
        };
        if new.rows() >= FEWEST_ROWS {
            self.keep(new);
        }
        Ok(looks)
    }

    fn kept(&self, published: &Published) -> Option<Arc<Vec<Look>>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = all.iter().position(|own| own.is_of(published))?;
        let own = all.remove(at)?;
        let looks = Arc::clone(&own.looks);
        all.push_back(own);
        Some(looks)
    }

    fn keep(&self, new: Kept) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // An experiment has one present publication; that of another moment may be read again.
        all.retain(|own| own.experiment != new.experiment);
        all.push_back(new);
        let mut n_rows: usize = all.iter().map(Kept::rows).sum();
        while n_rows > MOST_ROWS || all.len() > MOST_EXPERIMENTS {
            let Some(oldest) = all.pop_front() else { break };
            n_rows -= oldest.rows();
        }
    }
}

#[cfg(test)]
mod tests {
    use trialog_catalog::results::VariantMetric;

    use super::*;

    fn kept(name: &str, before: i64, n_rows: usize) -> Kept {
        let row = VariantMetric {
            variant: "a".to_owned(),
            metric_name: "buy".to_owned(),
            user_count: 1,
            event_count: 1,
            total: 0,
            conversion_rate: 1.0,
            mean_value: 0.0,
            variance: None,
            converted_users: 1,
            squared_total: 0,
            squared_events: 1,
            more: None,
        };
        Kept {
            experiment: ExperimentId::new(name).unwrap(),
            before: UnixMicros(before),
            looks: Arc::new(vec![vec![row; n_rows]]),
        }
    }

    fn names(looks: &Looks) -> Vec<(String, i64)> {
        let all = looks.0.lock().unwrap();
        all.iter()
            .map(|own| (own.experiment.to_string(), own.before.0))
            .collect()
    }

    #[test]
    fn what_is_kept_is_bounded_and_the_oldest_goes_first() {
        let looks = Looks::default();
        looks.keep(kept("a", 1, 100));
        looks.keep(kept("b", 1, MOST_ROWS - 200));
        looks.keep(kept("a", 2, 100));
        let named = |own: &[(&str, i64)]| -> Vec<(String, i64)> {
            own.iter()
                .map(|(name, before)| ((*name).to_owned(), *before))
                .collect()
        };
        assert_eq!(names(&looks), named(&[("b", 1), ("a", 2)]));
        looks.keep(kept("c", 1, 150));
        assert_eq!(names(&looks), named(&[("a", 2), ("c", 1)]));
        for n in 0..MOST_EXPERIMENTS {
            looks.keep(kept(&format!("many {n}"), 1, 100));
        }
        assert_eq!(names(&looks).len(), MOST_EXPERIMENTS);
        looks.keep(kept("large", 1, MOST_ROWS + 1));
        assert_eq!(names(&looks), named(&[]));
    }
}
