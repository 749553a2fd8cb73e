//! Families about holdouts.

use serde_json::json;

use super::fields::Fields;
use super::output::{interval, status};
use super::{CalcError, Family};
use crate::{Claim, EffectPrior, holdout_accounting};

pub(super) const ACCOUNTING: Family = Family {
    name: "holdout_accounting",
    summary: "users in scope against those held out, and that against the sum of what shipped changes claimed",
    example: r#"{"held_out": {"n": 50000, "mean": 10.0, "var": 400.0}, "in_scope": {"n": 950000, "mean": 10.1, "var": 410.0}, "claims": [{"effect": 0.4, "se": 0.1, "share": 1.0}, {"effect": 0.5, "se": 0.12, "share": 0.8}], "prior": {"mean": 0.0, "variance": 0.01}, "alpha": 0.05}"#,
    compute: |input| {
        let known = ["held_out", "in_scope", "claims", "prior", "alpha"];
        let fields = Fields::new(input, &known)?;
        let alpha = fields.alpha()?;
        let held_out = fields.optional_summary("held_out")?;
        let in_scope = fields.optional_summary("in_scope")?;
        let (claims, prior) = (claims(&fields)?, prior(&fields)?);
        let found = holdout_accounting(
            held_out.as_ref(),
            in_scope.as_ref(),
            &claims,
            prior.as_ref(),
        );
        let found = fields.check(found)?;
        let mean = |side: &str| fields.object(side, &["n", "mean", "var"])?.optional("mean");
        // The means that were given, also those of sides without users.
        let difference = mean("in_scope")?.zip(mean("held_out")?).map(|(b, a)| b - a);
        Ok(json!({
            "status": status(found.standard_error),
            "diff": difference,
            "se": found.standard_error,
            "ci": interval(found.interval(alpha)),
            "lift": found.lift,
            "claimed": found.claimed,
            "claimed_se": found.claimed_standard_error,
            "claimed_shrunk": found.claimed_shrunk,
            "gap": found.gap.map(|test| test.gap),
            "gap_se": found.gap.map(|test| test.standard_error),
            "gap_z": found.gap.map(|test| test.z),
            "gap_p_value": found.gap.map(|test| test.p_value),
            "kept": found.kept,
        }))
    },
};

fn claims(fields: &Fields<'_>) -> Result<Vec<Claim>, CalcError> {
    let claims = fields.objects("claims", &["effect", "se", "share"])?;
    let read = |given: &Fields<'_>| {
        let claim = Claim {
            effect: given.number("effect")?,
            standard_error: given.number("se")?,
            share: given.number("share")?,
        };
        given.check(claim.check())?;
        Ok(claim)
    };
    claims.iter().map(read).collect()
}

fn prior(fields: &Fields<'_>) -> Result<Option<EffectPrior>, CalcError> {
    if !fields.has("prior") {
        return Ok(None);
    }
    let given = fields.object("prior", &["mean", "variance"])?;
    let prior = EffectPrior {
        mean: given.number("mean")?,
        variance: given.number("variance")?,
    };
    given.check(prior.check())?;
    Ok(Some(prior))
}
