//! Which column of a file becomes which field of an event.

use anyhow::bail;
use trialog_model::event::EventKind;
use trialog_model::time::UnixMicros;

use crate::cli::{ImportArgs, ImportCommand};

/// Where a field comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The same text for every row.
    Constant(String),
    /// A column that the file must have.
    Column(String),
    /// A column that the file may have.
    Optional(String),
    /// Nowhere.
    Nothing,
}

/// The mapping of a file to events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mapping {
    pub(crate) kind: EventKind,
    pub(crate) user: Origin,
    pub(crate) experiment: Origin,
    pub(crate) name: Origin,
    pub(crate) time: Origin,
    pub(crate) value: Origin,
    pub(crate) event_id: Origin,
    /// What an exported file carries in place of the id.
    pub(crate) event_fingerprint: Origin,
    pub(crate) context: Origin,
    /// Columns that become keys of the context, instead of `context`.
    pub(crate) context_columns: Vec<String>,
    /// Appended to times that name no zone.
    pub(crate) time_zone: Option<String>,
    pub(crate) skip_zero: bool,
}

impl Mapping {
    pub(crate) fn of(command: &ImportCommand) -> anyhow::Result<Self> {
        let common = command.common();
        let (kind, name, value, context, context_columns, skip_zero) = match command {
            ImportCommand::Assignments(columns) => {
                let context = if columns.context_column.is_empty() {
                    Origin::Optional("context".to_owned())
                } else {
                    Origin::Nothing
                };
                let name = column(columns.variant_column.as_ref(), "variant");
                let forced = Origin::Optional("forced".to_owned());
                (
                    EventKind::Assignment,
                    name,
                    forced,
                    context,
                    columns.context_column.clone(),
                    false,
                )
            }
            ImportCommand::Metrics(columns) => {
                let name = constant_or(
                    columns.event.as_ref(),
                    columns.event_column.as_ref(),
                    "event_type",
                );
                let value = optional(columns.value_column.as_ref(), "value");
                (
                    EventKind::Metric,
                    name,
                    value,
                    Origin::Nothing,
                    Vec::new(),
                    columns.skip_zero,
                )
            }
        };
        Ok(Self {
            kind,
            name,
            value,
            context,
            context_columns,
            skip_zero,
            user: column(common.user_column.as_ref(), "user_id"),
            experiment: constant_or(
                common.experiment.as_ref(),
                common.experiment_column.as_ref(),
                "experiment_id",
            ),
            time: constant_or(
                common.time.as_ref(),
                common.time_column.as_ref(),
                kind.time_field(),
            ),
            event_id: optional(common.id_column.as_ref(), "event_id"),
            event_fingerprint: match &common.id_column {
                Some(_) => Origin::Nothing,
                None => Origin::Optional("event_fingerprint".to_owned()),
            },
            time_zone: common.time_zone.as_deref().map(zone).transpose()?,
        })
    }

    /// Every column that the file must or may have.
    pub(crate) fn columns(&self) -> impl Iterator<Item = &str> {
        let origins = [
            &self.user,
            &self.experiment,
            &self.name,
            &self.time,
            &self.value,
            &self.event_id,
            &self.event_fingerprint,
            &self.context,
        ];
        let named = origins.into_iter().filter_map(|origin| match origin {
            Origin::Column(name) | Origin::Optional(name) => Some(name.as_str()),
            Origin::Constant(_) | Origin::Nothing => None,
        });
        named.chain(self.context_columns.iter().map(String::as_str))
    }
}

impl ImportCommand {
    pub(crate) fn common(&self) -> &ImportArgs {
        match self {
            Self::Assignments(columns) => &columns.common,
            Self::Metrics(columns) => &columns.common,
        }
    }
}

fn column(given: Option<&String>, default: &str) -> Origin {
    Origin::Column(given.map_or(default, String::as_str).to_owned())
}

fn optional(given: Option<&String>, default: &str) -> Origin {
    match given {
        Some(name) => Origin::Column(name.clone()),
        None => Origin::Optional(default.to_owned()),
    }
}

fn constant_or(constant: Option<&String>, given: Option<&String>, default: &str) -> Origin {
    match constant {
        Some(constant) => Origin::Constant(constant.clone()),
        None => column(given, default),
    }
}

/// `text` if it is a zone that a time may end with.
fn zone(text: &str) -> anyhow::Result<String> {
    let text = if text.eq_ignore_ascii_case("utc") {
        "Z"
    } else {
        text
    };
    if UnixMicros::parse_rfc3339(format!("2026-01-01T00:00:00{text}")).is_err() {
        bail!("`{text}` is no time zone that can be used: give Z, or an offset such as +01:00");
    }
    Ok(text.to_owned())
}
