//! Runs `trialog power`: sample size, minimum detectable effect or power of a planned experiment,
//! and how long it takes.

use std::process::ExitCode;

use anyhow::{Context, bail};
use serde::Serialize;
use trialog_model::fraction::Change;
use trialog_stats::Alpha;
use trialog_stats::power::{Design, Metric, RateTest};

use crate::cli::{Format, PowerArgs};
use crate::show::{Table, number};

/// Weeks for which effects are shown where only the traffic is known.
const WEEKS: [u32; 6] = [1, 2, 3, 4, 6, 8];

/// A planned experiment.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Plan {
    /// The level of one comparison.
    alpha: f64,
    power: f64,
    /// Absolute; null where no effect can be found with that power.
    mde: Option<f64>,
    /// As a fraction of the control; null where its mean is not known.
    mde_relative: Option<f64>,
    users_control: u64,
    users_per_treatment: u64,
    users: u64,
    /// Null without daily users.
    days: Option<f64>,
}

pub(crate) fn run(args: &PowerArgs) -> anyhow::Result<ExitCode> {
    let planner = Planner::new(args)?;
    let plans = planner.plans()?;
    match (args.format, plans.as_slice()) {
        (Format::Json, [plan]) => println!("{}", serde_json::to_string_pretty(plan)?),
        (Format::Json, plans) => println!("{}", serde_json::to_string_pretty(plans)?),
        (Format::Table, plans) => {
            if let Some(explained) = planner.explained()? {
                println!("{explained}");
            }
            print!("{}", table(plans));
        }
    }
    Ok(ExitCode::SUCCESS)
}

struct Planner<'a> {
    args: &'a PowerArgs,
    design: Design,
    alpha: f64,
    /// The control's mean or rate.
    baseline: Option<f64>,
}

impl<'a> Planner<'a> {
    fn new(args: &'a PowerArgs) -> anyhow::Result<Self> {
        if args.treatments == 0 {
            bail!("--treatments: there is at least one");
        }
        if args
            .daily_users
            .is_some_and(|daily| !(daily > 0.0 && daily.is_finite()))
        {
            bail!("--daily-users: give a number above 0");
        }
        if args.rate.is_some_and(|rate| !(rate > 0.0 && rate < 1.0)) {
            bail!("--rate is the control's conversion rate, between 0 and 1, such as 0.1 or 10%");
        }
        if args.metrics == 0 {
            bail!("--metrics: there is at least one");
        }
        // The other fifth is for looks before and after it.
        let at_once = if args.planned_look {
            args.alpha * 4.0 / 5.0
        } else {
            args.alpha
        };
        let alpha = at_once / (f64::from(args.treatments) * f64::from(args.metrics));
        let metric = match (args.rate, args.sd) {
            (Some(control), _) => Metric::Rate {
                control,
                test: RateTest::Pooled,
            },
            (None, Some(sd)) => Metric::Mean {
                sd,
                is_normal: false,
            },
            (None, None) => bail!("give --rate for a conversion, or --sd for a mean"),
        };
        Ok(Self {
            args,
            design: Design::new(metric, Alpha::new(alpha)?, args.ratio)?,
            alpha,
            baseline: args.rate.or(args.mean),
        })
    }

    fn plans(&self) -> anyhow::Result<Vec<Plan>> {
        let power = self.args.power.unwrap_or(0.8);
        Ok(match (self.effect()?, self.args.users) {
            (Some(_), Some(_)) if self.args.power.is_some() => {
                bail!("of --users, --mde and --power give two: the third is computed")
            }
            (Some(effect), Some(users)) => {
                let power = self.design.power(effect, users as f64)?;
                // At the worst no two tests miss at once.
                let of_all = 1.0 - (1.0 - power) * self.n_to_hold();
                vec![self.plan(of_all.max(0.0), Some(effect), users)]
            }
            (Some(effect), None) => vec![self.for_effect(effect, power)?],
            (None, Some(users)) => vec![self.for_users(users, power)?],
            (None, None) => self.by_weeks(power)?,
        })
    }

