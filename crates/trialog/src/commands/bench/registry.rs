//! Times lists, searches, reads and results of a large registry, one request at
//! a time through the routes of this process.

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::bail;
use serde_json::json;
use trialog_catalog::audit::{Actor, Edit};
use trialog_catalog::runs::{FinishedRun, Outcome};
use trialog_catalog::{Catalog, CatalogError};
use trialog_model::experiment::Definition;
use trialog_model::ids::ExperimentId;
use trialog_model::published::{Computation, VariantExposures, VariantMetric};
use trialog_model::time::UnixMicros;

use crate::access::{Access, encode};
use crate::cli::RegistryArgs;
use crate::clock;
use crate::config::Config;
use crate::show::Table;

/// Experiments that are added, or published, at a time.
const CHUNK: u32 = 1_000;

/// What names and hypotheses are made of.
const WORDS: [&str; 36] = [
    "annual",
    "autoplay",
    "badge",
    "banner",
    "button",
    "cart",
    "checkout",
    "color",
    "coupon",
    "discount",
    "email",
    "friend",
    "gate",
    "invite",
    "level",
    "map",
    "monthly",
    "onboarding",
    "paywall",
    "plan",
    "player",
    "price",
    "push",
    "rank",
    "recommend",
    "retention",
    "search",
    "shipping",
    "signup",
    "thumbnail",
    "trial",
    "tutorial",
    "upsell",
    "video",
    "wallet",
    "weekly",
];

const METRICS: [&str; 3] = ["add_to_cart", "purchase", "visit"];

pub(crate) fn run(config: &Config, args: &RegistryArgs) -> anyhow::Result<ExitCode> {
    let Access::Directory(opened) = Access::open_or_create(config)? else {
        bail!("a server has the data directory open: stop it, or give another --data-dir");
    };
    let catalog = std::sync::Arc::clone(&opened.node.catalog);
    let access = Access::Directory(opened);
    fill(&catalog, args.experiments)?;
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let publisher = args.publish.then(|| {
            scope.spawn(|| -> Result<u32, CatalogError> {
                let mut n_runs = 0;
                while !ended.load(Ordering::Relaxed) {
                    publish(
                        &catalog,
                        n_runs * CHUNK % args.experiments.max(1),
                        args.experiments,
                    )?;
                    n_runs += 1;
                }
                Ok(n_runs)
            })
        });
        let measured = measure(&access, args);
        ended.store(true, Ordering::Relaxed);
        if let Some(publisher) = publisher {
            let n_runs = publisher
                .join()
                .map_err(|_| anyhow::anyhow!("the publisher panicked"))??;
            println!("{n_runs} runs of {CHUNK} experiments were published meanwhile");
        }
        print!("{}", measured?);
        Ok(ExitCode::SUCCESS)
    })
}

/// Adds the experiments that are missing, with results, a chunk at a time.
fn fill(catalog: &Catalog, n_experiments: u32) -> anyhow::Result<()> {
    let started = Instant::now();
    let edit = || Edit::new(Actor::local(), clock::now());
    let mut n_added = 0;
    for first in (0..n_experiments).step_by(CHUNK as usize) {
        let chunk = first..n_experiments.min(first + CHUNK);
        if catalog.experiment(&id(chunk.end - 1)?).is_ok() {
            continue;
        }
        let definitions = chunk
            .clone()
            .map(definition)
            .collect::<anyhow::Result<Vec<_>>>()?;
        catalog.create_experiments(&definitions, &edit())?;
        publish(catalog, first, n_experiments)?;
        n_added += chunk.len();
    }
    println!(
        "{n_experiments} experiments; {n_added} were added in {:.1} s",
        started.elapsed().as_secs_f64()
    );
    Ok(())
}

/// A number from 0 that looks like chance, the same for the same `n` and `salt`.
fn chance(n: u32, salt: u64) -> usize {
    fastrand::Rng::with_seed(u64::from(n) << 8 ^ salt).usize(..)
}

fn word(n: u32, salt: u64) -> &'static str {
    WORDS[chance(n, salt) % WORDS.len()]
}

fn name(n: u32) -> String {
    format!("{}-{}-{n:06}", word(n, 1), word(n, 2))
}

fn id(n: u32) -> anyhow::Result<ExperimentId> {
    Ok(ExperimentId::new(name(n))?)
}

fn definition(n: u32) -> anyhow::Result<Definition> {
    let hypothesis: Vec<&str> = (3..15).map(|salt| word(n, salt)).collect();
    Ok(serde_json::from_value(json!({
        "experiment_id": name(n),
        "owner": format!("team-{}", chance(n, 20) % 200),
        "hypothesis": hypothesis.join(" "),
        "variants": [{"variant": "control"}, {"variant": "treatment"}],
        "metrics": {"primary": ["purchase"], "secondary": ["add_to_cart"], "guardrail": ["visit:count"]},
    }))?)
}

