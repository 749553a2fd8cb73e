//! The experiment that measures a holdout.

use trialog_model::experiment::{Definition, Status};
use trialog_model::holdout::remaining;
use trialog_model::sequence::BreakReason;

use super::Experiment;
use crate::audit::Edit;
use crate::configuration;
use crate::database::{self, Connection};
use crate::documents::{Document, find, store};
use crate::holdouts::Holdout;
use crate::sequence::{self, NewBreak};

/// Makes the experiment that measures `holdout` what the holdout says now.
pub(crate) fn sync_holdout_experiment(
    transaction: &Connection<'_>,
    edit: &Edit,
    action: &'static str,
    holdout: &Holdout,
) -> database::Result<()> {
    let definition = holdout.definition.measurement();
    let known: Option<Experiment> = find(transaction, definition.experiment_id.as_str())?;
    let known = match known {
        Some(known) => known,
        None => {
            let created = Experiment::created(definition.clone(), edit.at, None);
            store(transaction, edit, "create", None, created)?
        }
    };
    let is_draft = holdout.status == Status::Draft;
    let variants = match is_draft {
        true => definition.variants.clone(),
        false => remaining(&definition, &known.definition),
    };
    let lets_in = !is_draft && variants != known.definition.variants;
    let changed = Experiment {
        definition: Definition {
            variants,
            ..definition
        },
        status: holdout.status,
        started_at: holdout.started_at,
        stopped_at: holdout.stopped_at,
        ..known.clone()
    };
    if changed == known {
        return configuration::touch(transaction);
    }
    store(transaction, edit, action, Some(&known), changed)?;
    if lets_in {
        // Past looks saw units who are left out from now on.
        let new = NewBreak {
            experiment: known.definition.experiment_id.as_str(),
            reason: BreakReason::Holdout,
            at: edit.at,
            actor: edit.actor.as_str(),
            fields: "",
        };
        sequence::note_break(transaction, &new)?;
    }
    Ok(())
}
