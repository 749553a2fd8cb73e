//! The tables of a funnel: users of each step, and what the treatments change.

mod times;

use std::fmt::Write;

use trialog_model::duration::Window;
use trialog_report::{AlwaysValid, Funnel, FunnelTreatment};

use super::{Table, number};

/// Shows a funnel: the steps of each variant, then each treatment against the control.
pub(crate) fn funnel(funnel: &Funnel) -> String {
    let has_users = funnel.variants.iter().any(|variant| variant.users > 0);
    let computed = match &funnel.computed_at {
        Some(at) => format!(", computed at {at}"),
        // Those of a file are of now.
        None if has_users => String::new(),
        None => ", computed never".to_owned(),
    };
    let window = match funnel.window == Window::UNBOUNDED {
        true => "without a window".to_owned(),
        false => format!("within {}", funnel.window),
    };
    let mut text = format!(
        "{}: {} {window}{computed}\n\n",
        funnel.experiment_id,
        steps(funnel),
    );
    if !has_users {
        text.push_str("no exposed users\n");
        return text;
    }
    text.push_str(&users(funnel).text());
    let level = level(funnel.alpha);
    if let Some(times) = times::times(funnel) {
        let _ = write!(text, "\n{}", times.text());
    }
    // Writing to a String cannot fail.
    for treatment in &funnel.comparisons {
        let control = funnel.control.as_deref().unwrap_or("the control");
        let _ = write!(
            text,
            "\n{} against {control}\n{}",
            treatment.treatment,
            comparison(treatment, &level).text()
        );
        if let Some(test) = &treatment.always_valid {
            let _ = writeln!(text, "{}", always_valid(test));
        }
        if let Some(comparisons) = &treatment.by_time {
            let _ = write!(text, "\n{}", times::by_time(comparisons, &level).text());
        }
    }
    if !funnel.comparisons.is_empty() {
        text.push_str("\nThe last step is the test of the funnel; p-values of steps hold for one look. `arises` says how much of the ratio of the rates comes from each step; those who reached a step are not randomised any more, so no test belongs to it.\n");
    }
    for warning in &funnel.health.warnings {
        let _ = writeln!(text, "{}: {}", warning.severity.as_str(), warning.text());
    }
    text
}

/// The steps with their limits, such as `view, add (1h), purchase (10m)`.
fn steps(funnel: &Funnel) -> String {
    let steps = funnel.steps.iter().zip(&funnel.limits);
    let steps = steps.map(|(step, limit)| match limit {
        Some(limit) => format!("{step} ({limit})"),
        None => step.clone(),
    });
    steps.collect::<Vec<_>>().join(", ")
}

fn users(funnel: &Funnel) -> Table {
    let mut table = Table::new(&[
        "variant",
        "step",
        "users",
        "of exposed",
        "of step before",
        "lost",
    ]);
    for variant in &funnel.variants {
        let exposed = ["(exposed)".to_owned(), variant.users.to_string()];
        let empty = [String::new(), String::new(), String::new()];
        table.row(
            [variant.variant.clone()]
                .into_iter()
                .chain(exposed)
                .chain(empty),
        );
        for step in &variant.steps {
            table.row([
                variant.variant.clone(),
                step.event_type.clone(),
                step.users.to_string(),
                share(step.rate),
                share(step.from_previous),
                step.lost.to_string(),
            ]);
        }
    }
    table
}

/// The test of the last step that holds at every look.
fn always_valid(test: &AlwaysValid) -> String {
    let points = signed_points;
    let interval = test.ci.map_or_else(String::new, |[low, high]| {
        format!(", {} to {} points", points(low), points(high))
    });
    let verdict = if test.significant {
        ": significant"
    } else {
        ""
    };
    let p_value = number(Some(test.adjusted_p_value));
    format!("at every look: last step p = {p_value}{interval}{verdict}")
}

fn level(alpha: f64) -> String {
    // 1 - 0.05 is not exactly 0.95.
    format!("{} % interval", ((1.0 - alpha) * 1e8).round() / 1e6)
}

fn signed_points(value: f64) -> String {
    format!("{:+.3}", 100.0 * value)
}

fn share(share: Option<f64>) -> String {
    share.map_or_else(String::new, |share| format!("{:.2} %", 100.0 * share))
}

fn comparison(treatment: &FunnelTreatment, level: &str) -> Table {
    let mut table = Table::new(&[
        "step",
        "difference",
        level,
        "relative",
        "p",
        "adjusted",
        "",
        "arises",
    ]);
    for step in &treatment.steps {
        let points = signed_points;
        let interval = |[low, high]: [f64; 2]| format!("{} to {}", points(low), points(high));
        table.row([
            step.event_type.clone(),
            step.difference
                .map_or_else(String::new, |value| format!("{} points", points(value))),
            step.ci.map_or_else(String::new, interval),
            step.lift
                .map_or_else(String::new, |lift| format!("{:+.2} %", 100.0 * lift)),
            number(step.p_value),
            number(step.adjusted_p_value),
            if step.significant { "significant" } else { "" }.to_owned(),
            number(step.step_log_ratio),
        ]);
    }
    table
}
