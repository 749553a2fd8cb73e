//! Words the warnings of a report: what is wrong, and what to do about it.

use std::collections::BTreeMap;

use super::findings::{Cause, Finding, Imbalance, OneArm, Undeclared};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trialog_model::nearest::there_are;
use trialog_model::published::EventCounts;

/// The severity of a warning.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[schemars(inline)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The numbers cannot be trusted until the cause is fixed.
    Error,
    /// Something is left out or looks wrong.
    #[default]
    Warning,
    /// Worth knowing, and usual in many experiments.
    Info,
}

impl Severity {
    /// Returns the name in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Info => "info",
        }
    }
}

/// A warning to the reader of a report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Warning {
    /// How severe the warning is.
    #[serde(default)]
    pub severity: Severity,
    /// The kind of the warning, for programs.
    #[schemars(regex(pattern = "^[a-z_]+$"))]
    pub code: String,
    /// What is the case, for people.
    pub message: String,
    /// What to do now, for people; null where nothing has to be done.
    #[serde(default)]
    pub action: Option<String>,
    /// The event type that the warning is about; null where it is about none.
    #[serde(default)]
    pub event_type: Option<String>,
    /// The metric that the warning is about; null where it is about none.
    #[serde(default)]
    pub metric: Option<String>,
    /// The numbers in the message, by name.
    #[serde(default)]
    pub numbers: BTreeMap<String, f64>,
}

impl Warning {
    pub(super) fn new(severity: Severity, code: &str, message: impl Into<String>) -> Self {
        Self {
            severity,
            code: code.to_owned(),
            message: message.into(),
            action: None,
            event_type: None,
            metric: None,
            numbers: BTreeMap::new(),
        }
    }

    pub(super) fn action(mut self, action: impl Into<String>) -> Self {
        self.action = Some(action.into());
        self
    }

    fn event_type(mut self, event_type: &str) -> Self {
        self.event_type = Some(event_type.to_owned());
        self
    }

    pub(super) fn metric(mut self, metric: &str) -> Self {
        self.metric = Some(metric.to_owned());
        self
    }

    pub(super) fn number(mut self, name: &str, number: f64) -> Self {
        self.numbers.insert(name.to_owned(), number);
        self
    }

    pub(super) fn count(self, name: &str, count: u64) -> Self {
        self.number(name, count as f64)
    }

    /// Returns the message and the action as one text.
    pub fn text(&self) -> String {
        match &self.action {
            Some(action) => format!("{}: {action}", self.message),
            None => self.message.clone(),
        }
    }
}

/// Words the warning about `finding`.
pub(super) fn of_finding(finding: &Finding) -> Warning {
    let code = finding.code();
    match finding {
        Finding::WithoutExposure(row, cause) => without_exposure(code, row, *cause),
        Finding::BeforeExposure(row) => before_exposure(code, row),
        Finding::AfterWindow(row) => after_window(code, row),
        Finding::UnknownVariant(row) => unknown_variant(code, row),
        Finding::OneArm(found) => one_arm(code, found),
        Finding::CovariateImbalance(found) => covariate_imbalance(code, found),
        Finding::CapOfZero { metric } => cap_of_zero(code, metric),
        Finding::UndeclaredVariants(found) => undeclared(code, found),
        Finding::NeverCame { event_type, others } => never_came(code, event_type, others),
    }
}

fn without_exposure(code: &str, row: &EventCounts, cause: Cause) -> Warning {
    let EventCounts {
        event_type,
        events,
        unexposed,
        unexposed_users,
        ..
    } = row;
    let is_all = unexposed == events;
    let message = if is_all {
        format!(
            "{} {} of {}, none from an exposed user",
            grouped(*events),
            of_type(*events, event_type),
            users(*unexposed_users)
        )
    } else {
        format!(
            "{} of {} {} ({}) are from {} without an exposure and count nowhere",
            grouped(*unexposed),
            grouped(*events),
            of_type(*events, event_type),
            percent(*unexposed, *events),
            users(*unexposed_users)
        )
    };
    // A handful of users who are not enrolled is no broken integration.
    let severity = if is_all && *events >= 10 {
        Severity::Error
    } else {
        Severity::Warning
    };
    Warning::new(severity, code, message)
        .action(remedy(row, cause))
        .event_type(event_type)
        .count("events", *events)
        .count("unexposed", *unexposed)
        .count("unexposed_users", *unexposed_users)
        .count("senders_exposed", row.senders_exposed)
        .count("before_exposure", row.before_exposure)
}

