//! Tests publishing, thinning out and the history of runs.

use trialog_model::experiment::Definition;
use trialog_model::ids::ExperimentId;
use trialog_model::published::{
    AnalysisRow, Computation, EventCounts, VariantExposures, VariantMetric,
};

use super::*;
use crate::audit::{Actor, Edit};
use crate::database::Connection;
use crate::sequence::STANDING;

const DAY: i64 = 86_400_000_000;
const NOW: UnixMicros = UnixMicros(20_000 * DAY);

fn arrivals(event_type: &str, events: u64) -> EventCounts {
    EventCounts {
        event_type: event_type.into(),
        events,
        counted: 1,
        before_exposure: 2,
        after_window: 3,
        unexposed: 4,
        excluded: 5,
        unknown_variant: 6,
        unexposed_users: 7,
        senders_exposed: 8,
        unexposed_sample: vec![i64::MIN, -42, 42, 4_242],
    }
}

fn computation(id: &ExperimentId, users: u64) -> Computation {
    Computation {
        experiment: id.clone(),
        fingerprint: "f".into(),
        forced_users: 1,
        unknown_variant: 0,
        not_aggregated: 2,
        exposures: vec![VariantExposures {
            variant: "a".into(),
            user_count: users,
            crossover_users: 3,
        }],
        metrics: vec![VariantMetric {
            variant: "a".into(),
            metric_name: "buy".into(),
            user_count: users,
            event_count: 5,
            total: i128::from(i64::MAX) * 1_000_000,
            conversion_rate: 0.5,
            mean_value: -1.25,
            variance: None,
            converted_users: 4,
            squared_total: i128::MAX,
            squared_events: 9,
            more: None,
        }],
        arrivals: ["visit", "buy"]
            .map(|event_type| arrivals(event_type, users))
            .into(),
    }
}

fn run(
    catalog: &Catalog,
    id: &ExperimentId,
    at: UnixMicros,
    computed: Result<Computation, String>,
) {
    let run_id = catalog.begin_run("request", 1, at).unwrap();
    let outcome = Outcome {
        experiment: id.clone(),
        revision: 1,
        recompute_at: Some(UnixMicros(at.0 + 5)),
        analyses: vec![AnalysisRow {
            analysis: STANDING.to_owned(),
            key: String::new(),
            body: "{}".to_owned(),
        }],
        warnings: match &computed {
            Ok(computed) if computed.exposures[0].user_count == 10 => {
                vec!["events_without_exposure", "one_arm"]
            }
            _ => Vec::new(),
        },
        computed,
    };
    let thin_out_before = UnixMicros(at.0 - 7 * DAY);
    catalog
        .publish(&FinishedRun {
            run_id,
            position: 7,
            data_time: at,
            computed_at: at,
            thin_out_before,
            outcomes: vec![outcome],
            lease: None,
            journal: None,
        })
        .unwrap();
}

fn catalog() -> (tempfile::TempDir, Catalog, ExperimentId) {
    let directory = tempfile::tempdir().unwrap();
    let catalog = crate::testing::open(directory.path()).unwrap();
    let id = ExperimentId::new("gate").unwrap();
    let edit = Edit::new(Actor::local(), NOW);
    catalog
        .create_experiment(&Definition::unregistered(id.clone()), &edit)
        .unwrap();
    (directory, catalog, id)
}

#[test]
fn what_is_published_reads_back_exactly() {
    let (_directory, catalog, id) = catalog();
    assert_eq!(catalog.published(&id, None).unwrap(), None);
    run(&catalog, &id, NOW, Ok(computation(&id, 10)));
    let published = catalog.published(&id, None).unwrap().unwrap();
    let mut written = computation(&id, 10);
    written.arrivals.reverse();
    assert_eq!(published.computation, written);
    assert_eq!(catalog.high_water_mark().unwrap().position, 7);
    assert!(catalog.due_experiments(NOW).unwrap().is_empty());
    assert_eq!(
        catalog.due_experiments(UnixMicros(NOW.0 + 5)).unwrap(),
        [id]
    );
}

