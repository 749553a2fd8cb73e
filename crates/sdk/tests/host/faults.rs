//! What a network, a disk and a clock may do.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use trialog_sdk::{
    Batch, Context, Delivery, EventKind, FileTransport, HttpTransport, MemoryTransport, Observer,
    Transport, UnixMicros,
};

use crate::sink::{Mood, Sink};
use crate::{LONG, assert_adds_up, builder};

#[test]
fn a_server_that_fails_is_tried_until_it_is_well() {
    let moods = [
        Mood::Status(500),
        Mood::Status(503),
        Mood::Status(429),
        Mood::Status(401),
        Mood::Status(302),
        Mood::Status(204),
        Mood::Garbage,
        Mood::Noise,
        Mood::HangsUp,
        Mood::Silent,
    ];
    for mood in moods {
        let sink = Sink::new(mood);
        let client = builder()
            .transport(HttpTransport::new(&sink.address, None))
            .timeout(Duration::from_millis(200))
            .build()
            .unwrap();
        for unit in 0..50 {
            client.assign(&unit.to_string(), "gate", &Context::new());
        }
        sink.wait_for_requests(2);
        let counters = client.counters();
        assert_adds_up(&counters);
        assert_eq!((counters.delivered, counters.queued), (0, 50), "{mood:?}");
        sink.be(Mood::Well);
        let report = client.flush(LONG);
        assert_eq!(
            (report.delivered, report.dropped, report.queued),
            (50, 0, 0),
            "{mood:?}"
        );
        assert!(client.counters().retries > 0);
        assert_eq!(sink.events().len(), 50, "{mood:?}");
    }
}

#[test]
fn a_dead_sink_fills_the_buffer_and_the_newest_are_dropped() {
    let addresses = ["http://127.0.0.1:1", "http://no.such.host.invalid"];
    for address in addresses {
        let client = builder()
            .transport(HttpTransport::new(address, None))
            .buffer(1_000, 1 << 20)
            .build()
            .unwrap();
        for unit in 0..3_000 {
            client.log_metric(&unit.to_string(), &Context::new(), "purchase", 1);
        }
        let report = client.shutdown(Duration::from_millis(50));
        let counters = client.counters();
        assert_adds_up(&counters);
        assert_eq!(counters.offered, 3_000);
        assert_eq!(counters.delivered, 0);
        // Those on their way stand beside a full buffer.
        assert!((1_000..=1_100).contains(&report.queued), "{counters:?}");
        assert_eq!(counters.dropped.full, 3_000 - report.queued);
    }
}

#[test]
fn the_bytes_that_wait_are_bounded_too() {
    let client = builder()
        .transport(HttpTransport::new("http://127.0.0.1:1", None))
        .buffer(1 << 20, 1 << 16)
        .batches(1, LONG)
        .build()
        .unwrap();
    let unit = "u".repeat(1_000);
    for n in 0..1_000 {
        client.log_metric(&format!("{unit}{n}"), &Context::new(), "purchase", 1);
    }
    let counters = client.counters();
    assert_adds_up(&counters);
    assert!(counters.queued <= 66, "{counters:?}");
    assert_eq!(counters.dropped.full + counters.queued, 1_000);
}

#[test]
fn a_full_disk_is_tried_until_there_is_room() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("assignments.ndjson");
    // Every write to this device fails for want of room.
    std::os::unix::fs::symlink("/dev/full", &file).unwrap();
    let retries = Arc::new(Retries::default());
    let client = builder()
        .transport(FileTransport::new(directory.path()))
        .observer(Arc::clone(&retries) as Arc<dyn Observer>)
        .build()
        .unwrap();
    for unit in 0..50 {
        client.assign(&unit.to_string(), "gate", &Context::new());
    }
    retries.wait();
    assert_adds_up(&client.counters());
    assert_eq!(client.counters().queued, 50);
    std::fs::remove_file(&file).unwrap();
    assert_eq!(client.flush(LONG).delivered, 50);
    assert_eq!(std::fs::read_to_string(&file).unwrap().lines().count(), 50);
}

