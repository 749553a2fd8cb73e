//! What every test of the warehouse needs: open one, store events, wait.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::channel;

use trialog_model::event::EventKind;
use trialog_warehouse::batch::{Batch, EventRow};
use trialog_warehouse::embedded::{Options, Submission, Warehouse};
use trialog_warehouse::lock::DirectoryLock;
use trialog_warehouse::{SourceMark, WarehouseError};

/// An event whose texts are literals.
pub(crate) type Event = (EventKind, EventRow<'static>);

/// An assignment event with the forced flag 0 and no context.
pub(crate) fn assigned(
    experiment: &'static str,
    user: i64,
    timestamp: i64,
    variant: &'static str,
    event_id: i64,
) -> Event {
    let row = EventRow {
        experiment,
        user,
        timestamp,
        name: variant,
        value: 0,
        event_id,
        context: "",
        user_text: "",
    };
    (EventKind::Assignment, row)
}

/// A metric event of the type `buy`.
pub(crate) fn bought(
    experiment: &'static str,
    user: i64,
    timestamp: i64,
    value: i64,
    event_id: i64,
) -> Event {
    let row = EventRow {
        experiment,
        user,
        timestamp,
        name: "buy",
        value,
        event_id,
        context: "",
        user_text: "",
    };
    (EventKind::Metric, row)
}

/// Opens `directory`, whose results were published up to the position `published`.
pub(crate) fn open(
    directory: &Path,
    options: &Options,
    published: u64,
) -> Result<Warehouse, WarehouseError> {
    Warehouse::open(
        directory,
        DirectoryLock::acquire(directory)?,
        options.clone(),
        published,
    )
}

/// Stores `events` and waits until they are durable.
pub(crate) fn store(warehouse: &Warehouse, events: &[Event]) {
    try_store(warehouse, events, None).unwrap();
}

/// Stores `events` as one submission of each kind, the mark with each, and
/// waits for the outcome.
pub(crate) fn try_store(
    warehouse: &Warehouse,
    events: &[Event],
    mark: Option<&SourceMark>,
) -> Result<(), Arc<WarehouseError>> {
    let (done, outcomes) = channel();
    for kind in EventKind::ALL {
        let mut batch = Batch::new(kind);
        events
            .iter()
            .filter(|event| event.0 == kind)
            .for_each(|(_, row)| batch.push(row));
        let done = done.clone();
        let reply = Box::new(move |outcome| {
            done.send(outcome)
                .expect("the test waits for every outcome")
        });
        warehouse
            .submit(Submission {
                batch,
                mark: mark.cloned(),
                received_at: 0,
                reply,
            })
            .unwrap();
    }
    drop(done);
    // Wait for all of them, also after one that failed.
    let outcomes: Vec<_> = outcomes.into_iter().collect();
    outcomes.into_iter().collect()
}
