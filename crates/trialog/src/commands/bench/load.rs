//! Sends metric events over HTTP from several connections and counts the answers.
//!
//! Bodies are made before the clock starts; between two sends only the event
//! ids in them change, so the generator takes little of the machine.

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::bail;
use serde_json::json;

use crate::access::Access;
use crate::cli::LoadArgs;
use crate::commands::bench::body::{Body, first_id};
use crate::config::Config;

#[derive(Default)]
struct Counts {
    accepted: AtomicU64,
    busy: AtomicU64,
    failed: AtomicU64,
}

pub(crate) fn run(config: &Config, args: &LoadArgs) -> anyhow::Result<ExitCode> {
    let Access::Server { address, agent } = Access::open(config)? else {
        bail!(
            "no server runs on `{}`: start one with trialog serve, or give --server",
            config.data_dir.display()
        );
    };
    let url = format!("{address}/v1/events/metrics");
    let counts = Counts::default();
    let next_id = AtomicU64::new(first_id());
    let started = Instant::now();
    let end = started + Duration::from_secs(args.seconds);
    let mut latencies: Vec<Duration> = Vec::new();
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..args.clients)
            .map(|client| {
                let (counts, next_id, agent, url) = (&counts, &next_id, &agent, &url);
                scope.spawn(move || {
                    let mut body = Body::new(args.batch, client as u64);
                    let pace = args.rate.map(|rate| {
                        Duration::from_secs_f64(
                            args.clients as f64 * args.batch as f64 / rate as f64,
                        )
                    });
                    let mut due = Instant::now();
                    let mut latencies = Vec::new();
                    while Instant::now() < end {
                        body.renew(next_id.fetch_add(args.batch as u64, Ordering::Relaxed));
                        let sent = Instant::now();
                        send(agent, url, &body.bytes, args.batch as u64, counts);
                        latencies.push(sent.elapsed());
                        if let Some(pace) = pace {
                            due += pace;
                            std::thread::sleep(due.saturating_duration_since(Instant::now()));
                        }
                    }
                    latencies
                })
            })
            .collect();
        latencies.extend(
            clients
                .into_iter()
                .filter_map(|client| client.join().ok())
                .flatten(),
        );
    });
    let seconds = started.elapsed().as_secs_f64();
    latencies.sort_unstable();
    let quantile = |q: f64| {
        latencies
            .get((latencies.len() as f64 * q) as usize)
            .map_or(0.0, |l| l.as_secs_f64() * 1e3)
    };
    let accepted = counts.accepted.load(Ordering::Relaxed);
    println!(
        "{}",
        json!({
            "seconds": seconds, "accepted": accepted, "events_per_second": accepted as f64 / seconds,
            "busy": counts.busy.load(Ordering::Relaxed), "failed": counts.failed.load(Ordering::Relaxed),
            "latency_ms": { "p50": quantile(0.5), "p99": quantile(0.99), "max": quantile(1.0 - 1e-9) },
        })
    );
    Ok(if counts.failed.load(Ordering::Relaxed) == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn send(agent: &ureq::Agent, url: &str, body: &[u8], n_events: u64, counts: &Counts) {
    let outcome = agent
        .post(url)
        .header("content-type", "application/json")
        .send(body);
    let counter = match outcome {
        Ok(mut response) => {
            // The body has to be read before the connection can be used again.
            let _ = response.body_mut().read_to_string();
            match response.status().as_u16() {
                202 => {
                    counts.accepted.fetch_add(n_events, Ordering::Relaxed);
                    return;
                }
                429 => &counts.busy,
                _ => &counts.failed,
            }
        }
        Err(_) => &counts.failed,
    };
    counter.fetch_add(1, Ordering::Relaxed);
    std::thread::sleep(Duration::from_millis(20));
}