/// Counts retries.
#[derive(Default)]
struct Retries(std::sync::Mutex<usize>, std::sync::Condvar);

impl Retries {
    fn wait(&self) {
        let n = self.0.lock().unwrap();
        drop(self.1.wait_while(n, |n| *n < 2).unwrap());
    }
}

impl Observer for Retries {
    fn retrying(&self, _: EventKind, _: u64, _: Duration, _: &str) {
        *self.0.lock().unwrap() += 1;
        self.1.notify_all();
    }
}

#[test]
fn sixty_four_threads_lose_nothing_that_is_not_counted() {
    let sink = Sink::new(Mood::Well);
    let client = builder()
        .transport(HttpTransport::new(&sink.address, None))
        .buffer(2_000, 1 << 20)
        .build()
        .unwrap();
    std::thread::scope(|scope| {
        for thread in 0..64 {
            let client = &client;
            scope.spawn(move || {
                for n in 0..1_000 {
                    let unit = format!("{thread}-{n}");
                    client.assign(&unit, "gate", &Context::new());
                    client.log_metric(&unit, &Context::new(), "purchase", n);
                }
            });
        }
    });
    let report = client.shutdown(LONG);
    let counters = client.counters();
    assert_adds_up(&counters);
    assert_eq!((counters.offered, report.queued), (128_000, 0));
    assert_eq!(
        sink.events().len() as u64,
        counters.delivered,
        "each with an id of its own"
    );
}

#[test]
fn a_client_that_is_dropped_sends_what_waits_in_the_background() {
    let sink = Sink::new(Mood::Well);
    let client = builder()
        .transport(HttpTransport::new(&sink.address, None))
        .batches(10_000, LONG)
        .build()
        .unwrap();
    for unit in 0..50 {
        client.assign(&unit.to_string(), "gate", &Context::new());
    }
    drop(client);
    sink.wait_for_events(50);
}

