//! Uniformity and independence of assignment, over ten million units.
//!
//! Chi-squared statistics are compared with a bound that true independence exceeds with
//! odds below 1 to 10^6; units are numbered, so the outcome is always the same.

use serde_json::json;
use trialog_model::assignment::{Context, Decision, Ruleset};
use trialog_model::bucket::{N_BUCKETS, bucket};

const N_UNITS: u32 = 10_000_000;

/// Above every 999,999 of a million draws of chi-squared with `df` degrees of freedom
/// (Wilson and Hilferty 1931).
fn bound(df: f64) -> f64 {
    let cut = 2.0 / (9.0 * df);
    df * (1.0 - cut + 4.753_424 * cut.sqrt()).powi(3)
}

/// Pearson's chi-squared of the counts against the expected ones.
fn chi_squared(counts: &[u64], expected: impl Fn(usize) -> f64) -> f64 {
    let term = |(at, count): (usize, &u64)| (*count as f64 - expected(at)).powi(2) / expected(at);
    counts.iter().enumerate().map(term).sum()
}

/// The same of a table against the products of its margins.
fn chi_squared_of_table(table: &[[u64; 3]; 3]) -> f64 {
    let total: u64 = table.iter().flatten().sum();
    let row = |at: usize| table[at].iter().sum::<u64>() as f64;
    let column = |at: usize| table.iter().map(|row| row[at]).sum::<u64>() as f64;
    let cells: Vec<u64> = table.iter().flatten().copied().collect();
    chi_squared(&cells, |at| row(at / 3) * column(at % 3) / total as f64)
}

/// Calls `each` with every unit in text, without allocating.
fn units(mut each: impl FnMut(&str)) {
    let mut text = String::new();
    for unit in 0..N_UNITS {
        text.clear();
        std::fmt::Write::write_fmt(&mut text, format_args!("{unit}")).expect("text takes text");
        each(&text);
    }
}

#[test]
fn buckets_are_uniform() {
    let mut counts = vec![0_u64; usize::from(N_BUCKETS)];
    units(|unit| counts[usize::from(bucket(unit, "variant:checkout"))] += 1);
    let expected = f64::from(N_UNITS) / f64::from(N_BUCKETS);
    let statistic = chi_squared(&counts, |_| expected);
    assert!(statistic < bound(9_999.0), "{statistic}");
    // Nor are they more even than chance.
    assert!(statistic > 2.0 * 9_999.0 - bound(9_999.0), "{statistic}");
}

/// The side of a unit: 0 and 1 for the variants, 2 for none.
fn side(decision: Decision<'_>) -> usize {
    match decision.arm().map(|arm| arm.variant().as_str()) {
        Some("a") => 0,
        Some(_) => 1,
        None => 2,
    }
}

/// Two experiments of their own, two of one layer, one of another, and two holdouts.
fn ruleset() -> Ruleset {
    let variants = json!([{"variant": "a", "weight": 0.3}, {"variant": "b", "weight": 0.7}]);
    let in_layer = |id: &str, layer: &str, range: [u16; 2]| json!({"experiment_id": id, "layer": layer, "ranges": [range], "variants": variants});
    let rules = json!({
        "experiments": [
            {"experiment_id": "first", "allocation": 0.4, "variants": variants},
            {"experiment_id": "second", "allocation": 0.7, "variants": variants},
            in_layer("left", "page", [0, 4_000]),
            in_layer("right", "page", [4_000, 9_000]),
            in_layer("other", "menu", [2_000, 8_000]),
        ],
        "holdouts": [{"name": "all", "size": 0.05}, {"name": "one", "size": 0.1, "experiments": ["second"]}],
    });
    Ruleset::new(&serde_json::from_value(rules).expect("rules"))
}

/// The statistic of a table's first two rows and first columns; other cells are empty.
fn chi_squared_of_two_rows(table: &[[u64; 3]; 3], n_columns: usize) -> f64 {
    let cells: Vec<u64> = (0..2)
        .flat_map(|row| table[row][..n_columns].to_vec())
        .collect();
    let total: u64 = cells.iter().sum();
    let row = |at: usize| {
        cells[at * n_columns..(at + 1) * n_columns]
            .iter()
            .sum::<u64>() as f64
    };
    let column = |at: usize| (cells[at] + cells[n_columns + at]) as f64;
    chi_squared(&cells, |at| {
        row(at / n_columns) * column(at % n_columns) / total as f64
    })
}

#[test]
fn experiments_layers_and_holdouts_are_independent_of_each_other() {
    let ruleset = ruleset();
    let ids = ["first", "second", "left", "right", "other"];
    let experiments = ids.map(|id| ruleset.experiment(id).expect("it runs"));
    let [all, one] = ruleset.holdouts() else {
        panic!("two holdouts")
    };
    let context = Context::new();
    // Pairs of experiments in no layer in common.
    let pairs = [(0, 1), (0, 2), (1, 3), (0, 4), (2, 4), (3, 4)];
    let mut tables = [[[0_u64; 3]; 3]; 6];
    let mut holdouts = [[0_u64; 3]; 3];
    let mut against_holdout = [[0_u64; 3]; 3];
    units(|unit| {
        let sides = experiments.map(|rules| side(ruleset.decide(rules, unit, &context)));
        let (held, held_by_one) = (all.holds(unit), one.holds(unit));
        holdouts[usize::from(held)][usize::from(held_by_one)] += 1;
        if held {
            assert_eq!(
                sides, [2; 5],
                "a unit that is held out is in no experiment: {unit}"
            );
            return;
        }
        assert!(
            !held_by_one || sides[1] == 2,
            "nor in one of the scope: {unit}"
        );
        assert!(
            sides[2] == 2 || sides[3] == 2,
            "nor is one in two experiments of a layer: {unit}"
        );
        against_holdout[usize::from(held_by_one)][sides[0]] += 1;
        // Its own holdout alone ties `second` to anything.
        if held_by_one {
            return;
        }
        for ((left, right), table) in pairs.iter().zip(&mut tables) {
            table[sides[*left]][sides[*right]] += 1;
        }
    });
    for ((left, right), table) in pairs.iter().zip(&tables) {
        let statistic = chi_squared_of_table(table);
        assert!(
            statistic < bound(4.0),
            "{} and {}: {statistic} {table:?}",
            ids[*left],
            ids[*right]
        );
    }
    let statistic = chi_squared_of_two_rows(&holdouts, 2);
    assert!(
        statistic < bound(1.0),
        "the holdouts: {statistic} {holdouts:?}"
    );
    let statistic = chi_squared_of_two_rows(&against_holdout, 3);
    assert!(
        statistic < bound(2.0),
        "a holdout and an experiment out of its scope: {statistic}"
    );
}
