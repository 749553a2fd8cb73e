//! Every kind of metric, from definition to published sums, against the plain
//! arithmetic of its definition.
#![expect(clippy::unwrap_used, reason = "a failing helper fails its test")]

#[path = "common/system.rs"]
mod system;

use std::collections::BTreeMap;
use std::ops::Range;

use serde_json::{Value, json};
use trialog_catalog::audit::{Actor, Edit};
use trialog_model::event::EventKind;
use trialog_model::ids::ExperimentId;
use trialog_model::metric_definition::MetricDefinition;
use trialog_model::published::{Computation, MoreSums, VariantMetric};
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
        user_text: "",
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
    system
        .catalog
        .create::<trialog_catalog::metrics::Metric>(&definition, &edit())
        .unwrap();
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
    with_experiment(
        system,
        &[
            "aov",
            "back",
            "p90",
            "capped",
            "capped_count",
            "adjusted",
            "adjusted_rate",
        ],
    );
}

fn with_experiment(system: &System, metrics: &[&str]) {
    let experiment = json!({
        "experiment_id": "a", "variants": [{"variant": "old"}, {"variant": "new"}], "attribution_window": "48h",
        "metrics": {"primary": metrics}
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
    gathered_of(user, event, from..to, i64::MIN)
}

/// The same of events of at least the value `least`.
fn gathered_of(user: &User, event: &str, hours: Range<i64>, least: i64) -> (i128, i128) {
    let counts = |(hour, name, value): &&(i64, &str, i64)| {
        *name == event && hours.contains(hour) && user.exposed + hour < 0 && *value >= least
    };
    let values: Vec<i128> = (user.events.iter().filter(counts))
        .map(|(_, _, value)| i128::from(*value))
        .collect();
    (values.iter().sum(), values.len() as i128)
}

fn sums(pairs: impl Iterator<Item = (i128, i128)> + Clone) -> MoreSums {
    MoreSums::Second {
        total: pairs.clone().map(|(_, second)| second).sum(),
        squared_total: pairs.clone().map(|(_, second)| second * second).sum(),
        product: pairs.map(|(first, second)| first * second).sum(),
    }
}

/// The most users with one of the values between which the quantile of the sorted `totals`
/// and the ends of its interval lie.
fn most_tied(totals: &[i128], level: f64) -> u64 {
    let n = totals.len() as f64;
    let half = 1.959_963_984_540_054 * (level * (1.0 - level) / n).sqrt();
    let ranks = [level - half, level, level + half].map(|level| level.clamp(0.0, 1.0) * (n - 1.0));
    let values = ranks.iter().flat_map(|rank| [rank.floor(), rank.ceil()]);
    let ties = |rank: f64| {
        totals
            .iter()
            .filter(|total| **total == totals[rank as usize])
            .count()
    };
    values.map(ties).max().unwrap() as u64
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
#[expect(clippy::too_many_lines, reason = "a table of metrics")]
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
        let of_variant = || users.iter().filter(|user| user.variant == variant);
        let more = |metric: &str| row_of(&computation, metric, variant).more.clone().unwrap();

        let visits = |user: &User| gathered(user, "visit", 0, WINDOW_HOURS).0;
        assert_eq!(
            more("aov"),
            sums(of_variant().map(|user| (buys(user).0, visits(user))))
        );

        let before = |user: &User| gathered(user, "buy", -60, 0).0;
        assert_eq!(
            more("adjusted"),
            sums(of_variant().map(|user| (buys(user).0, before(user))))
        );

        let visits_before = |user: &User| gathered(user, "visit", -60, 0).0;
        let has_bought = |user: &User| i128::from(buys(user).1 > 0);
        assert_eq!(
            more("adjusted_rate"),
            sums(of_variant().map(|user| (has_bought(user), visits_before(user))))
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
        let totals = of_variant().map(|user| buys(user).0).collect();
        assert_eq!(more("capped"), clipped(totals, ends, ends.map(Some)));
        let numbers = of_variant().map(|user| buys(user).1 * 10_000).collect();
        assert_eq!(
            more("capped_count"),
            clipped(numbers, [0, most], [None, Some(most)])
        );

        let mut totals: Vec<i128> = of_variant().map(|user| buys(user).0).collect();
        let MoreSums::Quantile {
            quantile: found,
            tied: Some(tied),
            ..
        } = more("p90")
        else {
            panic!("a quantile")
        };
        assert!((found - quantile(&mut totals, 0.9)).abs() < 1e-6, "{found}");
        assert_eq!(tied, most_tied(&totals, 0.9));

        let ended = || of_variant().filter(|user| user.exposed + 72 <= 0);
        let back = row_of(&computation, "back", variant);
        assert_eq!(back.user_count, ended().count() as u64);
        let came = ended()
            .filter(|user| gathered(user, "visit", 24, 72).1 > 0)
            .count();
        assert_eq!(back.converted_users, came as u64);
        assert!(back.converted_users > 0 && back.user_count < of_variant().count() as u64);
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
        system
            .aggregator
            .query(&id, &everybody, &std::sync::Arc::default())
            .unwrap()
            .0,
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

/// 50, which about a third of the purchases are below.
const LEAST: i64 = 500_000;

/// Defines metrics that leave events out, by their value or by when they happened.
fn with_choosy_metrics(system: &System) {
    let of_buys = json!({"event_type": "buy", "min_value": "50", "delay": "-5h"});
    let parts = [
        json!({"name": "sale", "kind": "conversion"}),
        json!({"name": "sales", "kind": "count"}),
        json!({"name": "late", "kind": "sum", "delay": "12h", "window": "24h"}),
        json!({"name": "per_visit", "kind": "ratio", "denominator": "visit"}),
        json!({"name": "kept", "kind": "retention", "retention": {"from": "24h", "to": "72h"}, "delay": null}),
        json!({"name": "p90", "kind": "quantile", "quantile": 0.9}),
        json!({"name": "capped", "kind": "sum", "winsorise": {"lower": 0.05, "upper": 0.95, "of": "users_with_event"}}),
        json!({"name": "by_sales", "kind": "sum", "covariate": {"period": "60h"}}),
        json!({"name": "by_visits", "kind": "sum", "delay": "12h", "covariate": {"event_type": "visit", "period": "60h"}}),
    ];
    let mut names = Vec::new();
    for metric in &parts {
        let mut fields = of_buys.clone();
        for (field, value) in metric.as_object().unwrap() {
            fields[field] = value.clone();
        }
        define(system, fields);
        names.push(metric["name"].as_str().unwrap());
    }
    with_experiment(system, &names);
}

#[test]
fn events_below_the_min_value_or_outside_the_delayed_window_count_for_no_kind() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::open(directory.path());
    with_choosy_metrics(&system);
    let users = users(600);
    rows(&users).chunks(200).for_each(|rows| system.send(rows));
    system.aggregator.run("test", 1, Scope::Touched).unwrap();
    let computation = published(&system);

    let sales = |user: &User| gathered_of(user, "buy", -5..43, LEAST);
    let late = |user: &User| gathered_of(user, "buy", 12..36, LEAST);
    let mut of_buyers: Vec<i128> = (users.iter().map(sales))
        .filter(|(_, n)| *n > 0)
        .map(|(total, _)| total)
        .collect();
    let ends = [0.05, 0.95].map(|level| quantile(&mut of_buyers, level).round_ties_even() as i128);
    assert!(ends[0] >= i128::from(LEAST) && of_buyers.len() < users.len());
    for variant in VARIANTS {
        let of_variant = || users.iter().filter(|user| user.variant == variant);
        let row = |metric: &str| row_of(&computation, metric, variant);
        let more = |metric: &str| row(metric).more.clone().unwrap();
        let sum = |of: &dyn Fn(&User) -> (i128, i128)| -> i128 {
            of_variant().map(|user| of(user).0).sum()
        };

        let n_buyers = of_variant().filter(|user| sales(user).1 > 0).count() as u64;
        assert!(n_buyers > 0 && n_buyers < of_variant().count() as u64);
        assert_eq!(row("sale").converted_users, n_buyers);
        let n_sales: i128 = of_variant().map(|user| sales(user).1).sum();
        assert_eq!(i128::from(row("sales").event_count), n_sales);
        assert_eq!(row("late").total, sum(&late));

        let visits = |user: &User| gathered(user, "visit", -5, 43).0;
        let pairs = of_variant().map(|user| (sales(user).0, visits(user)));
        assert_eq!(more("per_visit"), sums(pairs));

        let ended = || of_variant().filter(|user| user.exposed + 72 <= 0);
        let came = |user: &&User| gathered_of(user, "buy", 24..72, LEAST).1 > 0;
        assert_eq!(row("kept").user_count, ended().count() as u64);
        assert_eq!(
            row("kept").converted_users,
            ended().filter(came).count() as u64
        );

        let mut totals: Vec<i128> = of_variant().map(|user| sales(user).0).collect();
        let MoreSums::Quantile {
            quantile: found,
            tied: Some(tied),
            ..
        } = more("p90")
        else {
            panic!("a quantile")
        };
        assert!((found - quantile(&mut totals, 0.9)).abs() < 1e-6, "{found}");
        assert_eq!(tied, most_tied(&totals, 0.9));

        // Users without a sale stay 0, below the lower end.
        let clipped = |user: &User| match sales(user) {
            (_, 0) => 0,
            (total, _) => total.clamp(ends[0], ends[1]),
        };
        let expected = MoreSums::Winsorised {
            total: of_variant().map(clipped).sum(),
            squared_total: of_variant().map(|user| clipped(user).pow(2)).sum(),
            users: of_variant()
                .filter(|user| clipped(user) != sales(user).0)
                .count() as u64,
            ends: ends.map(Some),
        };
        assert_eq!(more("capped"), expected);

        // The period ends where an early window begins, so no event is on both sides.
        let before = |user: &User| gathered_of(user, "buy", -65..-5, LEAST).0;
        let pairs = of_variant().map(|user| (sales(user).0, before(user)));
        assert_eq!(more("by_sales"), sums(pairs));
        // A late window leaves the period where it is; other events count whatever their value.
        let before = |user: &User| gathered(user, "visit", -60, 0).0;
        let later = |user: &User| gathered_of(user, "buy", 12..60, LEAST).0;
        let pairs = of_variant().map(|user| (later(user), before(user)));
        assert_eq!(more("by_visits"), sums(pairs));
    }
    system.aggregator.run("test", 1, Scope::Full).unwrap();
    assert_eq!(published(&system), computation);
}

#[test]
fn a_changed_min_value_or_delay_is_applied_by_the_next_run() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::open(directory.path());
    define(
        &system,
        json!({"name": "sales", "kind": "sum", "event_type": "buy"}),
    );
    with_experiment(&system, &["sales"]);
    system.send(&rows(&users(200)));
    let published = || {
        system.aggregator.run("test", 1, Scope::Touched).unwrap();
        let computation = published(&system);
        let total = VARIANTS.map(|variant| row_of(&computation, "sales", variant).total);
        (computation.fingerprint, total)
    };
    let mut seen = vec![published()];
    for (field, value) in [("min_value", json!(50)), ("delay", json!("-5h"))] {
        let change = |known: &trialog_catalog::metrics::Metric| {
            let mut fields = serde_json::to_value(&known.definition).unwrap();
            fields[field] = value;
            MetricDefinition::from_json(fields).map_err(|error| panic!("{error}"))
        };
        let name = trialog_model::ids::MetricName::new("sales").unwrap();
        let changed: Result<_, trialog_catalog::CatalogError> =
            system
                .catalog
                .change::<trialog_catalog::metrics::Metric, _>(&name, &edit(), change);
        changed.unwrap();
        let now = published();
        let is_new =
            |(fingerprint, total): &(String, [i128; 2])| *fingerprint != now.0 && *total != now.1;
        assert!(seen.iter().all(is_new), "{field}: {now:?} after {seen:?}");
        seen.push(now);
    }
}