    /// Returns the requested effect as an absolute number.
    fn effect(&self) -> anyhow::Result<Option<f64>> {
        Ok(match self.args.mde {
            None => None,
            Some(Change::Absolute(effect)) => Some(effect),
            Some(Change::Relative(share)) => {
                let context = "--mde in percent is relative to the control: give --mean, too";
                Some(share * self.baseline.context(context)?)
            }
        })
    }

    /// Explains the requested effect to people.
    fn explained(&self) -> anyhow::Result<Option<String>> {
        let (Some(mde), Some(effect)) = (self.args.mde, self.effect()?) else {
            return Ok(None);
        };
        let is = match mde {
            Change::Absolute(_) => "absolute",
            Change::Relative(_) => "relative",
        };
        let Some(baseline) = self.baseline else {
            return Ok(Some(format!(
                "the effect is {is}: {}",
                number(Some(effect))
            )));
        };
        let shown = |value: f64| match self.args.rate {
            Some(_) => format!("{} %", number(Some(value * 100.0))),
            None => number(Some(value)),
        };
        Ok(Some(format!(
            "the effect is {is}: {} instead of {}",
            shown(baseline + effect),
            shown(baseline)
        )))
    }

    fn for_effect(&self, effect: f64, power: f64) -> anyhow::Result<Plan> {
        let size = self.design.sample_size(effect, self.of_a_test(power))?;
        let size = size.context("no number of users finds this effect with this power")?;
        Ok(self.plan(power, Some(effect), size.n_control_ceil))
    }

    fn for_users(&self, users: u64, power: f64) -> anyhow::Result<Plan> {
        let mde = self.design.mde(users as f64, self.of_a_test(power))?;
        Ok(self.plan(power, mde, users))
    }

    /// Tests that have to come out right: the metric's and those of the guardrails.
    fn n_to_hold(&self) -> f64 {
        f64::from(self.args.guardrails) + 1.0
    }

    /// The power of one test, where the experiment's is `power`.
    fn of_a_test(&self, power: f64) -> f64 {
        1.0 - (1.0 - power) / self.n_to_hold()
    }

    fn by_weeks(&self, power: f64) -> anyhow::Result<Vec<Plan>> {
        let daily = self.args.daily_users.context(
            "give --mde for the users that are needed, --users for the effect that they find, or --daily-users for the effect by weeks",
        )?;
        let share = 1.0 / (1.0 + self.args.ratio * f64::from(self.args.treatments));
        let plan = |weeks: &u32| {
            let users = (daily * f64::from(*weeks) * 7.0 * share).floor();
            self.for_users(users as u64, power)
        };
        WEEKS.iter().map(plan).collect()
    }

    fn plan(&self, power: f64, mde: Option<f64>, users_control: u64) -> Plan {
        let users_per_treatment = (users_control as f64 * self.args.ratio).ceil() as u64;
        let treatments = u64::from(self.args.treatments);
        let users = users_control.saturating_add(users_per_treatment.saturating_mul(treatments));
        let baseline = self.baseline.filter(|mean| *mean != 0.0);
        Plan {
            alpha: self.alpha,
            power,
            mde,
            mde_relative: mde
                .zip(baseline)
                .map(|(mde, baseline)| mde / baseline.abs()),
            users_control,
            users_per_treatment,
            users,
            days: self.args.daily_users.map(|daily| users as f64 / daily),
        }
    }
}

fn table(plans: &[Plan]) -> String {
    let mut table = Table::new(&[
        "days",
        "users",
        "of the control",
        "of a treatment",
        "absolute effect",
        "relative effect",
        "power",
        "alpha",
    ]);
    for plan in plans {
        let relative = plan
            .mde_relative
            .map(|effect| format!("{:+.2} %", effect * 100.0));
        table.row([
            plan.days
                .map_or("-".to_owned(), |days| format!("{days:.1}")),
            plan.users.to_string(),
            plan.users_control.to_string(),
            plan.users_per_treatment.to_string(),
            number(plan.mde),
            relative.unwrap_or("-".to_owned()),
            format!("{:.1} %", plan.power * 100.0),
            number(Some(plan.alpha)),
        ]);
    }
    table.text()
}
