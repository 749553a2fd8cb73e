//! Tests the laws of assignment.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::bucket::N_BUCKETS;

fn ruleset(experiments: &Value, holdouts: &Value) -> Ruleset {
    let configuration = json!({ "experiments": experiments, "holdouts": holdouts });
    Ruleset::new(&serde_json::from_value(configuration).unwrap())
}

fn gate(allocation: f64, weights: &[f64]) -> Value {
    let variant =
        |(at, weight): (usize, &f64)| json!({"variant": format!("v{at}"), "weight": weight});
    let variants: Vec<Value> = weights.iter().enumerate().map(variant).collect();
    json!({"experiment_id": "gate", "allocation": allocation, "variants": variants})
}

fn in_layer(id: &str, range: [u16; 2]) -> Value {
    json!({"experiment_id": id, "layer": "page", "ranges": [range], "variants": [{"variant": "a"}]})
}

/// The variant of `unit` in the experiment `id`.
fn variant(ruleset: &Ruleset, id: &str, unit: &str) -> Option<String> {
    let decision = ruleset.decide(ruleset.experiment(id).unwrap(), unit, &Context::new());
    decision.arm().map(|arm| arm.variant().to_string())
}

proptest! {
    #[test]
    fn growing_an_allocation_moves_nobody_to_another_variant(
        unit in ".*", from in 0.0..1.0f64, by in 0.0..1.0f64,
    ) {
        let variant_at = |allocation: f64| {
            variant(&ruleset(&json!([gate(allocation, &[1.0, 2.0, 1.0])]), &json!([])), "gate", &unit)
        };
        if let Some(small) = variant_at(from) {
            prop_assert_eq!(variant_at((from + by).min(1.0)), Some(small));
        }
    }

    #[test]
    fn every_enrolled_unit_has_a_variant(
        unit in ".*", all in prop::collection::vec(1e-6..1e6f64, 1..20),
    ) {
        let ruleset = ruleset(&json!([gate(1.0, &all)]), &json!([]));
        prop_assert!(variant(&ruleset, "gate", &unit).is_some());
    }

    #[test]
    fn a_variant_of_weight_0_is_nobodys_and_changes_no_other(
        unit in ".*", weights in prop::collection::vec(0.1..5.0f64, 1..5), at in any::<prop::sample::Index>(),
    ) {
        let variant_with = |weights: &[f64]| {
            variant(&ruleset(&json!([gate(1.0, weights)]), &json!([])), "gate", &unit).unwrap()
        };
        let before: usize = variant_with(&weights)[1..].parse().unwrap();
        let mut with = weights.clone();
        let at = at.index(weights.len() + 1);
        with.insert(at, 0.0);
        let after = before + usize::from(before >= at);
        prop_assert_eq!(variant_with(&with), format!("v{after}"));
    }

    #[test]
    fn no_unit_is_in_two_experiments_of_a_layer(unit in ".*", cut in 0..=N_BUCKETS) {
        let both = json!([in_layer("left", [0, cut]), in_layer("right", [cut, N_BUCKETS])]);
        let ruleset = ruleset(&both, &json!([]));
        let is_in = |id| variant(&ruleset, id, &unit).is_some();
        prop_assert!(is_in("left") != is_in("right"));
    }

    #[test]
    fn no_held_out_unit_is_in_any_experiment_of_the_scope(unit in ".*", size in 0.0..1.0f64) {
        let other = json!({"experiment_id": "other", "variants": [{"variant": "a"}]});
        let holdout = json!([{"name": "h", "size": size, "experiments": ["gate"]}]);
        let ruleset = ruleset(&json!([gate(1.0, &[1.0]), other]), &holdout);
        let held = ruleset.holdouts()[0].holds(&unit);
        prop_assert_eq!(variant(&ruleset, "gate", &unit).is_none(), held);
        prop_assert!(variant(&ruleset, "other", &unit).is_some());
        prop_assert_eq!(ruleset.holdouts()[0].variant(&unit).as_str() == Holdout::HELD_OUT, held);
    }

    #[test]
    fn the_path_ends_with_the_decision(unit in ".*", platform in "ios|web", size in 0.0..0.5f64) {
        let mut experiment = gate(0.5, &[1.0, 1.0]);
        experiment["targeting"] = json!([{"key": "platform", "op": "eq", "value": "ios"}]);
        let ruleset = ruleset(&json!([experiment]), &json!([{"name": "h", "size": size}]));
        let context = json!({"platform": platform});
        let context = context.as_object().unwrap();
        let rules = ruleset.experiment("gate").unwrap();
        let (decision, steps) = ruleset.explain(rules, &unit, context);
        prop_assert_eq!(decision, ruleset.decide(rules, &unit, context));
        let agrees = match (decision, steps.last().unwrap()) {
            (Decision::HeldOut(_), Step::Holdout { held_out, .. }) => *held_out,
            (Decision::NotEnrolled, Step::Enrolment { enrolled, .. }) => !enrolled,
            (Decision::NotTargeted, Step::Targeting { holds, .. }) => !holds,
            (Decision::Assigned(arm), Step::Variant { variant, .. }) => arm.variant().as_str() == variant,
            _ => false,
        };
        prop_assert!(agrees, "{:?} {:?}", decision, steps);
    }
}

