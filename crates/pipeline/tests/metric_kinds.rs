//! Every kind of metric, from definition to published sums, against the plain
//! arithmetic of its definition.
#![expect(clippy::unwrap_used, reason = "a failing helper fails its test")]

#[path = "common/system.rs"]
mod system;

use std::collections::BTreeMap;

use serde_json::{Value, json};
use trialog_catalog::audit::{Actor, Edit};
use trialog_catalog::results::{Computation, MoreSums, VariantMetric};
use trialog_model::event::EventKind;
use trialog_model::ids::ExperimentId;
use trialog_model::metric_definition::MetricDefinition;
use trialog_model::time::UnixMicros;
use trialog_pipeline::aggregation::Scope;
use trialog_warehouse::fold::UserFilter;

use system::{HOUR, NOW, Row, System};

const SEED: u64 = 7;
const VARIANTS: [&str; 2] = ["new", "old"];
const WINDOW_HOURS: i64 = 48;

/// A user with an exposure and events, whose hours are relative to it.
struct User {
    id: i64,
    variant: &'static str,
    exposed: i64,
    events: Vec<(i64, &'static str, i64)>,
}

fn users(n: i64) -> Vec<User> {
    let mut random = fastrand::Rng::with_seed(SEED);
    let user = |id| User {
        id,
        variant: VARIANTS[random.usize(..2)],
        exposed: -300 + random.i64(0..290),
        events: (0..random.usize(..6))
            .map(|_| {
                let value =
                    random.i64(-20_000..2_000_000) * if random.u8(..20) == 0 { 50 } else { 1 };
                (
                    random.i64(-100..120),
                    ["buy", "visit"][random.usize(..2)],
                    value,
                )
            })
            .collect(),
    };
    (0..n).map(user).collect()
}

fn rows(users: &[User]) -> Vec<Row> {
    let row = |user: &User, kind, hour: i64, name, value, event_id| Row {
        kind,
        experiment: "a",
        user: user.id,
        hour: user.exposed + hour,
        name,
        value,
        event_id,
        context: "",
    };
    let of_user = |user: &User| {
        let mut rows = vec![row(
            user,
            EventKind::Assignment,
            0,
            user.variant,
            0,
            user.id,
        )];
        for (at, (hour, name, value)) in user.events.iter().enumerate() {
            // What happens later than now is not known now.
            if user.exposed + hour < 0 {
                let event_id = user.id * 100 + at as i64;
                rows.push(row(user, EventKind::Metric, *hour, name, *value, event_id));
            }
        }
        rows
    };
    users.iter().flat_map(of_user).collect()
}

fn define(system: &System, fields: Value) {
    let definition = MetricDefinition::from_json(fields).unwrap();
    system.catalog.create_metric(&definition, &edit()).unwrap();
}

fn edit() -> Edit {
    Edit::new(Actor::local(), UnixMicros(NOW))
}

fn with_metrics(system: &System) {
    define(
        system,
        json!({"name": "aov", "kind": "ratio", "event_type": "buy", "denominator": "visit"}),
    );
    define(
        system,
        json!({"name": "back", "kind": "retention", "event_type": "visit", "retention": {"from": "24h", "to": "72h"}}),
    );
    define(
        system,
        json!({"name": "p90", "kind": "quantile", "event_type": "buy", "quantile": 0.9}),
    );
    define(
        system,
        json!({"name": "capped", "kind": "sum", "event_type": "buy", "winsorise": {"lower": 0.05, "upper": 0.95}}),
    );
    define(
        system,
        json!({"name": "capped_count", "kind": "count", "event_type": "buy", "winsorise": {"upper": 0.9}}),
    );
    define(
        system,
        json!({"name": "adjusted", "kind": "sum", "event_type": "buy", "covariate": {"period": "60h"}}),
    );
    define(
        system,
        json!({"name": "adjusted_rate", "kind": "conversion", "event_type": "buy", "covariate": {"event_type": "visit", "period": "60h"}}),
    );
    let experiment = json!({
        "experiment_id": "a", "variants": [{"variant": "old"}, {"variant": "new"}], "attribution_window": "48h",
        "metrics": {"primary": ["aov", "back", "p90", "capped", "capped_count", "adjusted", "adjusted_rate"]}
    });
    let experiment = serde_json::from_value(experiment).unwrap();
    system
        .catalog
        .create_experiment(&experiment, &edit())
        .unwrap();
}

fn published(system: &System) -> Computation {
    let id = ExperimentId::new("a").unwrap();
    system
        .catalog
        .published(&id, None)
        .unwrap()
        .unwrap()
        .computation
}

fn row_of<'c>(computation: &'c Computation, metric: &str, variant: &str) -> &'c VariantMetric {
    let found = computation
        .metrics
        .iter()
        .find(|row| row.metric_name == metric && row.variant == variant);
    found.unwrap()
}

/// What a user gathered of `event` in hours `from..to` after exposure, and how often.
fn gathered(user: &User, event: &str, from: i64, to: i64) -> (i128, i128) {
    let counts = |(hour, name, _): &&(i64, &str, i64)| {
        *name == event && (from..to).contains(hour) && user.exposed + hour < 0
    };
    let own: Vec<i128> = (user.events.iter().filter(counts))
        .map(|(_, _, value)| i128::from(*value))
        .collect();
    (own.iter().sum(), own.len() as i128)
}

