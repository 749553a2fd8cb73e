//! How much memory reading events out of ClickHouse takes, here and on the server.
//!
//! Run by `bench/stream_memory`, which starts a server of its own: what is measured is the most
//! that each process held, by `/proc`.
#![cfg(feature = "clickhouse")]
#![expect(clippy::unwrap_used, reason = "a failing helper fails its test")]
#![expect(
    clippy::disallowed_methods,
    reason = "the variables are the tests' own"
)]
#![expect(clippy::print_stdout, reason = "the measurements are printed")]

use std::fs;
use std::time::Instant;

use trialog_model::duration::Window;
use trialog_model::event::EventKind;
use trialog_model::ids::ExperimentId;
use trialog_warehouse::WarehouseError;
use trialog_warehouse::analysis::scorecard::{MetricPlan, Scorecard, Shape};
use trialog_warehouse::clickhouse::{Address, ClickHouse};
use trialog_warehouse::export::Selection;
use trialog_warehouse::fold::split::Split;
use trialog_warehouse::fold::{Names, Plan, UserFilter};
use trialog_warehouse::view::View;

const START: i64 = 1_760_000_000_000_000;
const EVENTS_PER_USER: u64 = 10;
/// What the fold may hold beyond what the process held before: blocks, buffers, sums.
const MOST_BYTES: u64 = 128 << 20;

/// The most memory that a process held since [`begin`], and what it holds now.
fn memory(process: &str) -> (u64, u64) {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let field = |name: &str| -> u64 {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        kib * 1_024
    };
    (field("VmHWM:"), field("VmRSS:"))
}

fn begin(process: &str) -> u64 {
    fs::write(format!("/proc/{process}/clear_refs"), "5").unwrap();
    memory(process).1
}

/// Does `work`, and prints how long it took and how much memory; gives how much this process took.
fn measured<T>(what: &str, server: &str, work: impl FnOnce() -> T) -> (T, u64) {
    let before = [begin("self"), begin(server)];
    let started = Instant::now();
    let outcome = work();
    let [here, there] = ["self", server].map(|process| memory(process).0 >> 20);
    println!(
        "{what:26} {:6.1} s   here {here:5} MiB (before {:5})   server {there:5} MiB (before {:5})",
        started.elapsed().as_secs_f64(),
        before[0] >> 20,
        before[1] >> 20
    );
    (outcome, (here << 20).saturating_sub(before[0]))
}

fn fill(server: &ClickHouse, n_users: u64) {
    server.execute_in_tests(&format!(
        "INSERT INTO assignments (experiment_id, user_id, assigned_at, variant, forced, event_id, context, user_text, batch)
         SELECT 'memory', toInt64(cityHash64(number)), fromUnixTimestamp64Micro({START} + toInt64(number)),
             if(number % 2 = 0, 'a', 'b'), 0, toInt64(number), '{{\"platform\":\"ios\"}}', concat('user-', toString(number)), 1
         FROM numbers({n_users})"
    ));
    for part in 0..EVENTS_PER_USER {
        server.execute_in_tests(&format!(
            "INSERT INTO metric_events (experiment_id, user_id, occurred_at, event_type, value, event_id, batch)
             SELECT 'memory', toInt64(cityHash64(number)), fromUnixTimestamp64Micro({START} + toInt64(number) + {part} * 1000000),
                 'buy', toDecimal64({part}, 4), toInt64(number * {EVENTS_PER_USER} + {part}), 2
             FROM numbers({n_users})"
        ));
    }
}

#[test]
#[ignore = "minutes long; bench/stream_memory runs it"]
fn reading_millions_of_events_takes_bounded_memory() {
    let variable = |name: &str| std::env::var(name).unwrap();
    let address: Address = variable("TRIALOG_TEST_CLICKHOUSE").parse().unwrap();
    let pid = variable("TRIALOG_TEST_CLICKHOUSE_PID");
    let n_users: u64 = variable("TRIALOG_STREAM_USERS").parse().unwrap();
    let server = ClickHouse::connect(address).unwrap();
    measured("insert", &pid, || fill(&server, n_users));
    let view = View::from(server.view(2, Vec::new()));
    let names = |names: &[&str]| Names::new(names.iter().map(|name| (*name).to_owned()));
    let plan = Plan {
        experiment: ExperimentId::new("memory").unwrap(),
        within: None..None,
        variants: names(&["a", "b"]),
        event_types: names(&["buy"]),
        data_time: i64::MAX,
        filter: UserFilter::default(),
        left_out: None,
        exposures: None,
        split: Split::Whole,
        n_rows: n_users * (EVENTS_PER_USER + 1),
    };
    let metrics = [vec![MetricPlan {
        name: "buy".to_owned(),
        event_type: 0,
        window: Window::UNBOUNDED,
        delay: 0,
        min_value: None,
        shape: Shape::Plain,
    }]];
    let plans = [plan];
    let mut sums = Vec::new();
    for n_threads in [1, 2] {
        let what = format!("scorecard, stream, {n_threads} thr.");
        let (answers, n_bytes) = measured(&what, &pid, || {
            view.fold::<Scorecard>(&plans, &metrics, n_threads).unwrap()
        });
        assert!(n_bytes < MOST_BYTES, "{n_bytes} bytes");
        sums.push(*answers[0].as_ref().unwrap().accumulator.sums(0, 0));
    }
    let (answers, _) = measured("scorecard, SQL", &pid, || {
        view.run::<Scorecard>(&plans, &metrics, 1).unwrap()
    });
    sums.push(*answers[0].as_ref().unwrap().accumulator.sums(0, 0));
    assert_eq!(sums[0].events, n_users / 2 * EVENTS_PER_USER);
    assert!(sums.iter().all(|other| *other == sums[0]), "{sums:?}");
    for kind in EventKind::ALL {
        let ((), n_bytes) = measured(&format!("export {}", kind.plural()), &pid, || {
            let mut n_rows = 0;
            view.each_event(
                kind,
                &Selection::default(),
                |_| -> Result<(), WarehouseError> {
                    n_rows += 1;
                    Ok(())
                },
            )
            .unwrap();
            let per_user = match kind {
                EventKind::Assignment => 1,
                EventKind::Metric => EVENTS_PER_USER,
            };
            assert_eq!(n_rows, n_users * per_user);
        });
        assert!(n_bytes < MOST_BYTES, "{n_bytes} bytes");
    }
}
