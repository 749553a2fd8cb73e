//! Compares what files declare with what is registered, and applies the difference.

use anyhow::{Context, bail};
use axum::http::{Method, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use trialog_model::experiment::{Definition, Status};

use super::files::Declared;
use crate::access::{Access, encode};

/// The difference between a declared object and the registered one.
pub(super) struct Difference {
    /// `metric` or `experiment`.
    what: &'static str,
    name: String,
    wanted: Map<String, Value>,
    state: State,
}

enum State {
    /// It is not registered, although events may name it.
    New,
    /// These fields differ; the value is the present one.
    Changed(Map<String, Value>),
    Same,
}

impl Difference {
    pub(super) fn is_same(&self) -> bool {
        matches!(self.state, State::Same)
    }

    /// Formats the difference in lines for people; empty if there is none.
    pub(super) fn text(&self) -> String {
        let (what, name) = (self.what, &self.name);
        match &self.state {
            State::Same => String::new(),
            State::New => format!("{what} `{name}` is new\n"),
            State::Changed(present) => {
                let fields = present.iter().map(|(field, present)| {
                    let wanted = self.wanted.get(field).unwrap_or(&Value::Null);
                    format!("  {field}: {present} -> {wanted}\n")
                });
                std::iter::once(format!("{what} `{name}` differs\n"))
                    .chain(fields)
                    .collect()
            }
        }
    }

    /// Formats the difference as JSON.
    pub(super) fn json(&self) -> Value {
        let (state, from) = match &self.state {
            State::Same => ("same", None),
            State::New => ("new", None),
            State::Changed(present) => ("changed", Some(present)),
        };
        let to: Option<Map<String, Value>> = from.map(|from| self.changes(from));
        json!({ "subject": self.what, "name": self.name, "state": state, "from": from, "to": to })
    }

    fn changes(&self, present: &Map<String, Value>) -> Map<String, Value> {
        (self.wanted.iter())
            .filter(|(field, _)| present.contains_key(*field))
            .map(|(field, value)| (field.clone(), value.clone()))
            .collect()
    }

    /// Changes the registered object to the declared one, and says what was done. `confirm` allows
    /// changes after the start of what results are tested with.
    pub(super) fn apply(&self, access: &Access, confirm: bool) -> anyhow::Result<String> {
        let (what, name) = (self.what, &self.name);
        let path = format!("/v1/{what}s");
        match &self.state {
            State::Same => Ok(format!("unchanged `{name}`")),
            State::New => {
                let mut wanted = self.wanted.clone();
                // Whatever is new of an experiment has not started.
                if confirm && what == "metric" {
                    wanted.insert("confirm".to_owned(), json!(true));
                }
                let wanted = Value::Object(wanted);
                access
                    .post(&path, Some(&wanted))
                    .with_context(|| format!("cannot register the {what} `{name}`"))?;
                Ok(format!("registered `{name}`"))
            }
            State::Changed(present) => {
                let names: Vec<&str> = present.keys().map(String::as_str).collect();
                let names = names.join(", ");
                let mut changes = self.changes(present);
                if confirm {
                    changes.insert("confirm".to_owned(), json!(true));
                }
                let changes = Value::Object(changes);
                let path = format!("{path}/{}", encode(name));
                access
                    .request(&Method::PATCH, &path, Some(&changes))?
                    .read()
                    .with_context(|| format!("cannot change {names} of the {what} `{name}`"))?;
                Ok(format!("changed `{name}`: {names}"))
            }
        }
    }
}

/// Compares everything, metrics first, and refuses what cannot be applied
/// before anything is.
pub(super) fn compare(
    access: &Access,
    declared: &Declared,
    confirm: bool,
) -> anyhow::Result<Vec<Difference>> {
    let mut differences = Vec::new();
    for metric in &declared.metrics {
        let name = metric.name.as_str();
        let known = known(access, "metric", name)?;
        differences.push(difference("metric", name, metric, known.as_ref())?);
    }
    for experiment in &declared.experiments {
        let name = experiment.experiment_id.as_str();
        let known = known(access, "experiment", name)?.filter(|known| {
            // Events came in, and nobody has registered it.
            known["status"] != json!(Status::Unregistered)
        });
        let difference = difference("experiment", name, experiment, known.as_ref())?;
        let variants = match &known {
            Some(known) => field(known, "variants")?,
            None => Vec::new(),
        };
        (experiment.check_variant_names(&variants))
            .with_context(|| format!("cannot apply `{name}`"))?;
        if let (Some(known), false) = (&known, difference.is_same()) {
            check(experiment, known, confirm).with_context(|| format!("cannot change `{name}`"))?;
        }
        differences.push(difference);
    }
    Ok(differences)
}

fn known(access: &Access, what: &str, name: &str) -> anyhow::Result<Option<Value>> {
    let path = format!("/v1/{what}s/{}", encode(name));
    let answer = access.request(&Method::GET, &path, None)?;
    if answer.status == StatusCode::NOT_FOUND {
        return Ok(None);
    }
    answer.read().map(Some)
}

/// Fields that a file leaves out have their defaults.
fn difference(
    what: &'static str,
    name: &str,
    wanted: &impl Serialize,
    known: Option<&Value>,
) -> anyhow::Result<Difference> {
    let Value::Object(wanted) = serde_json::to_value(wanted)? else {
        bail!("the {what} `{name}` is not an object")
    };
    let state = match known {
        None => State::New,
        Some(known) => {
            let present: Map<String, Value> = (wanted.iter())
                .filter(|(field, value)| known[field.as_str()] != **value)
                .map(|(field, _)| (field.clone(), known[field.as_str()].clone()))
                .collect();
            if present.is_empty() {
                State::Same
            } else {
                State::Changed(present)
            }
        }
    };
    Ok(Difference {
        what,
        name: name.to_owned(),
        wanted,
        state,
    })
}

/// Whether the server will take `wanted` in place of `known`.
fn check(wanted: &Definition, known: &Value, confirm: bool) -> anyhow::Result<()> {
    let status: Status = field(known, "status")?;
    match status {
        Status::Archived => bail!("it is archived, and nothing of it changes any more"),
        Status::Running | Status::Stopped => {
            let mut present = serde_json::to_value(wanted)?;
            if let (Value::Object(present), Value::Object(known)) = (&mut present, known) {
                for (field, value) in present.iter_mut() {
                    *value = known.get(field).cloned().unwrap_or(Value::Null);
                }
            }
            let present: Definition = serde_json::from_value(present)?;
            present.check_change_after_start(wanted)?;
            let locked = present.locked_changes(wanted);
            if !confirm && !locked.is_empty() {
                bail!(
                    "it has started, and results are tested with {}: --confirm applies the change anyway, and the sequence of looks starts anew",
                    locked.join(", ")
                );
            }
        }
        Status::Draft | Status::Unregistered => {}
    }
    Ok(())
}

fn field<T: DeserializeOwned>(value: &Value, field: &str) -> anyhow::Result<T> {
    serde_json::from_value(value[field].clone()).with_context(|| {
        format!(
            "the field `{field}` in the answer of the server cannot be read by this version of trialog: use the version of the server"
        )
    })
}