/// Names the likeliest cause and its remedy.
fn remedy(row: &EventCounts, cause: Cause) -> String {
    let such = such_as(&row.unexposed_sample);
    match cause {
        Cause::NoExposures => format!(
            "no exposure came in, so log an assignment event when a user sees a variant, under the id that these events carry{such}"
        ),
        Cause::OutsideDates => format!(
            "no exposure lies between `start_at` and `end_at` of the experiment, so change these dates, or log an assignment event when a user sees a variant{such}"
        ),
        Cause::OtherIds => format!(
            "the events most likely carry another kind of id than the exposures{such}; check which id both sides send (ids that are text are shown as the integer that `trialog user-id TEXT` gives)"
        ),
        Cause::LoggedLate => format!(
            "exposures are most likely logged late, as {} more came before their user's exposure; log the exposure when the user sees the variant{such}",
            grouped(row.before_exposure)
        ),
        Cause::NeverLogged => format!(
            "the exposures of these users were most likely never logged{such}; log one wherever a variant is shown, on every platform, or send the events of enrolled users only"
        ),
    }
}

fn before_exposure(code: &str, row: &EventCounts) -> Warning {
    let exposed = row.events.saturating_sub(row.unexposed);
    let message = format!(
        "{} of {} {} of exposed users ({}) happened before the user's exposure and do not count",
        grouped(row.before_exposure),
        grouped(exposed),
        of_type(exposed, &row.event_type),
        percent(row.before_exposure, exposed)
    );
    Warning::new(Severity::Warning, code, message)
        .action("the exposure is most likely logged late, or the clocks of the two sides differ; log it when the user sees the variant and compare the times of one user's events, or ignore this if you sent events from before the experiment on purpose")
        .event_type(&row.event_type)
        .count("events", row.events)
        .count("before_exposure", row.before_exposure)
}

fn after_window(code: &str, row: &EventCounts) -> Warning {
    let exposed = row.events.saturating_sub(row.unexposed);
    let message = format!(
        "{} of {} {} of exposed users ({}) came outside the attribution window and do not count",
        grouped(row.after_window),
        grouped(exposed),
        of_type(exposed, &row.event_type),
        percent(row.after_window, exposed)
    );
    let (severity, action) = if row.counted == 0 {
        let action = "none counts, so compare the times of one user's exposure and events with the window and its delay, or give the metric a longer window";
        (Severity::Warning, action)
    } else {
        let action = "give the metric a longer window if these events should count";
        (Severity::Info, action)
    };
    Warning::new(severity, code, message)
        .action(action)
        .event_type(&row.event_type)
        .count("events", row.events)
        .count("after_window", row.after_window)
        .count("counted", row.counted)
}

fn unknown_variant(code: &str, row: &EventCounts) -> Warning {
    let message = format!(
        "{} {} are from users whose variant is not aggregated, and do not count",
        grouped(row.unknown_variant),
        of_type(row.unknown_variant, &row.event_type),
    );
    Warning::new(Severity::Warning, code, message)
        .action(
            "check the names of variants that assignments carry, and declare those that are meant",
        )
        .event_type(&row.event_type)
        .count("events", row.events)
        .count("unknown_variant", row.unknown_variant)
}

fn one_arm(code: &str, found: &OneArm) -> Warning {
    let empty: Vec<String> = found.empty.iter().map(|name| format!("`{name}`")).collect();
    let message = format!(
        "all {} are of variant `{}`, and nobody of {}",
        users(found.users),
        found.variant,
        empty.join(", ")
    );
    Warning::new(Severity::Error, code, message)
        .action("nothing can be compared; check that exposures are logged for every variant, the control included, and that the split is switched on")
        .count("users", found.users)
}

fn covariate_imbalance(code: &str, found: &Imbalance) -> Warning {
    let [control, treatment] = found.means;
    let message = format!(
        "before the exposure the covariate of `{}` differed already: {} per user of `{}`, {} of `{}` (p = {})",
        found.metric,
        short(control),
        found.control,
        short(treatment),
        found.treatment,
        short(found.p_value)
    );
    Warning::new(Severity::Error, code, message)
        .action("chance does this to one experiment in a thousand, so look for what decided who got which variant before you trust a difference")
        .metric(&found.metric)
        .number("control_mean", control)
        .number("treatment_mean", treatment)
        .number("p_value", found.p_value)
}

