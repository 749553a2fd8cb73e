//! Reads a file to its end before any row of it is stored, and decides how its cells are
//! interpreted.

use anyhow::bail;
use trialog_model::event::EventKind;

use super::columns::{Mapping, Origin};
use crate::table::decide::{Facts, Ids, Look, Meaning, look};
use crate::table::decimal::Decimal;
use crate::table::{Table, Wanted};

/// The interpretation of the cells of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Decisions {
    pub(crate) user: Meaning,
    pub(crate) experiment: Meaning,
    pub(crate) name: Meaning,
    pub(crate) event_id: Meaning,
    /// Of the columns that become keys of the context, in their order.
    pub(crate) context: Vec<Meaning>,
    pub(crate) decimal: Decimal,
}

/// The result of the first pass.
pub(crate) struct Survey {
    pub(crate) decisions: Decisions,
    /// Notes for the summary.
    pub(crate) notes: Vec<String>,
    /// Why the file may not hold the rows that it was written with.
    pub(crate) warnings: Vec<String>,
}

/// What is looked at in each of the columns that are `wanted`.
fn looks(mapping: &Mapping, wanted: &[Wanted]) -> Vec<Look> {
    let typed = [
        &mapping.user,
        &mapping.experiment,
        &mapping.name,
        &mapping.event_id,
    ];
    let is_of = |origins: &[&Origin], name: &str| {
        origins.iter().any(|origin| origin.column() == Some(name))
    };
    (wanted.iter())
        .map(|column| Look {
            types: is_of(&typed, &column.name) || mapping.context_columns.contains(&column.name),
            decimals: is_of(&[&mapping.value], &column.name),
        })
        .collect()
}

/// Decides how the numbers of values are written: as the option says, else as the cells show.
fn decimal(table: &Table, mapping: &Mapping, facts: Option<&Facts>) -> anyhow::Result<Decimal> {
    match (mapping.decimal, facts) {
        (Some(decimal), _) => Ok(decimal),
        (None, None) => Ok(Decimal::Point),
        (None, Some(facts)) => match facts.decimals.decimal(table.has_semicolons()) {
            Ok(decimal) => Ok(decimal),
            Err(unclear) => bail!(
                "`{unclear}` in column `{}` can be read in two ways: say with --decimal comma or --decimal point how its numbers are written; nothing was stored",
                mapping.value.column().unwrap_or_default()
            ),
        },
    }
}

/// Reads the file to its end.
pub(crate) fn survey(
    table: &Table,
    mapping: &Mapping,
    wanted: &[Wanted],
) -> anyhow::Result<Survey> {
    let looks = looks(mapping, wanted);
    let mut facts = vec![Facts::new(); wanted.len()];
    let end = table.rows(wanted, &mut |_, row| {
        if let Ok(row) = row {
            look(&looks, &mut facts, &row);
        }
        Ok(())
    })?;
    let of_column = |name: &str| -> Option<&Facts> {
        facts.get(wanted.iter().position(|column| column.name == name)?)
    };
    let facts_of = |origin: &Origin| of_column(origin.column()?);
    let mut notes = Vec::new();
    if mapping.kind == EventKind::Metric && facts_of(&mapping.value).is_none() {
        notes.push(format!(
            "no column `{}`, so each event counts 1: --value-column names another one",
            mapping.value.column().unwrap_or("value")
        ));
    }
    let decimal = decimal(table, mapping, facts_of(&mapping.value))?;
    if mapping.decimal.is_none() && decimal == Decimal::Comma {
        notes.push("values are read with a decimal comma".to_owned());
    }
    // An export holds ids and names exactly as they were sent.
    let is_export = table.has("event_fingerprint");
    let names = |origin: &Origin| match facts_of(origin) {
        Some(facts) if !is_export => facts.names(),
        _ => Meaning::Text,
    };
    let mut ids = |origin: &Origin, what: &str| -> anyhow::Result<Meaning> {
        let Some(facts) = facts_of(origin) else {
            return Ok(Meaning::Text);
        };
        let found = match mapping.ids {
            Some(Ids::Numeric) => return Ok(Meaning::Number),
            Some(Ids::Text) => return Ok(Meaning::Text),
            None if is_export => return Ok(Meaning::Text),
            None => facts.ids(),
        };
        if let Some((number, text)) = &facts.mixed {
            notes.push(format!(
                "not every {what} in column `{}` is a number, as `{text}` is none: all are read as texts, `{number}` too",
                origin.column().unwrap_or_default()
            ));
        }
        if let (Meaning::Number, Some(unusual)) = (found, &facts.unusual) {
            let column = origin.column().unwrap_or_default();
            if table.is_pipe() {
                bail!(
                    "every {what} in column `{column}` is a number, but `{unusual}` is not written as a plain integer: say with --ids numeric or --ids text what they are; nothing was stored"
                );
            }
            notes.push(format!(
                "every {what} in column `{column}` is a number, such as `{unusual}`: read as numbers, which --ids text would not do"
            ));
        }
        Ok(found)
    };
    let decisions = Decisions {
        user: ids(&mapping.user, "user id")?,
        event_id: ids(&mapping.event_id, "event id")?,
        experiment: names(&mapping.experiment),
        name: names(&mapping.name),
        context: (mapping.context_columns.iter())
            .map(|name| of_column(name).map_or(Meaning::Text, Facts::values))
            .collect(),
        decimal,
    };
    Ok(Survey {
        decisions,
        notes,
        warnings: end.warnings,
    })
}