/// Publishes a run over the experiments from number `first` on.
fn publish(catalog: &Catalog, first: u32, n_experiments: u32) -> Result<(), CatalogError> {
    let now = clock::now();
    let run_id = catalog.begin_run("command", 1, now)?;
    let mark = catalog.high_water_mark()?;
    let outcomes = (first..n_experiments.min(first + CHUNK))
        .filter_map(|n| Some((n, id(n).ok()?)))
        .map(|(n, experiment)| Outcome {
            revision: 1,
            recompute_at: None,
            computed: Ok(computation(&experiment, n)),
            warnings: Vec::new(),
            analyses: Vec::new(),
            experiment,
        });
    catalog.publish(&FinishedRun {
        run_id,
        position: mark.position,
        data_time: now,
        computed_at: now,
        thin_out_before: UnixMicros(0),
        outcomes: outcomes.collect(),
        lease: None,
        journal: None,
    })
}

fn computation(experiment: &ExperimentId, n: u32) -> Computation {
    let users = 1_000 + u64::from(n % 1_000);
    let variants = ["control", "treatment"];
    let metric = |variant: &str, metric: &str| VariantMetric {
        variant: variant.to_owned(),
        metric_name: metric.to_owned(),
        user_count: users,
        event_count: 300,
        total: 3_000_000,
        conversion_rate: 200.0 / users as f64,
        mean_value: 300.0 / users as f64,
        variance: Some(1.0),
        converted_users: 200,
        squared_total: 50_000_000_000,
        squared_events: 500,
        more: None,
    };
    Computation {
        experiment: experiment.clone(),
        fingerprint: "bench".to_owned(),
        forced_users: 0,
        unknown_variant: 0,
        not_aggregated: 0,
        exposures: variants
            .map(|variant| VariantExposures {
                variant: variant.to_owned(),
                user_count: users,
                crossover_users: 0,
            })
            .into(),
        arrivals: Vec::new(),
        metrics: (variants.iter())
            .flat_map(|variant| METRICS.map(|name| metric(variant, name)))
            .collect(),
    }
}

/// A table with the distribution of each sort of request.
fn measure(access: &Access, args: &RegistryArgs) -> anyhow::Result<String> {
    let mut random = fastrand::Rng::with_seed(args.seed);
    let mut some = move || random.u32(..args.experiments.max(1));
    let mut words = fastrand::Rng::with_seed(args.seed);
    let mut word = move || WORDS[words.usize(..WORDS.len())];
    let list = "/v1/experiments?limit=100";
    let mut table = Table::new(&["request", "p50 ms", "p99 ms", "max ms"]);
    let mut time = |what: &str, path: &mut dyn FnMut() -> String| -> anyhow::Result<()> {
        let mut taken = Vec::new();
        for _ in 0..args.requests {
            let path = path();
            let started = Instant::now();
            access.get(&path)?;
            taken.push(started.elapsed());
        }
        taken.sort();
        let at = |share: f64| {
            let at = (share * taken.len() as f64).ceil() as usize;
            (taken.get(at.saturating_sub(1))).map_or(0.0, Duration::as_secs_f64) * 1e3
        };
        table.row([what.to_owned(), ms(at(0.5)), ms(at(0.99)), ms(at(1.0))]);
        Ok(())
    };
    time("list, any page", &mut || {
        format!("{list}&after={}", name(some()))
    })?;
    time("list, last changes", &mut || {
        format!("{list}&sort=updated_at")
    })?;
    time("list, one owner", &mut || {
        format!("{list}&owner=team-{}&status=draft", some() % 200)
    })?;
    time("search, one character", &mut || {
        format!("{list}&q={}", &word()[..1])
    })?;
    time("search, one word", &mut || format!("{list}&q={}", word()))?;
    time("search, two words", &mut || {
        format!("{list}&q={}%20{}", word(), word())
    })?;
    time("search, three words", &mut || {
        format!("{list}&q={}%20{}%20{}", word(), word(), word())
    })?;
    time("search, a whole id", &mut || {
        format!("{list}&q={}", name(some()))
    })?;
    time("search, a number", &mut || {
        format!("{list}&q={:06}", some())
    })?;
    time("search, nothing", &mut || format!("{list}&q=x{}q", word()))?;
    time("read", &mut || {
        format!("/v1/experiments/{}", encode(&name(some())))
    })?;
    time("results", &mut || {
        format!("/v1/experiments/{}/results", encode(&name(some())))
    })?;
    Ok(table.text())
}

fn ms(taken: f64) -> String {
    format!("{taken:.2}")
}
