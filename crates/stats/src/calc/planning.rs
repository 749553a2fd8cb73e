//! Defines the families about power, sample size and minimum detectable effect.

use serde_json::{Value, json};

use super::fields::Fields;
use super::output::status;
use super::{CalcError, Family};
use crate::power::{Design, Metric, RateTest};

pub(super) const POWER: Family = Family {
    name: "power",
    summary: "planning: sample size, power or minimum detectable effect for means and rates",
    example: r#"{"method": "z_prop_pooled", "solve_for": "n", "alpha": 0.05, "ratio": 1, "p_control": 0.1, "effect": 0.01, "power": 0.8}"#,
    compute: |input| {
        let fields = Fields::new(
            input,
            &[
                "method",
                "solve_for",
                "alpha",
                "ratio",
                "sd",
                "p_control",
                "effect",
                "power",
                "n_control",
                "mean_control",
            ],
        )?;
        let metric = metric(&fields)?;
        let ratio = fields.optional("ratio")?.unwrap_or(1.0);
        let design = fields.check(Design::new(metric, fields.alpha()?, ratio))?;
        let solve = fields.word(
            "solve_for",
            &[
                ("n", n as fn(&Fields<'_>, &Design) -> _),
                ("power", power),
                ("mde", mde),
            ],
        )?;
        solve(&fields, &design)
    },
};

fn metric(fields: &Fields<'_>) -> Result<Metric, CalcError> {
    let mean = |is_normal| move |sd| Metric::Mean { sd, is_normal };
    let rate = |test| move |control| Metric::Rate { control, test };
    match fields.text("method")? {
        "t_means" => fields.number("sd").map(mean(false)),
        "z_means" => fields.number("sd").map(mean(true)),
        "z_prop_arcsine" => fields.number("p_control").map(rate(RateTest::Arcsine)),
        "z_prop_pooled" => fields.number("p_control").map(rate(RateTest::Pooled)),
        "z_prop_unpooled" => fields.number("p_control").map(rate(RateTest::Unpooled)),
        _ => Err(fields.fault(
            "method",
            "is not known: use t_means, z_means, z_prop_arcsine, z_prop_pooled or z_prop_unpooled",
        )),
    }
}

fn n(fields: &Fields<'_>, design: &Design) -> Result<Value, CalcError> {
    let (effect, power) = (fields.number("effect")?, fields.number("power")?);
    let size = fields.check(design.sample_size(effect, power))?;
    Ok(json!({
        "status": status(size.map(|size| size.n_control)),
        "n_control": size.map(|size| size.n_control),
        "n_control_ceil": size.map(|size| size.n_control_ceil),
        "n_treatment_ceil": size.map(|size| size.n_treatment_ceil),
    }))
}

fn power(fields: &Fields<'_>, design: &Design) -> Result<Value, CalcError> {
    let (effect, n) = (fields.number("effect")?, fields.number("n_control")?);
    let power = fields.check(design.power(effect, n))?;
    Ok(json!({"status": "ok", "power": power}))
}

fn mde(fields: &Fields<'_>, design: &Design) -> Result<Value, CalcError> {
    let (n, power) = (fields.number("n_control")?, fields.number("power")?);
    let mde = fields.check(design.mde(n, power))?;
    let control = match fields.optional("p_control")? {
        Some(rate) => Some(rate),
        None => fields.optional("mean_control")?,
    };
    let relative = mde.zip(control).map(|(mde, control)| mde / control);
    Ok(json!({
        "status": status(mde),
        "mde_absolute": mde,
        "mde_relative": relative.filter(|relative| relative.is_finite()),
    }))
}
