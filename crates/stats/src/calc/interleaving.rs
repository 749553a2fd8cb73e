//! Families about interleaved lists.

use serde_json::json;

use super::Family;
use super::fields::Fields;
use super::output::{interval, status};
use crate::InterleavingPreference;

pub(super) const PREFERENCE: Family = Family {
    name: "interleaving_preference",
    summary: "which of two rankings users prefer on interleaved lists: exact sign test over users",
    example: r#"{"credits": [[1, 2], [0, 1], [2, 1], [0, 3], [1, 1], [0, 0]], "alpha": 0.05}"#,
    compute: |input| {
        let fields = Fields::new(input, &["credits", "alpha"])?;
        let alpha = fields.alpha()?;
        let mut preference = InterleavingPreference::default();
        for (index, credits) in fields.table("credits")?.into_iter().enumerate() {
            let [a, b] = credits[..] else {
                let place = format!("credits[{index}]");
                return Err(fields.fault(&place, "must have a count for each team"));
            };
            preference.push(a, b);
        }
        let test = preference.delta_test();
        let sequential = fields.check(preference.sequential())?.map(
            |look| json!({"log_bayes_factor": look.log_bayes_factor, "p_value": look.p_value}),
        );
        Ok(json!({
            "status": status(preference.sign_test_p_value()),
            "users": preference.users(),
            "active": preference.active(),
            "wins_a": preference.wins_a(),
            "wins_b": preference.wins_b(),
            "ties": preference.ties(),
            "preference": preference.preference(),
            "share_b": preference.share_b(),
            "share_b_ci": interval(preference.share_interval(alpha)),
            "sign_test_p_value": preference.sign_test_p_value(),
            "mean_delta": preference.mean_delta(),
            "se": test.map(|test| test.standard_error),
            "t": test.map(|test| test.t),
            "df": test.map(|test| test.df),
            "p_value": test.map(|test| test.p_value),
            "ci": interval(test.and_then(|test| test.interval(alpha))),
            "sequential": sequential,
        }))
    },
};
