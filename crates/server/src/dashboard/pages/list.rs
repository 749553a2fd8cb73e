//! Renders the list of experiments.

use askama::Template;
use trialog_catalog::experiments::Experiment;
use trialog_model::experiment::Status;
use trialog_model::percent;
use trialog_model::time::UnixMicros;
use trialog_report::summary::Summary;

use crate::dashboard::assets;
use crate::dashboard::parts::choice::Choice;
use crate::dashboard::parts::freshness::{Freshness, Moment};
use crate::dashboard::parts::next_step::{NextStep, Origin};
use crate::dashboard::parts::number::Number;
use crate::dashboard::parts::progress::Bar;
use crate::dashboard::query::{self, Pairs};

/// The experiments of a page.
#[derive(Debug, Template)]
#[template(path = "experiments.html")]
pub(crate) struct ListPage {
    style: String,
    icon: String,
    search: String,
    statuses: Vec<Choice>,
    freshness: Freshness,
    rows: Vec<Row>,
    first_page: Option<String>,
    next_page: Option<String>,
    json: String,
    is_filtered: bool,
    next_step: NextStep,
}

/// An experiment and the summary of its report, or the reason why it has none.
pub(crate) struct Listed {
    pub(crate) experiment: Experiment,
    pub(crate) summary: Result<Summary, String>,
}

#[derive(Debug)]
struct Row {
    id: String,
    href: String,
    hypothesis: String,
    owner: String,
    status: &'static str,
    /// What was decided, in two words; empty while nothing is.
    decision: String,
    users: Option<Number>,
    progress: Option<Bar>,
    computed: Option<Moment>,
    warnings: Vec<(String, String)>,
}

/// The surroundings of the rows of a list.
pub(crate) struct Around {
    /// The query as the API accepts it.
    pub(crate) query: Pairs,
    /// The id of the last experiment, where more follow.
    pub(crate) next: Option<String>,
    pub(crate) freshness: Freshness,
    pub(crate) origin: Origin,
    pub(crate) now: UnixMicros,
}

impl ListPage {
    pub(crate) fn new(listed: Vec<Listed>, around: Around) -> Self {
        let without_place: Pairs = (around.query.iter())
            .filter(|(name, _)| name != "after")
            .cloned()
            .collect();
        let next_page = around.next.map(|next| {
            let mut pairs = without_place.clone();
            pairs.push(("after".to_owned(), next));
            query::address("/", &pairs)
        });
        let of_api: Pairs = (around.query.iter())
            .filter(|(name, _)| name != "q")
            .cloned()
            .collect();
        let is_first = without_place.len() == around.query.len();
        Self {
            style: assets::style_address(),
            icon: assets::icon_address(),
            search: query::value(&around.query, "q").to_owned(),
            statuses: Choice::among(
                Status::ALL.map(Status::as_str),
                query::value(&around.query, "status"),
            ),
            first_page: (!is_first).then(|| query::address("/", &without_place)),
            next_page,
            json: query::address("/v1/experiments", &of_api),
            is_filtered: !around.query.is_empty(),
            next_step: around.origin.first_experiment(),
            freshness: around.freshness,
            rows: listed
                .into_iter()
                .map(|listed| Row::new(listed, around.now))
                .collect(),
        }
    }
}

impl Row {
    fn new(listed: Listed, now: UnixMicros) -> Self {
        let Listed {
            experiment,
            summary,
        } = listed;
        let decision = decision(&experiment);
        let definition = experiment.definition;
        let id = definition.experiment_id.to_string();
        let mut row = Self {
            href: format!("/experiments/{}", percent::encode(&id)),
            id,
            hypothesis: definition.hypothesis.unwrap_or_default(),
            owner: definition.owner.unwrap_or_default(),
            status: experiment.status.as_str(),
            decision,
            users: None,
            progress: None,
            computed: None,
            warnings: Vec::new(),
        };
        match summary {
            Ok(summary) => row.fill(&summary, now),
            Err(reason) => row.warnings.push(("cannot be read".to_owned(), reason)),
        }
        row
    }

    fn fill(&mut self, summary: &Summary, now: UnixMicros) {
        self.computed = summary
            .computed_at
            .as_deref()
            .and_then(|text| Moment::parse(text, now));
        self.users = self
            .computed
            .is_some()
            .then(|| Number::count("", summary.users));
        self.progress = summary.plan.as_ref().map(Bar::from_progress);
        for warning in &summary.warnings {
            // The status and the column of results say these already.
            if warning.code != "no_results" {
                self.warnings.push((short(&warning.code), warning.text()));
            }
        }
        if summary.status == Status::Unregistered {
            let message = "events name it, but nobody has registered it: its variants and weights are not known";
            self.warnings
                .push(("unregistered".to_owned(), message.to_owned()));
        }
    }
}

/// What was decided, in two words.
fn decision(experiment: &Experiment) -> String {
    let Some(decision) = &experiment.decision else {
        return String::new();
    };
    match (&decision.ship, experiment.ships()) {
        (Some(ship), Some(_)) => format!("ships {ship}"),
        (Some(ship), None) => format!("shipped {ship}"),
        (None, _) => "ships nothing".to_owned(),
    }
}

/// A warning's code in words.
fn short(code: &str) -> String {
    match code {
        "srm" => "sample ratio mismatch".to_owned(),
        "computation_failed" => "last computation failed".to_owned(),
        other => other.replace('_', " "),
    }
}
