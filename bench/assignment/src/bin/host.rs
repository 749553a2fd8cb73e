//! What calls cost their host while the other side misbehaves: 64 threads at once.
//!
//! Prints the time of a call at the median, the 99th and the 99.9th percentile and the
//! longest one, and checks that the counters add up.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use trialog_sdk::{Batch, Builder, Client, Context, Delivery, EventKind, FileTransport, HttpTransport, Transport, UnixMicros};

const N_THREADS: usize = 64;
const N_CALLS: usize = 20_000;

/// Takes a batch in this time.
struct Slow(Duration);

impl Transport for Slow {
    fn send(&mut self, _: EventKind, _: &Batch, _: Duration) -> Delivery {
        std::thread::sleep(self.0);
        Delivery::taken()
    }
}

/// Answers at once that it cannot.
struct Fails(Option<Duration>);

impl Transport for Fails {
    fn send(&mut self, _: EventKind, _: &Batch, _: Duration) -> Delivery {
        Delivery::Failed { reason: "500".to_owned(), wait: self.0 }
    }
}

fn builder() -> Builder {
    let rules = r#"{"experiments": [{"experiment_id": "gate", "event_types": ["purchase"], "variants": [{"variant": "a"}, {"variant": "b"}]}]}"#;
    Client::builder().configuration(rules)
}

fn main() {
    let full = std::env::temp_dir().join(format!("trialog-host-{}", std::process::id()));
    std::fs::create_dir_all(&full).expect("a directory");
    for kind in ["assignments", "metrics"] {
        std::os::unix::fs::symlink("/dev/full", full.join(format!("{kind}.ndjson"))).expect("a link");
    }
    let readings = Arc::new(AtomicI64::new(0));
    let jumping = Arc::new(move || {
        let n = readings.fetch_add(1, Ordering::Relaxed);
        UnixMicros(1_700_000_000_000_000 - n % 1_000 * 86_400_000_000)
    });
    let cases: [(&str, Builder); 8] = [
        ("well", builder().transport(Slow(Duration::ZERO))),
        ("slow", builder().transport(Slow(Duration::from_secs(2)))),
        ("answers 500", builder().transport(Fails(None))),
        ("answers 429", builder().transport(Fails(Some(Duration::from_secs(30))))),
        ("dead", builder().transport(HttpTransport::new("http://127.0.0.1:1", None))),
        ("no name", builder().transport(HttpTransport::new("http://no.such.host.invalid", None))),
        ("disk full", builder().transport(FileTransport::new(&full))),
        ("clock jumps", builder().transport(Slow(Duration::ZERO)).clock(jumping)),
    ];
    println!("{:<12} {:>9} {:>9} {:>9} {:>9}  {N_THREADS} threads, {N_CALLS} calls each", "sink", "p50 ns", "p99 ns", "p99.9 ns", "most µs");
    for (name, builder) in cases {
        measure(name, &builder.build().expect("a client"));
    }
    std::fs::remove_dir_all(&full).expect("it is there");
}

fn measure(name: &str, client: &Client) {
    let context = Context::new().with("platform", "ios");
    let of_thread = |thread: usize| {
        let mut times = Vec::with_capacity(N_CALLS);
        for call in 0..N_CALLS {
            let unit = format!("{thread}-{}", call / 4);
            let started = Instant::now();
            if call % 2 == 0 {
                client.assign(&unit, "gate", &context);
            } else {
                client.log_metric(&unit, &context, "purchase", 4.99);
            }
            times.push(started.elapsed().as_nanos() as u64);
        }
        times
    };
    let mut times: Vec<u64> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..N_THREADS).map(|thread| scope.spawn(move || of_thread(thread))).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect()
    });
    times.sort_unstable();
    let at = |share: f64| times[(times.len() as f64 * share) as usize];
    println!("{name:<12} {:>9} {:>9} {:>9} {:>9}", at(0.5), at(0.99), at(0.999), times[times.len() - 1] / 1_000);
    client.shutdown(Duration::from_millis(200));
    let counters = client.counters();
    let accounted = counters.delivered + counters.dropped.total() + counters.queued;
    assert_eq!(counters.offered, accounted, "{counters:?}");
}