fn sums(pairs: impl Iterator<Item = (i128, i128)> + Clone) -> MoreSums {
    MoreSums::Second {
        total: pairs.clone().map(|(_, second)| second).sum(),
        squared_total: pairs.clone().map(|(_, second)| second * second).sum(),
        product: pairs.map(|(own, second)| own * second).sum(),
    }
}

/// The quantile between the values at two ranks (type 7), by sorting.
fn quantile(values: &mut [i128], level: f64) -> f64 {
    values.sort_unstable();
    let at = (values.len() - 1) as f64 * level;
    let below = values[at.floor() as usize] as f64;
    let above = values[(at.floor() as usize + 1).min(values.len() - 1)] as f64;
    below + (at - at.floor()) * (above - below)
}

#[test]
fn every_kind_is_what_its_definition_says() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::open(directory.path());
    with_metrics(&system);
    let users = users(600);
    rows(&users).chunks(200).for_each(|rows| system.send(rows));
    system.aggregator.run("test", 1, Scope::Touched).unwrap();
    let computation = published(&system);

    let buys = |user: &User| gathered(user, "buy", 0, WINDOW_HOURS);
    let all: Vec<i128> = users.iter().map(|user| buys(user).0).collect();
    let ends =
        [0.05, 0.95].map(|level| quantile(&mut all.clone(), level).round_ties_even() as i128);
    let counts: Vec<i128> = users.iter().map(|user| buys(user).1 * 10_000).collect();
    let most = quantile(&mut counts.clone(), 0.9).round_ties_even() as i128;
    for variant in VARIANTS {
        let own = || users.iter().filter(|user| user.variant == variant);
        let more = |metric: &str| row_of(&computation, metric, variant).more.clone().unwrap();

        let visits = |user: &User| gathered(user, "visit", 0, WINDOW_HOURS).0;
        assert_eq!(
            more("aov"),
            sums(own().map(|user| (buys(user).0, visits(user))))
        );

        let before = |user: &User| gathered(user, "buy", -60, 0).0;
        assert_eq!(
            more("adjusted"),
            sums(own().map(|user| (buys(user).0, before(user))))
        );

        let visits_before = |user: &User| gathered(user, "visit", -60, 0).0;
        let has_bought = |user: &User| i128::from(buys(user).1 > 0);
        assert_eq!(
            more("adjusted_rate"),
            sums(own().map(|user| (has_bought(user), visits_before(user))))
        );

        let clipped = |values: Vec<i128>, [low, high]: [i128; 2], shown| MoreSums::Winsorised {
            total: values.iter().map(|value| *value.clamp(&low, &high)).sum(),
            squared_total: values
                .iter()
                .map(|value| (*value.clamp(&low, &high)).pow(2))
                .sum(),
            users: values
                .iter()
                .filter(|value| !(low..=high).contains(*value))
                .count() as u64,
            ends: shown,
        };
        let totals = own().map(|user| buys(user).0).collect();
        assert_eq!(more("capped"), clipped(totals, ends, ends.map(Some)));
        let numbers = own().map(|user| buys(user).1 * 10_000).collect();
        assert_eq!(
            more("capped_count"),
            clipped(numbers, [0, most], [None, Some(most)])
        );

        let mut totals: Vec<i128> = own().map(|user| buys(user).0).collect();
        let MoreSums::Quantile {
            quantile: found, ..
        } = more("p90")
        else {
            panic!("a quantile")
        };
        assert!((found - quantile(&mut totals, 0.9)).abs() < 1e-6, "{found}");

        let ended = || own().filter(|user| user.exposed + 72 <= 0);
        let back = row_of(&computation, "back", variant);
        assert_eq!(back.user_count, ended().count() as u64);
        let came = ended()
            .filter(|user| gathered(user, "visit", 24, 72).1 > 0)
            .count();
        assert_eq!(back.converted_users, came as u64);
        assert!(back.converted_users > 0 && back.user_count < own().count() as u64);
    }

    // The same from scratch, and as a drill-down that leaves nobody out.
    system.aggregator.run("test", 1, Scope::Full).unwrap();
    assert_eq!(published(&system), computation);
    let everybody = UserFilter {
        exposed: Some(i64::MIN)..None,
        ..UserFilter::default()
    };
    let id = ExperimentId::new("a").unwrap();
    // With a filter nothing tells how events arrived.
    let computation = Computation {
        arrivals: Vec::new(),
        ..computation
    };
    assert_eq!(
        system.aggregator.query(&id, &everybody).unwrap().0,
        computation
    );
}

#[test]
fn users_whose_window_ends_are_counted_without_any_new_event() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::open(directory.path());
    with_metrics(&system);
    system.send(&rows(&users(300)));
    let counted = || -> BTreeMap<&str, u64> {
        let computation = published(&system);
        VARIANTS
            .map(|variant| (variant, row_of(&computation, "back", variant).user_count))
            .into()
    };
    system.aggregator.run("test", 1, Scope::Touched).unwrap();
    let first = counted();
    system.advance(24 * HOUR);
    system.aggregator.run("test", 1, Scope::Touched).unwrap();
    let second = counted();
    assert!(
        VARIANTS
            .iter()
            .all(|variant| second[variant] > first[variant]),
        "{first:?} {second:?}"
    );
    let incremental = published(&system);
    system.aggregator.run("test", 1, Scope::Full).unwrap();
    assert_eq!(published(&system), incremental);
}
