//! Assignment and log calls, measured with criterion, beside the Rust SDKs of peers on
//! the same experiments in one run: see bench/README.md.
//!
//! Every SDK has the same experiments: two variants at equal weights, everybody enrolled,
//! and one condition on the platform. Units and experiments come in a random order that
//! is the same for all.

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::Criterion;
use eppo_core::eval::get_assignment;
use eppo_core::{Attributes, Configuration, SdkMetadata, Str};
use growthbook_rust::client::{GrowthBookClientBuilder, GrowthBookClientTrait};
use growthbook_rust::model_public::GrowthBookAttribute;
use serde_json::{Map, Value, json};
use trialog_sdk::{Batch, Client, Context, Delivery, EventKind, Transport};
use unleash_types::client_features::ClientFeatures;
use unleash_yggdrasil::{EngineState, UpdateMessage};

/// Takes everything at once.
struct Nowhere;

impl Transport for Nowhere {
    fn send(&mut self, _: EventKind, _: &Batch, _: Duration) -> Delivery {
        Delivery::taken()
    }
}

/// Takes nothing.
struct Dead;

impl Transport for Dead {
    fn send(&mut self, _: EventKind, _: &Batch, _: Duration) -> Delivery {
        Delivery::failed("dead")
    }
}

fn id(n: usize) -> String {
    format!("experiment-{n}")
}

/// Units and experiments in a random order, a linear congruential generator with seed 1.
/// Their texts stand one after the other, as an application has them at hand.
struct Questions {
    text: String,
    ends: Vec<(u32, u32)>,
}

const N_QUESTIONS: usize = 1 << 16;

impl Questions {
    fn new(n_experiments: usize) -> Self {
        let mut state = 1_u64;
        let mut next = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize
        };
        let mut questions = Self { text: String::new(), ends: vec![(0, 0)] };
        for _ in 0..N_QUESTIONS {
            questions.text += &format!("user-{}", next() % 1_000);
            let end = questions.text.len() as u32;
            questions.text += &id(next() % n_experiments);
            questions.ends.push((end, questions.text.len() as u32));
        }
        questions
    }

    fn get(&self, at: usize) -> (&str, &str) {
        let at = at % N_QUESTIONS;
        let ((_, start), (middle, end)) = (self.ends[at], self.ends[at + 1]);
        (&self.text[start as usize..middle as usize], &self.text[middle as usize..end as usize])
    }
}

fn trialog(n: usize, transport: impl Transport + 'static) -> Client {
    let experiment = |at| {
        json!({"experiment_id": id(at), "variants": [{"variant": "a"}, {"variant": "b"}], "event_types": [format!("event-{at}")],
               "targeting": [{"key": "platform", "op": "in", "value": ["ios", "android"]}]})
    };
    let experiments: Vec<Value> = (0..n).map(experiment).collect();
    Client::builder()
        .configuration(json!({ "experiments": experiments }).to_string())
        .transport(transport)
        .buffer(1 << 17, 1 << 30)
        .remembered_exposures(1 << 20)
        .build()
        .expect("a client")
}

fn eppo(n: usize) -> Configuration {
    let split = |at: usize, variation: &str, start: u32| {
        json!({"variationKey": variation, "shards": [{"salt": id(at), "ranges": [{"start": start, "end": start + 5000}]}]})
    };
    let flag = |at: usize| {
        let own = json!({
            "key": id(at), "enabled": true, "variationType": "STRING", "totalShards": 10000,
            "variations": {"a": {"key": "a", "value": "a"}, "b": {"key": "b", "value": "b"}},
            "allocations": [{"key": "all", "doLog": true, "splits": [split(at, "a", 0), split(at, "b", 5000)],
                "rules": [{"conditions": [{"attribute": "platform", "operator": "ONE_OF", "value": ["ios", "android"]}]}]}],
        });
        (id(at), own)
    };
    let flags: Map<String, Value> = (0..n).map(flag).collect();
    let config = json!({"createdAt": "2026-01-01T00:00:00Z", "format": "SERVER", "environment": {"name": "bench"}, "flags": flags});
    let metadata = SdkMetadata { name: "bench", version: "1" };
    let config = eppo_core::ufc::UniversalFlagConfig::from_json(metadata, config.to_string().into_bytes());
    Configuration::from_server_response(config.expect("a configuration"), None)
}

fn growthbook(n: usize) -> growthbook_rust::client::GrowthBookClient {
    let feature = |at: usize| {
        let rule = json!({"key": id(at), "condition": {"platform": {"$in": ["ios", "android"]}}, "variations": ["a", "b"],
                          "weights": [0.5, 0.5], "coverage": 1.0, "hashAttribute": "id", "hashVersion": 2, "seed": id(at)});
        (id(at), json!({"defaultValue": "none", "rules": [rule]}))
    };
    let features: Map<String, Value> = (0..n).map(feature).collect();
    let builder = GrowthBookClientBuilder::new().features_json(features.into()).expect("features");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(builder.build()).expect("a client")
}

