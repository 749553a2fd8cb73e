//! Writes and reads what a run stores of a saved funnel: exact counts by variant.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use trialog_model::funnel::FunnelDefinition;
use trialog_model::published::{AnalysisRow, Computation};
use trialog_stats::FunnelCounts;

/// The name of the analysis under which saved funnels are stored; the key of a row is the name of
/// the funnel.
pub const FUNNEL: &str = "funnel";

/// The version of the encoding, and of what the counts mean.
const VERSION: u32 = 1;

/// What a run computed of a saved funnel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredFunnel {
    /// What was computed.
    pub definition: FunnelDefinition,
    /// Exposed users by variant.
    pub users: BTreeMap<String, u64>,
    /// For each variant the users who reached each step.
    pub reached: BTreeMap<String, Vec<u64>>,
}

/// The row as JSON.
#[derive(Serialize, Deserialize)]
struct Body {
    version: u32,
    definition: FunnelDefinition,
    users: BTreeMap<String, u64>,
    reached: BTreeMap<String, Vec<u64>>,
}

impl StoredFunnel {
    /// Makes the row of the funnel with this name.
    pub fn to_row(&self, name: &str) -> AnalysisRow {
        let body = Body {
            version: VERSION,
            definition: self.definition.clone(),
            users: self.users.clone(),
            reached: self.reached.clone(),
        };
        AnalysisRow {
            analysis: FUNNEL.to_owned(),
            key: name.to_owned(),
            body: serde_json::to_string(&body).unwrap_or_default(),
        }
    }

    /// Reads the body of a row; `None` where another version wrote it, or its counts are none of a
    /// funnel.
    pub fn from_json(text: &str) -> Option<Self> {
        let body: Body = serde_json::from_str(text).ok()?;
        let is_funnel = |(variant, reached): (&String, &Vec<u64>)| {
            let users = body.users.get(variant).copied().unwrap_or(0);
            let counts = FunnelCounts::new(users, reached.clone());
            reached.len() == body.definition.steps.len() && counts.is_ok()
        };
        let is_sound = body.version == VERSION && body.reached.iter().all(is_funnel);
        is_sound.then_some(Self {
            definition: body.definition,
            users: body.users,
            reached: body.reached,
        })
    }

    /// Returns `computation` without metrics and events, as a funnel's report is made of it; the
    /// users are those of the funnel. `None` where its users are others: the row is not its.
    pub fn users_of(&self, computation: &Computation) -> Option<Computation> {
        let exposures = computation.exposures.iter();
        let users = exposures.map(|arm| (arm.variant.clone(), arm.user_count));
        (users.collect::<BTreeMap<_, _>>() == self.users).then(|| Computation {
            not_aggregated: 0,
            metrics: Vec::new(),
            arrivals: Vec::new(),
            ..computation.clone()
        })
    }
}

#[cfg(test)]
mod tests {
    use trialog_model::duration::Window;
    use trialog_model::ids::{EventType, ExperimentId};
    use trialog_model::published::VariantExposures;

    use super::*;

    fn stored(users: u64, reached: &[u64]) -> StoredFunnel {
        let steps = ["view", "buy"].map(|step| EventType::new(step).unwrap());
        let limits = vec![None, Window::parse("1h").ok()];
        StoredFunnel {
            definition: FunnelDefinition::new(steps.to_vec(), Window::DEFAULT, limits),
            users: BTreeMap::from([("a".to_owned(), users)]),
            reached: BTreeMap::from([("a".to_owned(), reached.to_vec())]),
        }
    }

    #[test]
    fn a_row_is_read_as_it_was_written() {
        let funnel = stored(10, &[8, 3]);
        let row = funnel.to_row("checkout");
        assert_eq!(
            (row.analysis.as_str(), row.key.as_str()),
            (FUNNEL, "checkout")
        );
        assert_eq!(
            row.body,
            r#"{"version":1,"definition":{"steps":["view","buy"],"window":"7d","limits":[null,"1h"]},"users":{"a":10},"reached":{"a":[8,3]}}"#
        );
        assert_eq!(StoredFunnel::from_json(&row.body), Some(funnel));
    }

    #[test]
    fn what_no_funnel_has_is_not_read() {
        for funnel in [
            stored(10, &[8, 9]),
            stored(7, &[8, 3]),
            stored(10, &[8]),
            stored(10, &[8, 3, 1]),
        ] {
            let row = funnel.to_row("f");
            assert_eq!(StoredFunnel::from_json(&row.body), None, "{}", row.body);
        }
        let body = stored(10, &[8, 3]).to_row("f").body;
        let newer = body.replace(r#""version":1"#, r#""version":2"#);
        assert_eq!(StoredFunnel::from_json(&newer), None);
        assert_eq!(StoredFunnel::from_json("{}"), None);
    }

    #[test]
    fn a_row_belongs_to_the_computation_with_its_users() {
        let computation = Computation {
            forced_users: 2,
            not_aggregated: 5,
            exposures: vec![VariantExposures {
                variant: "a".to_owned(),
                user_count: 10,
                crossover_users: 1,
            }],
            ..Computation::empty(ExperimentId::new("gate").unwrap())
        };
        let users = stored(10, &[8, 3]).users_of(&computation).unwrap();
        assert_eq!((users.forced_users, users.not_aggregated), (2, 0));
        assert_eq!(users.exposures, computation.exposures);
        assert_eq!(stored(11, &[8, 3]).users_of(&computation), None);
    }
}
