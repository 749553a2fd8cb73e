//! Collects the parameters of a comparison beside the arms.

use trialog_model::experiment::{Definition, Plan};
use trialog_stats::Alpha;

use crate::standing::{self, Standing};
use crate::{Choices, Subject};

/// Units of both arms together at which always-valid inference is sharpest where
/// nothing is planned.
const USUAL_TUNING: f64 = 5_000.0;

/// The parameters of a comparison beside the arms.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms<'a> {
    pub(crate) control: Option<&'a str>,
    pub(crate) alpha: Alpha,
    /// The level that the experiment declares: the mixture is fixed by it.
    pub(crate) declared_alpha: Alpha,
    pub(crate) plan: Option<&'a Plan>,
    /// What earlier looks came to, as results are looked at again and again while users come
    /// in; none where the data are whole and looked at once.
    pub(crate) looks: Option<Looks<'a>>,
}

/// The results of earlier looks, and whether a verdict may use them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Looks<'a> {
    pub(crate) subject: Subject<'a>,
    pub(crate) standing: Option<&'a Standing>,
    /// Whether the request asks for the control, the level and the correction that the
    /// planned look was made with.
    pub(crate) is_as_planned: bool,
    /// Whether what results are tested with was changed after the start and nobody has
    /// confirmed it.
    pub(crate) is_unconfirmed: bool,
}

impl<'a> Terms<'a> {
    pub(crate) fn from_definition(
        definition: &'a Definition,
        control: Option<&'a str>,
        choices: &Choices,
        looks: Option<Looks<'a>>,
    ) -> Self {
        let declared_alpha = Alpha::new(definition.alpha).unwrap_or(Alpha::P05);
        Self {
            control,
            alpha: choices.alpha.unwrap_or(declared_alpha),
            declared_alpha,
            plan: definition.plan.as_ref(),
            looks,
        }
    }

    /// Returns the units of both arms together at which always-valid tests are sharpest, and the
    /// source of that number.
    pub(crate) fn tuning(&self) -> (f64, &'static str) {
        match self.plan {
            Some(plan) => (
                2.0 * plan.sample_size_per_variant as f64,
                "the planned users of both arms",
            ),
            None => (
                USUAL_TUNING,
                "nothing is planned, so 5,000 users of both arms are assumed: a plan makes the test sharper where you expect more",
            ),
        }
    }

    /// Returns the level of always-valid tests.
    pub(crate) fn early(&self) -> Alpha {
        standing::early(self.alpha, self.plan.is_some())
    }
}
