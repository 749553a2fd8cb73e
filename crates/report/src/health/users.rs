//! Warns about users and events that metrics do not count, or not as they should.

use trialog_model::experiment::Definition;
use trialog_model::published::{Computation, VariantExposures};

use crate::warnings::{Severity, Warning};

/// Above this share of crossovers a reader is warned.
const CROSSOVER_SHARE: f64 = 0.01;
/// The odds of any two users with one hash from which on they are warned of.
const HASH_ODDS: f64 = 0.01;

/// Whether so many users, if their ids are texts, may well have two with the same 64-bit
/// hash: by the birthday estimate, n^2 / 2^65.
fn shared_hashes(users: u64) -> Option<Warning> {
    let odds = (users as f64).powi(2) / 2f64.powi(65);
    (odds > HASH_ODDS).then(|| {
        let percent = odds.min(1.0) * 100.0;
        let message = format!(
            "{users} users: if their ids are texts, two of them share a 64-bit hash, and so are one user, with odds of about {percent:.1} %"
        );
        Warning::new(Severity::Info, "shared_user_hashes", message)
            .action("`trialog verify` counts users with two texts; integers as ids never share a number")
            .number("users", users as f64)
            .number("odds", odds.min(1.0))
    })
}

/// Adds the warnings about the users of `computation`, of whom `n_crossovers` saw several
/// variants.
pub(super) fn warn(
    warnings: &mut Vec<Warning>,
    definition: &Definition,
    computation: &Computation,
    n_crossovers: u64,
) {
    let n_users: u64 = computation.exposures.iter().map(|row| row.user_count).sum();
    warnings.extend(crossovers(n_users, n_crossovers));
    warnings.extend(shared_hashes(n_users));
    warnings.extend(exposed_at_weight_0(definition, computation));
    if n_users == 0 {
        warnings.extend(all_forced(computation.forced_users));
    }
    warnings.extend(too_many_variants(computation.unknown_variant));
    warnings.extend(too_many_event_types(computation.not_aggregated));
}

/// Warns about a number of users or events if it is not 0. `name` names them.
fn counted(
    (name, count): (&str, u64),
    (severity, code): (Severity, &str),
    message: String,
    action: &str,
) -> Option<Warning> {
    (count > 0).then(|| {
        Warning::new(severity, code, message)
            .action(action)
            .count(name, count)
    })
}

fn crossovers(n_users: u64, n_crossovers: u64) -> Option<Warning> {
    let share = n_crossovers as f64 / (n_users + n_crossovers).max(1) as f64;
    let percent = share * 100.0;
    let warning = counted(
        ("users", n_crossovers),
        (Severity::Warning, "crossovers"),
        format!("{n_crossovers} users ({percent:.1} %) saw more than one variant"),
        "assignment is not stable; assign by an id that stays with the user",
    );
    warning
        .filter(|_| share > CROSSOVER_SHARE)
        .map(|warning| warning.number("share", share))
}

fn exposed_at_weight_0<'a>(
    definition: &'a Definition,
    computation: &'a Computation,
) -> impl Iterator<Item = Warning> + 'a {
    let weightless = definition
        .variants
        .iter()
        .filter(|declared| declared.weight == 0.0);
    weightless.filter_map(|declared| {
        let is_same = |row: &&VariantExposures| row.variant == declared.variant.as_str();
        let n_users = (computation.exposures.iter().find(is_same)).map_or(0, |row| row.user_count);
        counted(
            ("users", n_users),
            (Severity::Error, "exposed_at_weight_0"),
            format!(
                "{n_users} users saw `{}`, whose weight is 0, so that nobody is assigned it",
                declared.variant
            ),
            "the application decides by other rules than this experiment; mark exposures that a person chose as forced",
        )
    })
}

fn all_forced(n_users: u64) -> Option<Warning> {
    counted(
        ("users", n_users),
        (Severity::Error, "all_forced"),
        format!("all {n_users} users were forced into their variant, so none counts"),
        "mark only those exposures as forced that a tester chose",
    )
}

fn too_many_variants(n_users: u64) -> Option<Warning> {
    counted(
        ("users", n_users),
        (Severity::Warning, "too_many_variants"),
        format!("{n_users} users are left out: their variants exceed the limit of undeclared ones"),
        "check what the application sends as the variant",
    )
}

fn too_many_event_types(n_events: u64) -> Option<Warning> {
    counted(
        ("events", n_events),
        (Severity::Warning, "too_many_event_types"),
        format!(
            "{n_events} events are kept but not aggregated: their types exceed the limit of undeclared ones"
        ),
        "name the metrics that matter in the experiment",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_users_that_hashes_may_be_shared_are_told_of() {
        assert!(shared_hashes(600_000_000).is_none());
        let warning = shared_hashes(1_000_000_000).unwrap();
        let said = warning.text();
        assert!(said.contains("odds of about 2.7 %"), "{said}");
        assert!(
            shared_hashes(u64::MAX)
                .unwrap()
                .text()
                .contains("about 100.0 %")
        );
    }
}
