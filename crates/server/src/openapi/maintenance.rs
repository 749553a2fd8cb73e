//! Backup, verification, export and erasure in the document.

use axum::http::{Method, StatusCode};
use serde_json::json;
use trialog_model::event::{EventKind, MAX_USER_ID_BYTES};
use trialog_model::ids::ExperimentId;

use super::operation::Operation;
use super::schema::{
    Schema, boolean, chars, closed, count, field, integer, list, name, nullable, object, one_of,
    reference, text, time, with,
};

pub(super) fn operations() -> Vec<Operation> {
    vec![backup(), verify(), export(), retain(), forget(), erasures()]
}

fn backup() -> Operation {
    let request = object([field(
        "directory",
        text(),
        "Where to, below the server's directory for backups.",
    )]);
    let path = "/v1/backup";
    Operation::new(
        Method::POST,
        path,
        "makeBackup",
        "Makes a backup while serving",
    )
    .tag("maintenance")
    .body(closed(request), json!({ "directory": "nightly" }))
    .answer(StatusCode::OK, reference("BackupReport"), "It is made.")
    .problems(&[409])
}

fn verify() -> Operation {
    let path = "/v1/verify";
    Operation::new(Method::GET, path, "verifyData", "Verifies all data")
        .tag("maintenance")
        .describe("One JSON object per line: `progress` for each step; the last one has the `report` (a VerifyReport) or an `error`.")
        .answer_as(StatusCode::OK, "application/x-ndjson", "The verification.")
}

fn export() -> Operation {
    let tables: Vec<&str> = (EventKind::ALL.iter().map(|kind| kind.plural()))
        .chain(["results"])
        .collect();
    let format = with(one_of(&["parquet", "csv"]), "default", "parquet");
    let path = "/v1/export/{table}";
    Operation::new(
        Method::GET,
        path,
        "exportTable",
        "Exports events or results",
    )
    .tag("maintenance")
    .describe("In events `user_id` is the id that was sent, as text, and `user_key` the number that it is stored under; where the text is not known, both are the number.")
    .segment("table", one_of(&tables), "results", "What to export.")
    .query("format", format, "The form of the file.")
    .queries(
        "experiment",
        name(ExperimentId::MAX_CHARS),
        "Only these experiments.",
    )
    .query(
        "formulas",
        with(one_of(&["escaped", "kept"]), "default", "escaped"),
        "Whether texts in CSV that a spreadsheet would compute get an apostrophe in front.",
    )
    .query("from", time(), "Only what is at or after this time.")
    .query(
        "to",
        time(),
        "Only what is before this time, which is after `from`.",
    )
    .answer_as(
        StatusCode::OK,
        "application/vnd.apache.parquet",
        "The file.",
    )
    .answer_as(StatusCode::OK, "text/csv", "The file.")
    .answer_header(
        StatusCode::OK,
        "Content-Disposition",
        "The name of the file.",
    )
    .problems(&[404, 422])
}

fn forget() -> Operation {
    let path = "/v1/users/{user}";
    Operation::new(
        Method::DELETE,
        path,
        "forgetUser",
        "Removes every event of a user, for good",
    )
    .tag("maintenance")
    .describe("The results without the user are published before the answer.")
    .segment(
        "user",
        chars(1, MAX_USER_ID_BYTES),
        "u-1",
        "The user id as in events, percent-encoded.",
    )
    .query(
        "experiment",
        name(ExperimentId::MAX_CHARS),
        "Only events of this experiment.",
    )
    .answer(
        StatusCode::OK,
        reference("ForgetReport"),
        "What was removed.",
    )
}

fn retain() -> Operation {
    let dry_run = with(boolean(), "default", false);
    let path = "/v1/retention/apply";
    Operation::new(
        Method::POST,
        path,
        "applyRetention",
        "Drops events that are older than they are kept",
    )
    .tag("maintenance")
    .describe("Experiments that lose events keep their results as they are.")
    .query(
        "dry_run",
        dry_run,
        "Whether nothing is changed, and the answer says what would be.",
    )
    .query(
        "confirm",
        with(boolean(), "default", false),
        "Whether they are dropped even where that is more than `drop_at_most` lets go at once, or the clock may have jumped.",
    )
    .answer(
        StatusCode::OK,
        reference("RetentionReport"),
        "What was dropped.",
    )
    .problems(&[409])
}

