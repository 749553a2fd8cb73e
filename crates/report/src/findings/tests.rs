//! Tests findings in made-up computations.

use serde_json::json;
use trialog_model::experiment::{Definition, Status};
use trialog_model::published::VariantExposures;
use trialog_model::time::UnixMicros;

use super::*;

fn subject() -> Subject<'static> {
    let definition = json!({
        "experiment_id": "gate",
        "variants": [{"variant": "a"}, {"variant": "b"}],
        "metrics": {"primary": ["adjusted"]},
    });
    let metric = json!({
        "name": "adjusted", "kind": "sum", "event_type": "spend",
        "covariate": {"period": "7d", "event_type": "earlier"},
    });
    let definition: Definition = serde_json::from_value(definition).unwrap();
    let metrics = vec![serde_json::from_value(metric).unwrap()];
    Subject {
        defined_metrics: Vec::leak(metrics),
        status: Status::Running,
        ..Subject::from_definition(Box::leak(Box::new(definition)))
    }
}

fn computation(users: &[(&str, u64)], arrivals: Vec<EventCounts>) -> Computation {
    let exposures = users.iter().map(|(variant, user_count)| VariantExposures {
        variant: (*variant).to_owned(),
        user_count: *user_count,
        crossover_users: 0,
    });
    Computation {
        exposures: exposures.collect(),
        arrivals,
        ..Computation::empty(subject().definition.experiment_id.clone())
    }
}

fn buy() -> EventCounts {
    EventCounts {
        event_type: "buy".into(),
        events: 1_000,
        counted: 1_000,
        senders_exposed: 300,
        ..EventCounts::default()
    }
}

fn found(arrivals: EventCounts) -> Vec<Finding> {
    let users = [("a", 500), ("b", 500)];
    of_arrivals(&subject(), &computation(&users, vec![arrivals]))
}

fn codes(arrivals: EventCounts) -> Vec<&'static str> {
    found(arrivals).iter().map(Finding::code).collect()
}

#[test]
fn the_likeliest_cause_depends_on_who_else_sends_events() {
    let cause = |row: EventCounts| match found(row).first() {
        Some(Finding::WithoutExposure(_, cause)) => Some(*cause),
        _ => None,
    };
    let unexposed = |events, users, senders_exposed| EventCounts {
        unexposed: events,
        unexposed_users: users,
        senders_exposed,
        ..buy()
    };
    assert_eq!(cause(buy()), None);
    assert_eq!(cause(unexposed(1_000, 300, 0)), Some(Cause::OtherIds));
    assert_eq!(cause(unexposed(950, 290, 10)), Some(Cause::OtherIds));
    assert_eq!(cause(unexposed(400, 100, 200)), Some(Cause::NeverLogged));
    let late = EventCounts {
        before_exposure: 100,
        ..unexposed(400, 100, 200)
    };
    assert_eq!(cause(late), Some(Cause::LoggedLate));
    assert_eq!(cause(unexposed(49, 20, 280)), None, "below 5 %");
    let few = EventCounts {
        events: 60,
        ..unexposed(19, 19, 41)
    };
    assert_eq!(cause(few), None, "below 20 events");
    let nobody = computation(&[("a", 0), ("b", 0)], vec![unexposed(1_000, 300, 0)]);
    let found = find(&subject(), &nobody);
    assert!(
        matches!(found[..], [Finding::WithoutExposure(_, Cause::NoExposures)]),
        "{found:?}"
    );
}

#[test]
fn events_before_the_exposure_are_found_unless_a_covariate_asks_for_them() {
    let early = |event_type: &str, before_exposure| EventCounts {
        event_type: event_type.into(),
        before_exposure,
        ..buy()
    };
    assert_eq!(codes(early("buy", 150)), ["events_before_exposure"]);
    assert_eq!(codes(early("buy", 149)), [""; 0]);
    assert_eq!(codes(early("spend", 900)), ["events_before_exposure"]);
    assert_eq!(codes(early("earlier", 900)), [""; 0]);
    let users = [("a", 500), ("b", 500)];
    let types = vec![early("refund", 400), early("view", 0), early("visit", 0)];
    let rare = of_arrivals(&subject(), &computation(&users, types));
    assert_eq!(rare, [], "other types do not come early");
}

#[test]
fn events_after_the_window_and_of_unknown_variants_are_found() {
    let late = |after_window| EventCounts {
        after_window,
        ..buy()
    };
    assert_eq!(codes(late(500)), ["events_after_window"]);
    assert_eq!(codes(late(499)), [""; 0]);
    let unknown = EventCounts {
        unknown_variant: 1,
        ..buy()
    };
    assert_eq!(codes(unknown), ["events_of_unknown_variant"]);
}