#[test]
fn a_clock_that_jumps_back_makes_no_event_a_copy() {
    let readings = Arc::new(AtomicI64::new(0));
    let clock = Arc::clone(&readings);
    let events = MemoryTransport::new();
    let client = builder()
        .transport(events.clone())
        .clock(Arc::new(move || {
            let n = clock.fetch_add(1, Ordering::Relaxed);
            // A year back, and before 1970, now and then.
            UnixMicros(match n % 3 {
                0 => 1_760_000_000_000_000,
                1 => 1_730_000_000_000_000,
                _ => -1,
            })
        }))
        .build()
        .unwrap();
    for unit in 0..300 {
        client.assign(&unit.to_string(), "gate", &Context::new());
    }
    assert_eq!(client.shutdown(LONG).delivered, 300);
    let ids: BTreeSet<String> = (events.take().iter())
        .map(|event| event["event_id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(ids.len(), 300);
}

#[test]
fn events_that_a_server_refuses_are_counted_and_the_others_are_kept() {
    let sink = Sink::new(Mood::Picky);
    let client = builder()
        .transport(HttpTransport::new(&sink.address, None))
        .build()
        .unwrap();
    for unit in 0..30 {
        client.log_metric_for(
            "gate",
            &unit.to_string(),
            if unit % 3 == 0 { "bad" } else { "good" },
            1,
        );
    }
    client.flush(LONG);
    // All of them bad, which is another status.
    client.log_metric_for("gate", "1", "bad", 1);
    let report = client.shutdown(LONG);
    assert_eq!(
        (report.delivered, report.dropped, report.queued),
        (20, 11, 0)
    );
    assert_eq!(client.counters().dropped.refused, 11);
    assert_adds_up(&client.counters());
}

#[test]
fn a_batch_that_is_too_large_goes_in_halves() {
    let sink = Sink::new(Mood::Small(7));
    let client = builder()
        .transport(HttpTransport::new(&sink.address, None))
        .batches(100, LONG)
        .build()
        .unwrap();
    for unit in 0..100 {
        client.assign(&unit.to_string(), "gate", &Context::new());
    }
    assert_eq!(client.flush(LONG).delivered, 100);
    sink.be(Mood::Small(0));
    client.assign("another", "gate", &Context::new());
    let report = client.shutdown(LONG);
    assert_eq!((report.delivered, report.dropped), (100, 1));
    assert_adds_up(&client.counters());
}

#[test]
fn a_flush_delivers_what_the_sink_takes_in_time_and_tells_the_rest() {
    /// Takes one batch at each permit.
    struct Slow(std::sync::mpsc::Receiver<()>);
    impl Transport for Slow {
        fn send(&mut self, _: EventKind, _: &Batch, timeout: Duration) -> Delivery {
            match self.0.recv_timeout(timeout) {
                Ok(()) => Delivery::taken(),
                Err(_) => Delivery::failed("too slow"),
            }
        }
    }
    let (permit, permits) = std::sync::mpsc::channel();
    let client = builder()
        .transport(Slow(permits))
        .batches(10, LONG)
        .timeout(LONG)
        .build()
        .unwrap();
    for unit in 0..100 {
        client.assign(&unit.to_string(), "gate", &Context::new());
    }
    for _ in 0..3 {
        permit.send(()).unwrap();
    }
    while client.counters().delivered < 30 {
        std::thread::yield_now();
    }
    let report = client.flush(Duration::from_millis(50));
    assert_eq!((report.delivered, report.queued), (30, 70));
    for _ in 0..7 {
        permit.send(()).unwrap();
    }
    let report = client.shutdown(LONG);
    assert_eq!((report.delivered, report.queued), (100, 0));
}

#[test]
fn after_a_shutdown_assignments_go_on_and_events_are_dropped_and_counted() {
    let events = MemoryTransport::new();
    let client = builder().transport(events.clone()).build().unwrap();
    client.assign("1", "gate", &Context::new());
    assert_eq!(client.shutdown(LONG).delivered, 1);
    assert!(
        client
            .assign("2", "gate", &Context::new())
            .variant()
            .is_some()
    );
    let counters = client.counters();
    assert_eq!(counters.dropped.closed, 1);
    assert_adds_up(&counters);
    assert_eq!(
        client.shutdown(LONG).delivered,
        1,
        "a second shutdown is none"
    );
    assert_eq!(events.take().len(), 1);
}

#[test]
fn a_shutdown_ends_in_time_while_a_transport_hangs() {
    let sink = Sink::new(Mood::Silent);
    let client = builder()
        .transport(HttpTransport::new(&sink.address, None))
        .timeout(LONG)
        .build()
        .unwrap();
    client.assign("1", "gate", &Context::new());
    sink.wait_for_requests(1);
    let report = client.shutdown(Duration::from_millis(100));
    assert_eq!((report.delivered, report.queued), (0, 1));
    assert_adds_up(&client.counters());
}

#[test]
fn transports_and_observers_that_panic_do_not_end_the_client() {
    struct Panics(AtomicUsize);
    impl Transport for Panics {
        fn send(&mut self, _: EventKind, _: &Batch, _: Duration) -> Delivery {
            assert!(
                self.0.fetch_add(1, Ordering::SeqCst) > 2,
                "as the test wishes"
            );
            Delivery::taken()
        }
    }
    impl Observer for Panics {
        fn delivered(&self, _: EventKind, _: u64, _: Duration) {
            panic!("as the test wishes");
        }
        fn configured(&self, _: usize) {
            panic!("as the test wishes");
        }
    }
    let client = builder()
        .transport(Panics(AtomicUsize::new(0)))
        .observer(Arc::new(Panics(AtomicUsize::new(0))))
        .build()
        .unwrap();
    for unit in 0..50 {
        client.assign(&unit.to_string(), "gate", &Context::new());
        client.flush(LONG);
    }
    let report = client.shutdown(LONG);
    assert_eq!((report.delivered, report.queued), (50, 0));
    assert_eq!(client.counters().retries, 3);
}