#[test]
fn rows_of_an_analysis_belong_to_their_computation() {
    let (_directory, catalog, id) = catalog();
    let later = UnixMicros(NOW.0 + 1);
    run(&catalog, &id, NOW, Ok(computation(&id, 10)));
    run(&catalog, &id, later, Err("too large".into()));
    let rows = |at, analysis| catalog.analysis(&id, at, analysis).unwrap();
    let [standing] = &rows(NOW, STANDING)[..] else {
        panic!("{:?}", rows(NOW, STANDING));
    };
    assert_eq!((standing.key.as_str(), standing.body.as_str()), ("", "{}"));
    let arrivals = rows(NOW, "arrivals");
    let keys: Vec<&str> = arrivals.iter().map(|row| row.key.as_str()).collect();
    assert_eq!(keys, ["buy", "visit"]);
    assert_eq!(rows(later, STANDING), []);
    assert_eq!(rows(NOW, "funnel"), []);
}

#[test]
fn a_failed_experiment_keeps_its_last_rows_and_stays_due() {
    let (_directory, catalog, id) = catalog();
    run(&catalog, &id, NOW, Ok(computation(&id, 10)));
    run(
        &catalog,
        &id,
        UnixMicros(NOW.0 + 1),
        Err("too large".into()),
    );
    assert_eq!(
        catalog.published(&id, None).unwrap().unwrap().computed_at,
        NOW
    );
    assert_eq!(
        catalog.experiment(&id).unwrap().failure.as_deref(),
        Some("too large")
    );
    assert_eq!(catalog.due_experiments(NOW).unwrap(), [id]);
}

#[test]
fn an_experiment_that_is_deleted_during_a_run_leaves_nothing_behind() {
    let (_directory, catalog, id) = catalog();
    run(&catalog, &id, NOW, Ok(computation(&id, 10)));
    let edit = Edit::new(Actor::local(), NOW);
    catalog
        .delete::<crate::experiments::Experiment>(&id, &edit)
        .unwrap();
    run(
        &catalog,
        &id,
        UnixMicros(NOW.0 + 1),
        Ok(computation(&id, 11)),
    );
    assert_eq!(catalog.published(&id, None).unwrap(), None);
    for table in [
        "computations",
        "variant_exposures",
        "variant_metrics",
        "analysis_results",
        "experiment_warnings",
    ] {
        let left = catalog.read("count rows", |connection| {
            let sql = format!("SELECT count(*) FROM {table}");
            connection.query_row(&sql, params![], |row| row.get::<i64>(0))
        });
        assert_eq!(left.unwrap(), 0, "{table}");
    }
    assert!(
        catalog
            .due_experiments(UnixMicros(i64::MAX))
            .unwrap()
            .is_empty()
    );
}

#[test]
fn an_erased_user_is_in_no_sample_of_any_look_and_the_counts_stay() {
    let (_directory, catalog, id) = catalog();
    run(&catalog, &id, NOW, Ok(computation(&id, 10)));
    run(
        &catalog,
        &id,
        UnixMicros(NOW.0 + 1),
        Ok(computation(&id, 11)),
    );
    let other = ExperimentId::new("other").unwrap();
    assert_eq!(catalog.forget_in_samples(42, Some(&other)).unwrap(), 0);
    assert_eq!(catalog.forget_in_samples(42, None).unwrap(), 4);
    assert_eq!(catalog.forget_in_samples(42, None).unwrap(), 0);
    for at in [NOW, UnixMicros(NOW.0 + 1)] {
        let published = catalog.published(&id, Some(at)).unwrap().unwrap();
        for row in published.computation.arrivals {
            assert_eq!(row.unexposed_sample, [i64::MIN, -42, 4_242]);
            assert_eq!(row.unexposed_users, 7);
        }
    }
}

#[test]
fn warnings_are_those_of_the_last_computation_of_experiments_that_run() {
    let (_directory, catalog, id) = catalog();
    let warned = || {
        let codes = catalog.experiments_with_warnings().unwrap();
        codes.into_iter().collect::<Vec<_>>()
    };
    assert_eq!(warned(), []);
    run(&catalog, &id, NOW, Ok(computation(&id, 10)));
    let both = [
        ("events_without_exposure".to_owned(), 1),
        ("one_arm".to_owned(), 1),
    ];
    assert_eq!(warned(), both);
    let later = |n: i64| UnixMicros(NOW.0 + n);
    run(&catalog, &id, later(1), Err("too large".into()));
    assert_eq!(warned(), both, "a failed computation leaves the last one's");
    run(&catalog, &id, later(2), Ok(computation(&id, 11)));
    assert_eq!(warned(), []);
}