fn erasures() -> Operation {
    let path = "/v1/erasures";
    Operation::new(
        Method::GET,
        path,
        "listErasures",
        "Lists what was erased, newest first",
    )
    .tag("maintenance")
    .query(
        "user",
        text(),
        "Only erasures of this user, whose id is text as in events: whether somebody was erased.",
    )
    .answer(
        StatusCode::OK,
        reference("Erasures"),
        "The last 1,000 erasures.",
    )
}

pub(super) fn schemas() -> Vec<(&'static str, Schema)> {
    vec![
        ("BackupReport", backup_report()),
        ("VerifyReport", verify_report()),
        ("ForgetReport", forget_report()),
        ("RetentionReport", retention_report()),
        (
            "Erasures",
            object([field(
                "erasures",
                list(reference("Erasure")),
                "The erasures.",
            )]),
        ),
        ("Erasure", erasure()),
    ]
}

fn backup_report() -> Schema {
    object([
        field("directory", text(), "Where it is."),
        field("created_at", time(), "The moment that it holds."),
        field("position", count(), "The position of events that it holds."),
        field(
            "published_position",
            count(),
            "The position that its results cover.",
        ),
        field("files", count(), "Its files."),
        field("bytes", count(), "Their size."),
        field(
            "linked_bytes",
            count(),
            "The part of it that shares its place with the data directory.",
        ),
    ])
}

fn verify_report() -> Schema {
    let damage = object([
        field("part", text(), "The part of the data."),
        field("message", text(), "What is wrong, and how to mend it."),
    ]);
    let skipped = object([
        field("experiment", text(), "The experiment."),
        field("reason", text(), "Why its results were not compared."),
    ]);
    object([
        field("sound", boolean(), "Whether nothing is damaged."),
        field("damage", list(damage), "What is damaged."),
        field(
            "notes",
            list(text()),
            "What is worth knowing and no damage.",
        ),
        field("position", count(), "The position of events."),
        field(
            "published_position",
            count(),
            "The position that results cover.",
        ),
        field("runs", count(), "Files of events that were read."),
        field("run_bytes", count(), "Their size."),
        field(
            "inbox_entries",
            count(),
            "Entries of the inbox that were read.",
        ),
        field(
            "recomputed",
            count(),
            "Experiments whose results were recomputed and are equal.",
        ),
        field(
            "skipped",
            list(skipped),
            "Some of those that were not compared.",
        ),
        field("n_skipped", count(), "How many those are."),
    ])
}

fn forget_report() -> Schema {
    object([
        field(
            "erasure_id",
            integer(1),
            "The entry in the audit of erasures.",
        ),
        field(
            "events",
            count(),
            "Events that were removed, copies included.",
        ),
        field(
            "experiments",
            list(text()),
            "Experiments that had some of them.",
        ),
        field("runs_rewritten", count(), "Files that were written anew."),
        field("runs_dropped", count(), "Files of which nothing remained."),
        field(
            "recomputed",
            nullable(reference("RunReport")),
            "The run that published the results without the user; null where there was nothing to recompute.",
        ),
        field("notes", list(text()), "What else has to be done."),
    ])
}

fn retention_report() -> Schema {
    let by_experiment = json!({ "type": "object", "additionalProperties": count() });
    object([
        field(
            "before",
            nullable(time()),
            "Events before this time are dropped; null where all are kept.",
        ),
        field("dry_run", boolean(), "Whether nothing was changed."),
        field(
            "events",
            count(),
            "Events that were dropped, copies included.",
        ),
        field("experiments", by_experiment, "The same by experiment."),
        field("runs_rewritten", count(), "Files that were written anew."),
        field("runs_dropped", count(), "Files of which nothing remained."),
    ])
}

fn erasure() -> Schema {
    object([
        field("erasure_id", integer(1), "Its number."),
        field("requested_at", time(), "When it began."),
        field(
            "finished_at",
            nullable(time()),
            "When all was removed; null where the process ended before.",
        ),
        field("actor", text(), "Who asked."),
        field("salt", text(), "What was hashed together with the user."),
        field(
            "user_hash",
            text(),
            "HMAC-SHA256 of the salt and the user with a key that never leaves the catalog.",
        ),
        field(
            "experiment",
            nullable(text()),
            "The one experiment; null for all.",
        ),
        field("events", count(), "Events that were removed."),
        field("experiments", count(), "Experiments that had some of them."),
    ])
}
