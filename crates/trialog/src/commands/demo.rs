//! Runs `trialog demo`: simulated experiments whose truth is known, beside their results.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};
use serde::Serialize;
use tokio::net::TcpListener;
use trialog_model::experiment::Status;
use trialog_model::ids::ExperimentId;
use trialog_model::time::UnixMicros;
use trialog_pipeline::retry::Retry;
use trialog_pipeline::schedule::Scheduler;
use trialog_report::Report;
use trialog_simulator::demo::{Scenario, Statement, scenarios};

use crate::access::{Access, encode};
use crate::cli::{DEMO_DIRECTORY, DemoArgs};
use crate::clock;
use crate::config::Config;
use crate::front::{self, Front, bind};
use crate::node::{Node, runtime};
use crate::show::{Table, flag, number};
use crate::stop::stop_signal;

/// Events per request.
const BATCH: usize = 5_000;

pub(crate) fn run(mut config: Config, args: &DemoArgs) -> anyhow::Result<ExitCode> {
    if config.data_dir_is_default {
        config.data_dir = DEMO_DIRECTORY.into();
    }
    let address = config.address()?;
    let node = Node::open(&config)?;
    front::check(&config, address, node.app.has_usable_key()?)?;
    runtime()?.block_on(async {
        let socket = listen(address, config.listen_is_default).await?;
        let mut front = Front::open(&config, &node, socket).await?;
        println!("listening on {}", front.url);
        let (url, listeners) = (front.url.clone(), std::mem::take(&mut front.listeners));
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let app = Arc::clone(&node.app);
        let server = tokio::spawn(trialog_server::serve(listeners, app, async move {
            // Either a signal or the end of the demo stops the server.
            let _ = stopped.await;
        }));
        let (seed, directory) = (args.seed, config.data_dir.display().to_string());
        let (local, key) = front.local.clone();
        tokio::task::spawn_blocking(move || {
            show(&Access::server(&local, Some(&key), None)?, seed, &directory)
        })
        .await??;
        if !args.exit {
            let scheduler = Scheduler::start(
                Arc::clone(&node.aggregator),
                config.interval,
                Retry::default(),
                fastrand::Rng::new(),
            )?;
            node.app.runs_every(config.interval);
            println!("\nserving {url} until you press Ctrl-C; open it in a browser, or try");
            println!(
                "  curl '{url}/v1/experiments/checkout_one_page/results?segment.platform=ios'"
            );
            println!(
                "  trialog --data-dir {} results checkout_one_page",
                config.data_dir.display()
            );
            let (schedule, aggregator) = (scheduler.stopper(), Arc::clone(&node.aggregator));
            let app = Arc::clone(&node.app);
            let begin = move || {
                schedule.stop();
                aggregator.stop();
                app.stop();
            };
            stop_signal(config.shutdown_timeout, begin)?.await;
            tokio::task::spawn_blocking(move || drop(scheduler)).await?;
        }
        drop(stop);
        server.await??;
        anyhow::Ok(())
    })?;
    node.close();
    Ok(ExitCode::SUCCESS)
}

/// The demo takes a free port where the usual one is taken and none was named.
async fn listen(address: SocketAddr, is_default: bool) -> anyhow::Result<TcpListener> {
    match bind(address).await {
        Err(_) if is_default => bind(SocketAddr::new(address.ip(), 0)).await,
        bound => bound,
    }
}

/// Fills the directory where it is empty, and prints results beside the truth.
fn show(access: &Access, seed: u64, directory: &str) -> anyhow::Result<()> {
    let now = clock::now();
    let known = access.get("/v1/experiments?limit=1000")?;
    let known = known["experiments"].as_array().cloned().unwrap_or_default();
    let stories = scenarios(now);
    let find = |id: &ExperimentId| {
        known
            .iter()
            .find(|experiment| experiment["experiment_id"] == id.as_str())
    };
    let (Some(first), Some(last)) = (stories.first(), stories.last()) else {
        bail!("there are no scenarios")
    };
    let stories = match (
        find(&first.definition.experiment_id),
        find(&last.definition.experiment_id),
    ) {
        (Some(first_known), Some(_)) => {
            println!("found the demo's data in `{directory}`");
            let start = first_known["start_at"]
                .as_str()
                .context("the demo's first experiment has no start_at")?;
            let age = now.0.saturating_sub(first.started_at.0);
            scenarios(UnixMicros(UnixMicros::parse_rfc3339(start)?.0 + age))
        }
        (None, None) if known.is_empty() => {
            stories
                .iter()
                .try_for_each(|scenario| fill(access, scenario, seed))?;
            access.post("/v1/pipeline/run", None)?;
            stories
        }
        _ => bail!(
            "`{directory}` holds something else, or a demo that was interrupted: give an empty --data-dir"
        ),
    };
    for scenario in &stories {
        compare(access, scenario)?;
    }
    Ok(())
}