#[test]
fn samples_go_with_the_events_that_retention_drops() {
    let (_directory, catalog, id) = catalog();
    run(&catalog, &id, NOW, Ok(computation(&id, 10)));
    let counts = std::collections::BTreeMap::from([(id.to_string(), 3)]);
    catalog.note_dropped(&counts, NOW, NOW).unwrap();
    let published = catalog.published(&id, None).unwrap().unwrap();
    let arrivals = published.computation.arrivals;
    assert_eq!(arrivals.len(), 2);
    assert!(arrivals.iter().all(|row| row.unexposed_sample.is_empty()));
}

#[test]
fn a_count_of_events_that_is_changed_or_gone_is_found() {
    for spoil in [
        "UPDATE analysis_results SET body = replace(body, '\"unexposed\":4', '\"unexposed\":3')",
        "UPDATE analysis_results SET body = '{}'",
        "DELETE FROM analysis_results WHERE key = 'visit'",
    ] {
        let directory = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(directory.path()).unwrap();
        let id = ExperimentId::new("gate").unwrap();
        let edit = Edit::new(Actor::local(), NOW);
        let definition = Definition::unregistered(id.clone());
        catalog.create_experiment(&definition, &edit).unwrap();
        run(&catalog, &id, NOW, Ok(computation(&id, 10)));
        let file = rusqlite::Connection::open(directory.path().join("catalog.sqlite"));
        file.unwrap().execute_batch(spoil).unwrap();
        let error = catalog.published(&id, None).unwrap_err();
        assert!(error.to_string().contains("checksum"), "{spoil}: {error}");
    }
}

#[test]
fn a_row_of_an_analysis_that_is_gone_is_found_at_the_next_start() {
    let directory = tempfile::tempdir().unwrap();
    let catalog = Catalog::open(directory.path()).unwrap();
    let id = ExperimentId::new("gate").unwrap();
    let edit = Edit::new(Actor::local(), NOW);
    let definition = Definition::unregistered(id.clone());
    catalog.create_experiment(&definition, &edit).unwrap();
    run(&catalog, &id, NOW, Ok(computation(&id, 10)));
    catalog.forget_in_samples(42, None).unwrap();
    drop(catalog);
    drop(Catalog::open(directory.path()).unwrap());
    let file = rusqlite::Connection::open(directory.path().join("catalog.sqlite")).unwrap();
    let spoil = "DELETE FROM analysis_results WHERE analysis = 'standing'";
    file.execute_batch(spoil).unwrap();
    drop(file);
    let error = Catalog::open(directory.path()).unwrap_err();
    assert!(error.to_string().contains("analysis_results"), "{error}");
}

#[test]
fn history_is_kept_and_after_a_week_thinned_out_to_one_a_day() {
    let (_directory, catalog, id) = catalog();
    let hours = |n: i64| UnixMicros(NOW.0 + n * DAY / 24);
    for hour in 0..48 {
        run(
            &catalog,
            &id,
            hours(hour),
            Ok(computation(&id, hour as u64)),
        );
    }
    let as_of = |time| {
        catalog
            .published(&id, Some(time))
            .unwrap()
            .unwrap()
            .computed_at
    };
    assert_eq!(as_of(hours(5)), hours(5));
    run(&catalog, &id, hours(24 * 8 + 12), Ok(computation(&id, 1)));
    assert_eq!(as_of(hours(23)), hours(23));
    let arrivals = |connection: &Connection<'_>| {
        let sql = "SELECT count(DISTINCT computed_at) FROM analysis_results";
        connection.query_row(sql, params![], |row| row.get::<i64>(0))
    };
    let left = catalog.read("count what is left", arrivals).unwrap();
    let looks = |connection: &Connection<'_>| {
        let sql = "SELECT count(*) FROM computations";
        connection.query_row(sql, params![], |row| row.get::<i64>(0))
    };
    assert_eq!(left, catalog.read("count looks", looks).unwrap());
    assert_eq!(catalog.published(&id, Some(hours(22))).unwrap(), None);
    assert_eq!(
        as_of(hours(30)),
        hours(23),
        "the second day is only half past a week"
    );
}
