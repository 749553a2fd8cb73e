//! Maps the columns of a file to the fields of an event.

use trialog_model::event::EventKind;

use super::times::{Unit, Zone};
use crate::cli::{ImportArgs, ImportCommand};
use crate::table::decide::Ids;
use crate::table::decimal::Decimal;
use crate::table::{As, Table, Wanted};

/// The origin of a field.
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

impl Origin {
    /// Returns the column, if the field comes from one.
    pub(crate) fn column(&self) -> Option<&str> {
        match self {
            Self::Column(name) | Self::Optional(name) => Some(name),
            Self::Constant(_) | Self::Nothing => None,
        }
    }
}

/// The mapping of a file to events.
#[derive(Debug, Clone)]
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
    /// Where times lie that name no zone.
    pub(crate) time_zone: Option<Zone>,
    pub(crate) time_unit: Unit,
    pub(crate) skip_zero: bool,
    /// How ids without types are read, where it is given.
    pub(crate) ids: Option<Ids>,
    pub(crate) decimal: Option<Decimal>,
    pub(crate) allows_placeholder_ids: bool,
}

impl Mapping {
    pub(crate) fn from_command(
        command: &ImportCommand,
        allows_placeholder_ids: bool,
    ) -> anyhow::Result<Self> {
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
            time_zone: common.time_zone.as_deref().map(Zone::new).transpose()?,
            time_unit: common.time_unit,
            ids: common.ids,
            decimal: common.table.decimal,
            allows_placeholder_ids,
        })
    }

    /// Returns the name and origin of each field, in the order of the summary.
    pub(crate) fn fields(&self) -> [(&'static str, &Origin); 8] {
        [
            ("user_id", &self.user),
            ("experiment_id", &self.experiment),
            (self.kind.name_field(), &self.name),
            (self.kind.time_field(), &self.time),
            (self.kind.value_field(), &self.value),
            ("event_id", &self.event_id),
            ("event_fingerprint", &self.event_fingerprint),
            ("context", &self.context),
        ]
    }

    /// Returns the columns of `table` that are read, each once.
    ///
    /// # Errors
    ///
    /// A column that must be there and is not, or a name that two columns have.
    pub(crate) fn wanted(&self, table: &Table) -> anyhow::Result<Vec<Wanted>> {
        const HINT: &str = "; name the right ones with --user-column, --time-column and so on";
        let mut wanted: Vec<Wanted> = Vec::new();
        let mut add = |name: &str, read_as: As| -> anyhow::Result<()> {
            table.check(name, HINT)?;
            match wanted.iter_mut().find(|known| known.name == name) {
                Some(known) if read_as == As::Exact => known.read_as = As::Exact,
                Some(_) => {}
                None => wanted.push(Wanted {
                    name: name.to_owned(),
                    read_as,
                }),
            }
            Ok(())
        };
        for (field, origin) in self.fields() {
            let read_as = if field == "value" {
                As::Exact
            } else {
                As::Field
            };
            match origin {
                Origin::Column(name) => add(name, read_as)?,
                Origin::Optional(name) if table.has(name) => add(name, read_as)?,
                Origin::Optional(_) | Origin::Constant(_) | Origin::Nothing => {}
            }
        }
        for name in &self.context_columns {
            add(name, As::Field)?;
        }
        Ok(wanted)
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
