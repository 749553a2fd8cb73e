//! The hashes against the reference vectors of `testdata/reference`.

use std::path::Path;

use serde_json::Value as Json;
use trialog_model::assignment::Ruleset;
use trialog_model::bucket::{bucket, bucket_hash};
use trialog_model::interleave::{Impression, interleave};
use trialog_model::murmur3::murmur3_x86_32;
use trialog_model::user_id::user_id_from_text;

/// Cases of a family, of which there are at least `n_least`.
fn cases(family: &str, n_least: usize) -> Vec<Json> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../testdata/reference")
        .join(format!("{family}.json"));
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("cannot read `{}`: {error}", path.display()));
    let file: Json = serde_json::from_str(&text).expect("reference files are JSON");
    let cases = file["cases"]
        .as_array()
        .expect("a reference file lists cases")
        .clone();
    assert!(
        cases.len() >= n_least,
        "`{family}` has only {} cases",
        cases.len()
    );
    assert_eq!(file["count"], cases.len());
    cases
}

fn text<'a>(case: &'a Json, name: &str) -> &'a str {
    case["input"][name]
        .as_str()
        .unwrap_or_else(|| panic!("no text `{name}` in {case}"))
}

#[test]
fn murmur3_agrees_with_mmh3() {
    for case in cases("hash_murmur3", 132) {
        let key = text(&case, "key").as_bytes();
        let seed = u32::try_from(case["input"]["seed"].as_u64().unwrap()).unwrap();
        let hash = murmur3_x86_32(key, seed);
        let want = &case["expected"];
        assert_eq!(want["status"], "ok", "{}", case["id"]);
        assert_eq!(want["hash_u32"], hash, "{}", case["id"]);
        assert_eq!(want["hash_i32"], hash.cast_signed(), "{}", case["id"]);
        assert_eq!(want["utf8_length"], key.len(), "{}", case["id"]);
        assert_eq!(want["bucket_100"], hash % 100, "{}", case["id"]);
        assert_eq!(want["bucket_10000"], hash % 10_000, "{}", case["id"]);
    }
}

#[test]
fn assignment_keys_of_the_hash_family_are_buckets_of_unit_and_salt() {
    let mut n_compared = 0;
    for case in cases("hash_murmur3", 132) {
        let input = &case["input"];
        let (Some(unit), Some(salt)) = (input["user_id"].as_str(), input["experiment_id"].as_str())
        else {
            continue;
        };
        if input["seed"] == 0 {
            assert_eq!(
                case["expected"]["bucket_10000"],
                bucket(unit, salt),
                "{}",
                case["id"]
            );
            n_compared += 1;
        }
    }
    assert!(n_compared > 0);
}

#[test]
fn user_ids_are_integers_or_hashes() {
    for case in cases("user_id", 200) {
        let id = user_id_from_text(text(&case, "user_id"));
        assert_eq!(case["expected"]["user_id"], id, "{}", case["id"]);
    }
}

#[test]
fn buckets_are_where_the_reference_puts_them() {
    for case in cases("assignment_bucket", 200) {
        let (unit, salt) = (text(&case, "unit"), text(&case, "salt"));
        assert_eq!(
            case["expected"]["hash"],
            bucket_hash(unit, salt),
            "{}",
            case["id"]
        );
        assert_eq!(
            case["expected"]["bucket"],
            bucket(unit, salt),
            "{}",
            case["id"]
        );
    }
}

#[test]
fn decisions_agree_with_the_reference() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../testdata/reference/assignment_decision.json");
    let file: Json = serde_json::from_str(&std::fs::read_to_string(path).expect("the vectors"))
        .expect("reference files are JSON");
    let configs: Vec<Ruleset> = (file["configs"].as_array().expect("configurations").iter())
        .map(|config| {
            Ruleset::new(&serde_json::from_value(config.clone()).expect("a configuration"))
        })
        .collect();
    let mut seen = std::collections::BTreeMap::new();
    for case in cases("assignment_decision", 480) {
        let config = case["input"]["config"].as_u64().expect("a configuration") as usize;
        let ruleset = &configs[config];
        let context = case["input"]["context"].as_object().expect("a context");
        for rules in ruleset.experiments() {
            let decision = ruleset.decide(rules, text(&case, "unit"), context);
            let expected = &case["expected"][rules.experiment_id().as_str()];
            assert_eq!(expected["decision"], decision.as_str(), "{case}");
            let variant = decision.arm().map(|arm| arm.variant().as_str());
            let variant = variant.map_or(Json::Null, Json::from);
            assert_eq!(expected["variant"], variant, "{case}");
            *seen.entry(decision.as_str()).or_insert(0) += 1;
        }
    }
    assert_eq!(seen.len(), 4, "every decision occurs: {seen:?}");
}

#[test]
fn interleaved_lists_agree_with_the_reference() {
    fn texts(list: &Json) -> Vec<&str> {
        let items = list.as_array().expect("a list").iter();
        items.map(|item| item.as_str().expect("text")).collect()
    }
    for case in cases("interleave", 37) {
        let (input, want) = (&case["input"], &case["expected"]);
        let impression = Impression {
            unit: text(&case, "unit"),
            salt: text(&case, "salt"),
            query: text(&case, "query"),
        };
        let limit = input["limit"].as_u64().map(|limit| limit as usize);
        let (a, b) = (texts(&input["ranking_a"]), texts(&input["ranking_b"]));
        let list = interleave(&impression, &a, &b, limit);
        let teams: Vec<&str> = list.teams.iter().map(|team| team.as_str()).collect();
        assert_eq!(texts(&want["items"]), list.items, "{}", case["id"]);
        assert_eq!(texts(&want["teams"]), teams, "{}", case["id"]);
        assert_eq!(want["flips"], list.tosses, "{}", case["id"]);
        assert_eq!(want["status"], "ok", "{}", case["id"]);
    }
}