fn cap_of_zero(code: &str, metric: &str) -> Warning {
    let message = format!(
        "winsorising sets every user of `{metric}` above 0 to 0, as fewer users have a value than are cut off"
    );
    Warning::new(Severity::Warning, code, message)
        .action("raise the upper percentile, or take it over users with an event: `\"of\": \"users_with_event\"` in the definition, `--winsorise-nonzero` of `trialog analyze`")
        .metric(metric)
}

fn undeclared(code: &str, found: &Undeclared) -> Warning {
    let nearest = found
        .variants
        .first()
        .map(String::as_str)
        .unwrap_or_default();
    let message = format!(
        "events name variants that the experiment does not declare: {} ({}){}",
        found.variants.join(", "),
        users(found.users),
        if found.is_all {
            ", and nobody saw one that it does"
        } else {
            ""
        }
    );
    let severity = match found.is_all {
        true => Severity::Error,
        false => Severity::Warning,
    };
    Warning::new(severity, code, message)
        .action(format!(
            "check how the application spells its variants{}",
            there_are(nearest, &found.declared, false)
        ))
        .count("users", found.users)
}

fn never_came(code: &str, event_type: &str, others: &[String]) -> Warning {
    let message = format!("no `{event_type}` event came, so nothing is measured by it");
    Warning::new(Severity::Warning, code, message)
        .action(format!(
            "check how the application names its events{}",
            there_are(event_type, others, false)
        ))
        .event_type(event_type)
}

fn of_type(n: u64, event_type: &str) -> String {
    let noun = if n == 1 { "event" } else { "events" };
    format!("`{event_type}` {noun}")
}

fn users(n: u64) -> String {
    let noun = if n == 1 { "user" } else { "users" };
    format!("{} {noun}", grouped(n))
}

/// Some ids, as examples.
fn such_as(sample: &[i64]) -> String {
    let ids: Vec<String> = sample.iter().take(3).map(|id| format!("`{id}`")).collect();
    if ids.is_empty() {
        String::new()
    } else {
        format!(" (such as {})", ids.join(", "))
    }
}

fn percent(part: u64, whole: u64) -> String {
    let percent = part as f64 / whole.max(1) as f64 * 100.0;
    if percent >= 10.0 {
        format!("{percent:.0} %")
    } else {
        format!("{percent:.1} %")
    }
}

/// Formats a number with three significant digits.
fn short(number: f64) -> String {
    let size = number.abs();
    if size == 0.0 {
        return "0".to_owned();
    }
    if !(1e-3..1e6).contains(&size) {
        return format!("{number:.2e}");
    }
    let digits = (2.0 - size.max(1e-3).log10().floor()).clamp(0.0, 6.0) as usize;
    format!("{number:.digits$}")
}

/// A count with commas between thousands.
fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_grouped() {
        assert_eq!(
            [0, 999, 1_000, 1_234_567].map(grouped),
            ["0", "999", "1,000", "1,234,567"]
        );
        assert_eq!(
            [0.0, 0.0123, 20.26, 3.2e-8, 1234.4].map(short),
            ["0", "0.0123", "20.3", "3.20e-8", "1234"].map(str::to_owned)
        );
    }

    #[test]
    fn a_warning_names_the_ids_and_the_likeliest_cause() {
        let row = EventCounts {
            event_type: "purchase".into(),
            events: 1_000,
            unexposed: 1_000,
            unexposed_users: 400,
            unexposed_sample: vec![42, 77, 3, 4],
            ..EventCounts::default()
        };
        let warning = of_finding(&Finding::WithoutExposure(row.clone(), Cause::OtherIds));
        assert_eq!(warning.severity, Severity::Error);
        let text = warning.text();
        for part in [
            "1,000 `purchase` events of 400 users, none from an exposed user",
            "another kind of id",
            "`42`, `77`, `3`)",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let some = EventCounts {
            events: 4_000,
            before_exposure: 900,
            ..row
        };
        let text = of_finding(&Finding::WithoutExposure(some, Cause::LoggedLate)).text();
        assert!(
            text.contains("1,000 of 4,000 `purchase` events (25 %)"),
            "{text}"
        );
        assert!(text.contains("900 more came before"), "{text}");
    }
}
