//! Renders the saved funnels of an experiment: the users of each step by variant, and the
//! difference of the last step.

use askama::Template;
use askama::filters::HtmlSafe;
use trialog_model::duration::Window;
use trialog_model::funnel::SavedFunnel;
use trialog_model::percent;
use trialog_report::{AlwaysValid, Funnel, FunnelTreatment, FunnelVariant, StepUsers};

use super::format::{self, Sign};
use super::number::{Number, Range, Unit};
use super::verdict::Verdict;
use crate::api::funnel::Stored;
use crate::dashboard::query::{self, Pairs};

/// The most variants that a table shows; the API has all of them.
const MOST_VARIANTS: usize = 12;

/// The saved funnels of an experiment.
#[derive(Debug, Template)]
#[template(path = "funnels.html")]
pub(crate) struct Funnels {
    funnels: Vec<Card>,
}

impl HtmlSafe for Funnels {}

/// A saved funnel.
#[derive(Debug)]
struct Card {
    id: String,
    name: String,
    window: String,
    json: String,
    /// Why there are no numbers; empty where there are.
    absent: &'static str,
    variants: Vec<Column>,
    steps: Vec<Row>,
    left_out: usize,
    level: String,
    last_step: String,
    treatments: Vec<Treatment>,
}

/// The head of a variant's column.
#[derive(Debug)]
struct Column {
    name: String,
    is_control: bool,
    users: Number,
}

/// A step.
#[derive(Debug)]
struct Row {
    event_type: String,
    /// The limit in words; empty without one.
    limit: String,
    /// Each variant.
    cells: Vec<Cell>,
}

/// The users of a variant at a step.
#[derive(Debug)]
struct Cell {
    variant: String,
    users: Number,
    rate: Option<Number>,
}

/// A treatment against the control at the last step.
#[derive(Debug)]
struct Treatment {
    name: String,
    difference: Option<Number>,
    interval: Option<Range>,
    p_value: Option<Number>,
    verdict: Verdict,
}

impl Funnels {
    /// Lists the saved funnels of the experiment `id` with what there is of them. `query` is that
    /// of the page. Nothing is shown where none is saved.
    pub(crate) fn new(id: &str, query: &Pairs, funnels: &[(SavedFunnel, Stored)]) -> Option<Self> {
        let cards = funnels.iter().enumerate();
        let cards = cards.map(|(at, (saved, stored))| Card::new(id, query, at, saved, stored));
        (!funnels.is_empty()).then(|| Self {
            funnels: cards.collect(),
        })
    }
}

impl Card {
    fn new(id: &str, page: &Pairs, at: usize, saved: &SavedFunnel, stored: &Stored) -> Self {
        let path = format!("/v1/experiments/{}/funnel", percent::encode(id));
        let mut asked = vec![("name".to_owned(), saved.name.to_string())];
        let choices = page.iter();
        let choices = choices.filter(|(name, _)| matches!(name.as_str(), "control" | "alpha"));
        asked.extend(choices.cloned());
        let empty = Self {
            id: format!("funnel-{at}"),
            name: saved.name.to_string(),
            window: window(saved.window),
            json: query::address(&path, &asked),
            absent: "",
            variants: Vec::new(),
            steps: Vec::new(),
            left_out: 0,
            level: String::new(),
            last_step: String::new(),
            treatments: Vec::new(),
        };
        match stored {
            Stored::Computed(funnel) => empty.with_numbers(funnel),
            Stored::Waits => Self {
                absent: "Not computed yet: it will be with the next run.",
                ..empty
            },
            Stored::Changed => Self {
                absent: "Changed after the last run: the next run computes it.",
                ..empty
            },
        }
    }

    fn with_numbers(self, funnel: &Funnel) -> Self {
        let shown = &funnel.variants[..funnel.variants.len().min(MOST_VARIANTS)];
        let column = |variant: &FunnelVariant| Column {
            name: variant.variant.clone(),
            is_control: funnel.control.as_deref() == Some(variant.variant.as_str()),
            users: Number::count("", variant.users),
        };
        let steps = funnel.steps.iter().zip(&funnel.limits).enumerate();
        let steps = steps.map(|(at, (event_type, limit))| Row {
            event_type: event_type.clone(),
            limit: limit.map_or_else(String::new, |limit| limit_in_words(at, limit)),
            cells: (shown.iter())
                .filter_map(|variant| {
                    Some(Cell::from_step(&variant.variant, variant.steps.get(at)?))
                })
                .collect(),
        });
        let percent = format::significant((1.0 - funnel.alpha) * 100.0, 5, Sign::Minus);
        let treatments = funnel.comparisons.iter().take(MOST_VARIANTS);
        Self {
            variants: shown.iter().map(column).collect(),
            steps: steps.collect(),
            left_out: funnel.variants.len() - shown.len(),
            level: format!("{percent} %"),
            last_step: funnel.steps.last().cloned().unwrap_or_default(),
            treatments: treatments.map(Treatment::from_report).collect(),
            ..self
        }
    }
}

impl Cell {
    fn from_step(variant: &str, step: &StepUsers) -> Self {
        // An interval reaches about two standard errors to each side.
        let error = step.ci.map(|[low, high]| (high - low) / 4.0);
        let rate = |rate: f64| Number::new("", rate, Unit::Percent.show(rate, error, Sign::Minus));
        Self {
            variant: variant.to_owned(),
            users: Number::count("", step.users),
            rate: step.rate.map(rate),
        }
    }
}

impl Treatment {
    fn from_report(treatment: &FunnelTreatment) -> Self {
        let test = treatment.always_valid.as_ref();
        let interval = test.and_then(|test| test.ci);
        let last = treatment.steps.last();
        let error = interval.map(|[low, high]| (high - low) / 4.0);
        let difference = last.and_then(|step| step.difference).map(|difference| {
            let shown = Unit::Points.show(difference, error, Sign::Both);
            Number::new("", difference, shown)
        });
        Self {
            name: treatment.treatment.clone(),
            difference,
            interval: interval.map(|ends| Range::new("", ends, Unit::Points)),
            p_value: test.map(|test| Number::p_value("", test.adjusted_p_value)),
            verdict: verdict(test),
        }
    }
}

/// Whether more or fewer users at the last step are good, nobody says.
fn verdict(test: Option<&AlwaysValid>) -> Verdict {
    let (class, mark, text) = match test {
        Some(test) if test.significant => ("trend", "◆", "significant"),
        Some(_) => ("none", "●", "not significant"),
        None => ("none", "", "nothing to compare"),
    };
    Verdict { class, mark, text }
}

fn window(window: Window) -> String {
    match window == Window::UNBOUNDED {
        true => "until the experiment’s end".to_owned(),
        false => format!("within {window} after the exposure"),
    }
}

fn limit_in_words(step: usize, limit: Window) -> String {
    match step {
        0 => format!("within {limit} after the exposure"),
        _ => format!("within {limit} after the step before"),
    }
}