#[test]
fn a_forced_unit_gets_its_variant_past_every_rule() {
    let mut experiment = gate(0.0, &[1.0, 1.0]);
    experiment["forced"] =
        json!([{"user_id": "qa-1", "variant": "v1"}, {"user_id": "qa-2", "variant": "gone"}]);
    let ruleset = ruleset(&json!([experiment]), &json!([{"name": "all", "size": 1.0}]));
    let rules = ruleset.experiment("gate").unwrap();
    let (decision, steps) = ruleset.explain(rules, "qa-1", &Context::new());
    assert_eq!(
        (decision.as_str(), decision.arm()),
        ("forced", rules.arm("v1"))
    );
    assert_eq!(steps[0].to_string(), "forced: the unit is listed with `v1`");
    let other = ruleset.decide(rules, "qa-2", &Context::new());
    assert_eq!(other, Decision::HeldOut(&ruleset.holdouts()[0]));
}

#[test]
fn an_event_counts_where_its_type_is_listed() {
    let mut experiment = gate(1.0, &[1.0]);
    experiment["event_types"] = json!(["purchase"]);
    let holdouts = json!([{"name": "h", "size": 0.0, "event_types": ["purchase", "visit"]}]);
    let ruleset = ruleset(&json!([experiment]), &holdouts);
    let places = |event_type: &str| -> Vec<String> {
        let context = Context::new();
        let counting = ruleset.counting(event_type, "1", &context);
        counting.map(ToString::to_string).collect()
    };
    assert_eq!(places("purchase"), ["gate", "holdout:h"]);
    assert_eq!(places("visit"), ["holdout:h"]);
    assert_eq!(places("other"), [""; 0]);
    assert_eq!(ruleset.event_type("visit").unwrap().as_str(), "visit");
}

#[test]
fn an_evaluation_exposes_to_the_variant_and_to_each_side_of_a_holdout() {
    let mut experiment = gate(1.0, &[1.0]);
    experiment["forced"] = json!([{"user_id": "qa", "variant": "v0"}]);
    let all = json!([{"name": "none", "size": 0.0}, {"name": "all", "size": 1.0}]);
    let ruleset = ruleset(&json!([experiment]), &all);
    let rules = ruleset.experiment("gate").unwrap();
    let seen = |unit: &str| -> Vec<(String, String, bool)> {
        let decision = ruleset.decide(rules, unit, &Context::new());
        let exposures = ruleset.exposures(rules, unit, decision);
        let text = |exposure: Exposure<'_>| {
            (
                exposure.experiment_id.to_string(),
                exposure.variant.to_string(),
                exposure.forced,
            )
        };
        exposures.map(text).collect()
    };
    let exposure = |id: &str, variant: &str, forced| (id.to_owned(), variant.to_owned(), forced);
    assert_eq!(
        seen("1"),
        [
            exposure("holdout:none", "in_scope", false),
            exposure("holdout:all", "held_out", false)
        ]
    );
    assert_eq!(seen("qa"), [exposure("gate", "v0", true)]);
}