fn unleash(n: usize) -> EngineState {
    let variant = |name: &str| json!({"name": name, "weight": 500, "weightType": "fix", "stickiness": "userId"});
    let feature = |at: usize| {
        json!({"name": id(at), "enabled": true, "strategies": [{
            "name": "flexibleRollout", "parameters": {"rollout": "100", "stickiness": "userId", "groupId": id(at)},
            "constraints": [{"contextName": "platform", "operator": "IN", "values": ["ios", "android"]}],
            "variants": [variant("a"), variant("b")]}]})
    };
    let features: Vec<Value> = (0..n).map(feature).collect();
    let features: ClientFeatures = serde_json::from_value(json!({"version": 2, "features": features})).expect("features");
    let engine = EngineState::initial_state(chrono::Utc::now());
    engine.take_state(UpdateMessage::FullResponse(features));
    engine
}

/// Calls `ask` with one question after the other, and checks that both variants occur.
fn measure(criterion: &mut Criterion, name: String, questions: &Questions, mut ask: impl FnMut(&str, &str) -> bool) {
    const N_CHECKED: usize = 4_000;
    let mut is_first = |at: usize| {
        let (unit, experiment) = questions.get(at);
        ask(unit, experiment)
    };
    let n_first = (0..N_CHECKED).filter(|at| is_first(*at)).count();
    let share = n_first as f64 / N_CHECKED as f64;
    assert!((0.45..0.55).contains(&share), "{name} gives the first variant to {share}");
    let mut at = 0;
    let mut group = criterion.benchmark_group("assign");
    group.bench_function(name, |bencher| {
        bencher.iter(|| {
            at += 1;
            black_box(is_first(at))
        })
    });
}

fn assign(criterion: &mut Criterion, n: usize) {
    let questions = Questions::new(n);
    let client = trialog(n, Nowhere);
    let context = Context::new().with("platform", "ios");
    measure(criterion, format!("trialog assign, {n} experiments"), &questions, |unit, experiment| {
        client.assign(unit, experiment, &context).variant() == Some("a")
    });
    measure(criterion, format!("trialog decide, {n} experiments"), &questions, |unit, experiment| {
        client.decide(unit, experiment, &context).variant() == Some("a")
    });
    drop(client);
    let config = eppo(n);
    let attributes: Arc<Attributes> = Arc::new(HashMap::from([("platform".into(), "ios".into())]));
    let keys: HashMap<String, Str> = (0..1_000).map(|unit| (format!("user-{unit}"), Str::from(format!("user-{unit}")))).collect();
    let now = chrono::Utc::now();
    measure(criterion, format!("eppo_core, {n} experiments"), &questions, |unit, experiment| {
        let assigned = get_assignment(Some(&config), experiment, &keys[unit], &attributes, None, now);
        let value = assigned.ok().flatten().map(|own| own.value);
        value.and_then(|own| own.as_str().map(|own| own == "a")).unwrap_or(false)
    });
    drop(config);
    // It looks through all of its features at each call: a question would take 70 ms.
    if n <= 1_000 {
        measure_growthbook(criterion, n, &questions);
    }
    let engine = unleash(n);
    let contexts: HashMap<String, unleash_yggdrasil::Context> = (0..1_000)
        .map(|unit| {
            let unit = format!("user-{unit}");
            let properties = HashMap::from([("platform".to_owned(), "ios".to_owned())]);
            let own = unleash_yggdrasil::Context { user_id: Some(unit.clone()), properties: Some(properties), ..Default::default() };
            (unit, own)
        })
        .collect();
    measure(criterion, format!("unleash-yggdrasil, {n} experiments"), &questions, |unit, experiment| {
        engine.get_variant(experiment, &contexts[unit], &None).name == "a"
    });
}

fn measure_growthbook(criterion: &mut Criterion, n: usize, questions: &Questions) {
    let client = growthbook(n);
    let attributes: HashMap<String, Vec<GrowthBookAttribute>> = (0..1_000)
        .map(|unit| {
            let unit = format!("user-{unit}");
            let own = GrowthBookAttribute::from(json!({"id": unit, "platform": "ios"})).expect("attributes");
            (unit, own)
        })
        .collect();
    measure(criterion, format!("growthbook-rust, {n} experiments"), questions, |unit, experiment| {
        // It takes the attributes by value.
        client.feature_result(experiment, Some(attributes[unit].clone())).value == "a"
    });
}

/// Times only the calls; what they queued is sent in between.
fn log(criterion: &mut Criterion) {
    const CHUNK: u64 = 10_000;
    let context = Context::new().with("platform", "ios");
    let client = trialog(1_000, Nowhere);
    criterion.bench_function("log_metric, sink well", |bencher| {
        bencher.iter_custom(|n| {
            let mut took = Duration::ZERO;
            let mut left = n;
            while left > 0 {
                let n_calls = left.min(CHUNK);
                left -= n_calls;
                let started = Instant::now();
                for _ in 0..n_calls {
                    client.log_metric(black_box("user-42"), &context, "event-7", 4.99);
                }
                took += started.elapsed();
                client.flush(Duration::from_secs(60));
            }
            took
        })
    });
    assert_eq!(client.counters().dropped.total(), 0);
    let client = trialog(1_000, Dead);
    criterion.bench_function("log_metric, sink dead, buffer full", |bencher| {
        bencher.iter(|| client.log_metric(black_box("user-42"), &context, "event-7", 4.99))
    });
}

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3))
        .configure_from_args();
    assign(&mut criterion, 1_000);
    assign(&mut criterion, 100_000);
    log(&mut criterion);
    criterion.final_summary();
}