#[test]
fn names_that_nobody_declared_are_found() {
    let undeclared_of = |users: &[(&str, u64)]| match undeclared(
        subject().definition,
        &computation(users, Vec::new()),
    ) {
        Some(Finding::UndeclaredVariants(found)) => Some((found.users, found.is_all)),
        _ => None,
    };
    assert_eq!(undeclared_of(&[("a", 5), ("b", 5)]), None);
    assert_eq!(undeclared_of(&[("a", 5), ("A", 5)]), Some((5, false)));
    assert_eq!(undeclared_of(&[("A", 5), ("B", 5)]), Some((10, true)));
    let never = |users: u64, came: &[&str]| {
        let row = |event_type: &&str| EventCounts {
            event_type: (*event_type).into(),
            events: 9,
            ..EventCounts::default()
        };
        let rows = came.iter().map(row).collect();
        let found = never_came(&subject(), &computation(&[("a", users)], rows));
        found.iter().map(Finding::code).collect::<Vec<_>>()
    };
    assert_eq!(never(100, &["spends"]), ["events_never_came"]);
    assert_eq!(never(100, &["spend"]), [""; 0]);
    assert_eq!(never(100, &[]), [""; 0]);
    assert_eq!(never(19, &["spends"]), [""; 0]);
}

#[test]
fn an_experiment_with_dates_has_another_likely_cause() {
    let definition = Definition {
        end_at: Some(UnixMicros(1)),
        ..subject().definition.clone()
    };
    let dated = Subject {
        definition: &definition,
        ..subject()
    };
    let row = EventCounts {
        unexposed: 1_000,
        unexposed_users: 300,
        ..buy()
    };
    for (subject, cause) in [
        (subject(), Cause::NoExposures),
        (dated, Cause::OutsideDates),
    ] {
        let found = of_arrivals(&subject, &computation(&[], vec![row.clone()]));
        assert_eq!(found, [Finding::WithoutExposure(row.clone(), cause)]);
    }
}

#[test]
fn one_arm_is_found_when_chance_does_not_leave_the_other_empty() {
    let arm = |users: &[(&str, u64)]| {
        let found = find(&subject(), &computation(users, Vec::new()));
        found.iter().map(Finding::code).collect::<Vec<_>>()
    };
    assert_eq!(arm(&[("a", 10), ("b", 0)]), ["one_arm"]);
    assert_eq!(arm(&[("a", 9), ("b", 0)]), [""; 0], "one in 512");
    assert_eq!(arm(&[("a", 500), ("b", 1)]), [""; 0]);
    assert_eq!(arm(&[("a", 0), ("b", 0)]), [""; 0]);
}

#[test]
fn a_covariate_that_differs_and_a_cap_of_zero_are_found() {
    let row = |variant: &str, total: i128, more: MoreSums| VariantMetric {
        variant: variant.into(),
        metric_name: "adjusted".into(),
        user_count: 1_000,
        event_count: 1_000,
        total,
        conversion_rate: 1.0,
        mean_value: 1.0,
        variance: Some(1.0),
        converted_users: 1_000,
        squared_total: 1_000,
        squared_events: 1_000,
        more: Some(more),
    };
    // Users had 0 or 2 units of the covariate before, half of them each.
    let second = |units: i128| MoreSums::Second {
        total: units * 10_000,
        squared_total: 2 * units * 100_000_000,
        product: 0,
    };
    let found = |of_b: i128| {
        let mut computation = computation(&[("a", 1_000), ("b", 1_000)], Vec::new());
        computation.metrics = vec![row("a", 0, second(1_000)), row("b", 0, second(of_b))];
        find(&subject(), &computation)
    };
    assert_eq!(found(1_080), []);
    let [Finding::CovariateImbalance(imbalance)] = &found(1_200)[..] else {
        panic!("{:?}", found(1_200));
    };
    let [control, treatment] = imbalance.means;
    assert!((control - 1.0).abs() < 1e-12 && (treatment - 1.2).abs() < 1e-12);
    assert!(imbalance.p_value < 1e-4, "{}", imbalance.p_value);

    let capped = |upper: i128| {
        let more = MoreSums::Winsorised {
            total: 0,
            squared_total: 0,
            ends: [None, Some(upper)],
            users: 10,
        };
        let mut computation = computation(&[("a", 1_000), ("b", 1_000)], Vec::new());
        computation.metrics = ["a", "b"].map(|arm| row(arm, 10, more.clone())).into();
        let found = find(&subject(), &computation);
        found.iter().map(Finding::code).collect::<Vec<_>>()
    };
    assert_eq!(capped(0), ["cap_of_zero"]);
    assert_eq!(capped(1), [""; 0]);
}