fn shipped(experiment: &Value, holdouts: &Value) -> Ruleset {
    let configuration = json!({ "experiments": [gate(1.0, &[1.0])], "holdouts": holdouts, "shipped": [experiment] });
    Ruleset::new(&serde_json::from_value(configuration).unwrap())
}

#[test]
fn a_shipped_variant_goes_to_every_unit_but_those_of_a_holdout_and_of_other_targets() {
    let ended = json!({
        "experiment_id": "ended", "ship": "b",
        "targeting": [{"key": "platform", "op": "eq", "value": "ios"}],
        "variants": [{"variant": "a"}, {"variant": "b", "weight": 0.0, "value": 7}],
        "forced": [{"user_id": "qa", "variant": "a"}],
    });
    let ruleset = shipped(&ended, &json!([{"name": "h", "size": 0.3}]));
    let rules = ruleset.experiment("ended").unwrap();
    let (ios, web) = (json!({"platform": "ios"}), json!({"platform": "web"}));
    let decide = |unit: &str, context: &Value| {
        let decision = ruleset.decide(rules, unit, context.as_object().unwrap());
        let arm = decision.arm().map(|arm| arm.variant().to_string());
        (decision.as_str(), arm)
    };
    let b = Some("b".to_owned());
    for unit in 0..100 {
        let unit = unit.to_string();
        let expected = match ruleset.holdouts()[0].holds(&unit) {
            true => [("held_out", None), ("held_out", None)],
            false => [("shipped", b.clone()), ("not_targeted", None)],
        };
        assert_eq!([decide(&unit, &ios), decide(&unit, &web)], expected);
    }
    assert_eq!(decide("qa", &web), ("forced", Some("a".to_owned())));
    let ids = ruleset.experiments().iter().map(Rules::experiment_id);
    let ids: Vec<_> = ids.map(ExperimentId::as_str).collect();
    assert_eq!(ids, ["gate", "ended"]);
    assert!(rules.is_shipped() && !ruleset.experiments()[0].is_shipped());
    let let_in = (0..).map(|unit| unit.to_string());
    let let_in = { let_in }.find(|unit| !ruleset.holdouts()[0].holds(unit));
    let (_, steps) = ruleset.explain(rules, &let_in.unwrap(), ios.as_object().unwrap());
    let last = steps.last().unwrap().to_string();
    assert_eq!(
        last,
        "shipped: the experiment ended with the decision for `b`"
    );
}

#[test]
fn a_shipped_variant_exposes_to_holdouts_alone() {
    let ended = json!({
        "experiment_id": "ended", "ship": "b", "variants": [{"variant": "a"}, {"variant": "b"}],
        "forced": [{"user_id": "qa", "variant": "a"}],
    });
    let ruleset = shipped(&ended, &json!([{"name": "h", "size": 0.5}]));
    let rules = ruleset.experiment("ended").unwrap();
    for unit in (0..20).map(|unit| unit.to_string()) {
        let decision = ruleset.decide(rules, &unit, &Context::new());
        let exposures = ruleset.exposures(rules, &unit, decision);
        let seen: Vec<_> = exposures.map(|seen| seen.experiment_id.as_str()).collect();
        assert_eq!(seen, ["holdout:h"]);
    }
    let forced = ruleset.decide(rules, "qa", &Context::new());
    assert_eq!(ruleset.exposures(rules, "qa", forced).count(), 0);
}

#[test]
fn a_reader_leaves_out_what_it_cannot_read_of_shipped_variants() {
    let text = br#"{"experiments": [], "shipped": [
        {"experiment_id": "x", "ship": "a", "variants": [{"variant": "a"}]},
        {"experiment_id": "gone", "ship": "c", "variants": [{"variant": "a"}]},
        {"experiment_id": "later", "ship": {"share": 0.5}, "variants": []}]}"#;
    let read = Configuration::read(text).unwrap();
    assert_eq!(read.left_out.len(), 1);
    let ruleset = Ruleset::new(&read.configuration);
    assert!(ruleset.experiment("x").is_some());
    assert!(ruleset.experiment("gone").is_none());
}
