//! Produces events to the event log, as the HTTP interface does with those that it accepts.

use std::process::ExitCode;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::json;
use trialog_model::event::EventKind;
use trialog_pipeline::ingest::Destination;
use trialog_pipeline::kafka::Producer;
use trialog_warehouse::batch::{Batch, EventRow};
use trialog_warehouse::embedded::{Refused, Submission};

use crate::cli::ProduceArgs;
use crate::clock;
use crate::config::Config;

/// Events of a submission.
const BATCH: u64 = 1_000;
/// How long to wait where the queue is full.
const FULL: Duration = Duration::from_millis(2);

pub(crate) fn run(config: &Config, args: &ProduceArgs) -> anyhow::Result<ExitCode> {
    let address = config.storage.event_log.as_ref();
    let address =
        address.context("`event_log` is not set: give one such as kafka://broker:9092")?;
    let producer = Destination::Kafka(std::sync::Arc::new(Producer::new(address)?));
    let mut random = fastrand::Rng::with_seed(args.seed);
    let started = Instant::now();
    let (done, outcomes) = channel();
    let mut n_sent = 0;
    let mut next_id = i64::try_from(args.seed)?.wrapping_mul(1 << 40);
    for (kind, n_events) in [
        (EventKind::Assignment, args.events / 20),
        (EventKind::Metric, args.events),
    ] {
        for from in (0..n_events).step_by(BATCH as usize) {
            let batch = batch(
                kind,
                BATCH.min(n_events - from),
                args,
                &mut next_id,
                &mut random,
            );
            n_sent += batch.len() as u64;
            loop {
                let done = done.clone();
                let submission = Submission {
                    batch: batch.clone(),
                    mark: None,
                    received_at: clock::now().0,
                    // The receiver lives as long as the bench.
                    reply: Box::new(move |outcome| {
                        let _ = done.send(outcome.is_ok());
                    }),
                };
                match producer.submit(submission) {
                    Ok(()) => break,
                    Err(Refused::Full) => std::thread::sleep(FULL),
                    Err(refused) => bail!("cannot produce: {refused}"),
                }
            }
            if let Some(rate) = args.rate {
                let due = started + Duration::from_secs_f64(n_sent as f64 / rate as f64);
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
            }
        }
    }
    drop(done);
    let n_failed = outcomes.into_iter().filter(|stored| !stored).count();
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "{}",
        json!({
            "events": n_sent,
            "failed_batches": n_failed,
            "seconds": seconds,
            "events_per_second": n_sent as f64 / seconds,
        })
    );
    Ok(if n_failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn batch(
    kind: EventKind,
    n_events: u64,
    args: &ProduceArgs,
    next_id: &mut i64,
    random: &mut fastrand::Rng,
) -> Batch {
    let mut batch = Batch::new(kind);
    let now = clock::now().0;
    for _ in 0..n_events {
        *next_id += 1;
        let user = random.i64(0..200_000);
        let experiment = if random.f64() < args.hot {
            "hot".to_owned()
        } else {
            format!("cold-{}", random.u32(0..args.experiments.max(1)))
        };
        let is_metric = kind == EventKind::Metric;
        batch.push(&EventRow {
            experiment: &experiment,
            user,
            timestamp: now,
            name: match (is_metric, user % 2) {
                (true, _) => "purchase",
                (false, 0) => "control",
                (false, _) => "treatment",
            },
            value: if is_metric {
                random.i64(1..1_000_000)
            } else {
                0
            },
            event_id: *next_id,
            context: "",
            user_text: "",
        });
    }
    batch
}
