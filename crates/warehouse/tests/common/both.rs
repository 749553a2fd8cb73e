//! The same events in both warehouses, and the same answers out of them.

use std::fmt::Debug;
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use trialog_model::event::EventKind;
use trialog_warehouse::analysis::Analysis;
use trialog_warehouse::batch::Batch;
use trialog_warehouse::clickhouse::{Address, ClickHouse};
use trialog_warehouse::embedded::{Options, Warehouse};
use trialog_warehouse::fold::Plan;
use trialog_warehouse::view::View;

use crate::harness::{Event, open, store};

/// Numbers the databases of this process.
static N_DATABASES: AtomicU64 = AtomicU64::new(0);

/// An empty database; none where there is no server to ask.
pub(crate) fn database() -> Option<ClickHouse> {
    address().map(|address| ClickHouse::connect(address).unwrap())
}

/// The address of a database without tables; none where there is no server to ask.
pub(crate) fn address() -> Option<Address> {
    let Ok(url) = std::env::var("TRIALOG_TEST_CLICKHOUSE") else {
        // Past what the test harness captures, so that it is seen.
        let said =
            b"not run: TRIALOG_TEST_CLICKHOUSE is not set; scripts/services start prints it\n";
        std::io::stderr().write_all(said).unwrap();
        return None;
    };
    let number = N_DATABASES.fetch_add(1, Ordering::Relaxed);
    let name = format!("test_{}_{number}", std::process::id());
    let address: Address = url.parse().unwrap();
    let create = format!("CREATE DATABASE {name}");
    ClickHouse::connect(address)
        .unwrap()
        .execute_in_tests(&create);
    let (server, _) = url.rsplit_once('/').unwrap();
    Some(format!("{server}/{name}").parse().unwrap())
}

/// Inserts events, `n_at_once` in a batch of each kind, and gives the last number.
pub(crate) fn insert(clickhouse: &ClickHouse, events: &[Event], n_at_once: usize) -> u64 {
    let mut number = 0;
    for events in events.chunks(n_at_once) {
        for kind in EventKind::ALL {
            let mut batch = Batch::new(kind);
            (events.iter().filter(|event| event.0 == kind)).for_each(|(_, row)| batch.push(row));
            if !batch.is_empty() {
                number += 1;
                clickhouse.insert(&batch, number).unwrap();
            }
        }
    }
    number
}

/// The same events in both warehouses.
pub(crate) struct Both {
    pub(crate) embedded: View,
    pub(crate) clickhouse: View,
    _warehouse: Warehouse,
    _directory: tempfile::TempDir,
}

impl Both {
    /// Stores `events`, in ClickHouse `n_at_once` in a batch of each kind.
    pub(crate) fn store(events: &[Event], n_at_once: usize) -> Self {
        let server = database().unwrap();
        let last = insert(&server, events, n_at_once);
        let directory = tempfile::tempdir().unwrap();
        let warehouse = open(directory.path(), &Options::default(), 0).unwrap();
        store(&warehouse, events);
        Self {
            embedded: warehouse.snapshot().into(),
            clickhouse: server.view(last, Vec::new()).into(),
            _warehouse: warehouse,
            _directory: directory,
        }
    }

    /// Checks that both warehouses give the same answers: folded out of files, folded out of
    /// ClickHouse's stream, and as SQL where the analysis has it. `comparable` takes of an
    /// answer what has to be equal; it is given for each plan, none where a sum overflows.
    pub(crate) fn both_warehouses_agree<A: Analysis, C: PartialEq + Debug>(
        &self,
        plans: &[Plan],
        questions: &[A::Question],
        comparable: impl Fn(A::Answer) -> C,
    ) -> Result<Vec<Option<C>>, TestCaseError> {
        let compared = |answers: trialog_warehouse::analysis::Answers<A>| -> Vec<Option<C>> {
            let answers = answers.into_iter();
            answers.map(|answer| answer.ok().map(&comparable)).collect()
        };
        let expected = compared(self.embedded.run::<A>(plans, questions, 1).unwrap());
        // Plans that pretend to be large are cut by users.
        let large = |n_rows| -> Vec<Plan> {
            let plans = plans.iter().cloned();
            plans.map(|plan| Plan { n_rows, ..plan }).collect()
        };
        let streamed = self.clickhouse.fold::<A>(plans, questions, 1).unwrap();
        prop_assert_eq!(&compared(streamed), &expected, "the stream");
        let in_pieces = (self.clickhouse).fold::<A>(&large(5_000_000), questions, 2);
        prop_assert_eq!(
            &compared(in_pieces.unwrap()),
            &expected,
            "the stream in pieces"
        );
        let run = self.clickhouse.run::<A>(plans, questions, 1).unwrap();
        prop_assert_eq!(&compared(run), &expected, "SQL");
        let in_pieces = (self.clickhouse).run::<A>(&large(25_000_000), questions, 2);
        prop_assert_eq!(&compared(in_pieces.unwrap()), &expected, "SQL in pieces");
        Ok(expected)
    }
}