/// Sends a scenario's events and registers it; the last one is registered last.
fn fill(access: &Access, scenario: &Scenario, seed: u64) -> anyhow::Result<()> {
    let events = scenario.events(seed);
    send(access, "assignments", &events.assignments)?;
    send(access, "metrics", &events.metrics)?;
    for guardrail in &scenario.guardrails {
        access.post("/v1/metrics", Some(&serde_json::to_value(guardrail)?))?;
    }
    let id = encode(scenario.definition.experiment_id.as_str());
    access.post(
        "/v1/experiments",
        Some(&serde_json::to_value(&scenario.definition)?),
    )?;
    access.post(&format!("/v1/experiments/{id}/start"), None)?;
    if scenario.status == Status::Stopped {
        access.post(&format!("/v1/experiments/{id}/stop"), None)?;
    }
    let n_events = events.assignments.len() + events.metrics.len();
    println!(
        "sent {n_events} events of `{}`",
        scenario.definition.experiment_id
    );
    Ok(())
}

fn send<T: Serialize>(access: &Access, kind: &str, events: &[T]) -> anyhow::Result<()> {
    for batch in events.chunks(BATCH) {
        let answer = access.post(
            &format!("/v1/events/{kind}"),
            Some(&serde_json::to_value(batch)?),
        )?;
        if answer["rejected"]
            .as_array()
            .is_some_and(|rejected| !rejected.is_empty())
        {
            bail!(
                "the server rejected simulated events: {}",
                answer["rejected"][0]
            );
        }
    }
    Ok(())
}

fn compare(access: &Access, scenario: &Scenario) -> anyhow::Result<()> {
    let id = &scenario.definition.experiment_id;
    println!("\n{} (`{id}`)\n  {}", scenario.title, scenario.lesson);
    let whole = report(access, id, None)?;
    let users: Vec<String> = whole
        .variants
        .iter()
        .map(|variant| format!("{} {}", variant.variant, variant.users))
        .collect();
    println!(
        "  users: {}; crossovers {}, forced {}",
        users.join(", "),
        whole.health.crossovers,
        whole.health.forced
    );
    for warning in &whole.health.warnings {
        println!("  {}: {}", warning.severity.as_str(), warning.text());
    }
    let mut table = Table::new(&[
        "metric",
        "kind",
        "treatment",
        "users",
        "truth",
        "measured",
        "95 % interval",
        "flag",
    ]);
    for statement in &scenario.truth {
        let report = report(access, id, Some(statement))?;
        table.row(cells(statement, &report));
    }
    print!("{}", table.text());
    Ok(())
}

/// The results of the users that `statement` is about.
fn report(
    access: &Access,
    id: &ExperimentId,
    statement: Option<&Statement>,
) -> anyhow::Result<Report> {
    let mut query = Vec::new();
    if let Some(segment) = statement.and_then(|statement| statement.segment.as_ref()) {
        query.push(format!(
            "segment.{}={}",
            encode(&segment.key),
            encode(&segment.value)
        ));
    }
    if let Some((from, to)) = statement.and_then(|statement| statement.exposed) {
        query.push(format!(
            "from={}&to={}",
            encode(&from.to_rfc3339()),
            encode(&to.to_rfc3339())
        ));
    }
    let answer = access.get(&format!(
        "/v1/experiments/{}/results?{}",
        encode(id.as_str()),
        query.join("&")
    ))?;
    serde_json::from_value(answer).context("the report cannot be read")
}

fn cells(statement: &Statement, report: &Report) -> [String; 8] {
    let whom = match (&statement.segment, &statement.exposed) {
        (Some(segment), _) => format!("{}={}", segment.key, segment.value),
        (None, Some((from, to))) => {
            let day =
                |time: &UnixMicros| time.to_rfc3339().get(5..10).unwrap_or_default().to_owned();
            format!("exposed {} to {}", day(from), day(to))
        }
        (None, None) => "all".to_owned(),
    };
    let metric = (report.metrics.iter())
        .find(|metric| metric.metric == statement.metric.as_str() && metric.kind == statement.kind);
    let comparison = metric.and_then(|metric| {
        metric
            .comparisons
            .iter()
            .find(|comparison| comparison.treatment == statement.treatment.as_str())
    });
    let interval = comparison.and_then(|comparison| comparison.ci);
    [
        statement.metric.to_string(),
        statement.kind.to_string(),
        statement.treatment.to_string(),
        whom,
        number(Some(statement.difference)),
        number(comparison.and_then(|comparison| comparison.difference)),
        interval.map_or_else(
            || "-".to_owned(),
            |[low, high]| format!("[{}, {}]", number(Some(low)), number(Some(high))),
        ),
        flag(comparison.and_then(|comparison| comparison.flag)).to_owned(),
    ]
}
