//! Defines the families that adjust p-values.

use serde_json::{Value, json};

use super::Family;
use super::fields::Fields;
use crate::{Correction, adjust};

pub(super) const MULTIPLE_COMPARISONS: Family = Family {
    name: "multiple_comparisons",
    summary: "many p-values at once: Bonferroni, Holm, Benjamini-Hochberg and Benjamini-Yekutieli",
    example: r#"{"p_values": [0.001, 0.02, 0.04, 0.3], "alpha": 0.05}"#,
    compute: |input| {
        let fields = Fields::new(input, &["p_values", "alpha"])?;
        let p_values = fields.numbers("p_values")?;
        let alpha = fields.alpha()?.get();
        let adjusted_by = |correction| -> Result<Value, _> {
            let adjusted = fields.check(adjust(correction, &p_values))?;
            let rejected: Vec<bool> = adjusted.iter().map(|p| *p <= alpha).collect();
            Ok(json!({"adjusted": adjusted, "rejected": rejected}))
        };
        Ok(json!({
            "status": "ok",
            "bonferroni": adjusted_by(Correction::Bonferroni)?,
            "holm": adjusted_by(Correction::Holm)?,
            "bh": adjusted_by(Correction::BenjaminiHochberg)?,
            "by": adjusted_by(Correction::BenjaminiYekutieli)?,
        }))
    },
};
