//! The OpenAPI document agrees with the router, with what it answers, and with its snapshot.

#![expect(clippy::unwrap_used, reason = "a failing helper fails its test")]

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, Response};
use serde_json::{Map, Value, json};
use tower::ServiceExt;
use trialog_model::percent;
use trialog_model::time::UnixMicros;
use trialog_pipeline::aggregation::Settings as Aggregation;
use trialog_pipeline::testing;
use trialog_server::openapi::{document, text};
use trialog_server::{App, InProcess, Settings, router};
use trialog_warehouse::embedded::Options;

const NOW: i64 = 1_770_000_000_000_000;
const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

/// Every operation in an order in which its example can be sent, with the
/// status of its answer.
const CALLS: [(&str, u16); 60] = [
    ("isAlive", 200),
    ("isReady", 200),
    ("defineMetric", 201),
    ("listMetrics", 200),
    ("getMetric", 200),
    ("changeMetric", 200),
    ("deleteMetric", 200),
    ("registerLayer", 201),
    ("listLayers", 200),
    ("getLayer", 200),
    ("changeLayer", 200),
    ("deleteLayer", 200),
    ("registerHoldout", 201),
    ("listHoldouts", 200),
    ("getHoldout", 200),
    ("changeHoldout", 200),
    ("startHoldout", 200),
    ("registerExperiment", 201),
    ("deleteExperiment", 200),
    ("registerExperiment", 201),
    ("listExperiments", 200),
    ("getExperiment", 200),
    ("changeExperiment", 200),
    ("startExperiment", 200),
    ("getSdkConfiguration", 200),
    ("assign", 200),
    ("evaluateFlag", 200),
    ("evaluateFlags", 200),
    ("track", 202),
    ("stopHoldout", 200),
    ("sendAssignments", 202),
    ("sendMetricEvents", 202),
    ("runPipeline", 200),
    ("getPipeline", 200),
    ("calculate", 200),
    ("getResults", 200),
    ("getContext", 200),
    ("getBreakdown", 200),
    ("getBreakdowns", 200),
    ("getFunnel", 200),
    ("getCohorts", 200),
    ("getTimeline", 200),
    ("listFunnels", 200),
    ("confirmChange", 200),
    ("stopExperiment", 200),
    ("resumeExperiment", 200),
    ("stopExperiment", 200),
    ("decideExperiment", 200),
    ("archiveExperiment", 200),
    ("listChanges", 200),
    ("listChangesOfExperiment", 200),
    ("verifyData", 200),
    ("makeBackup", 200),
    ("exportTable", 200),
    ("applyRetention", 200),
    ("forgetUser", 200),
    ("listErasures", 200),
    ("listKeys", 200),
    // The last ones: from the first key on, every request needs one.
    ("createKey", 201),
    ("revokeKey", 200),
];
/// Operations whose answers are no JSON of ours.
const OTHERS: [(&str, u16); 2] = [("getMetrics", 200), ("getOpenApi", 200)];

/// Pages for people, which are no part of the interface.
const PAGES: [&str; 4] = [
    "/",
    "/experiments",
    "/experiments/{id}",
    "/static/{version}/{file}",
];

struct Server {
    router: Router,
    runtime: tokio::runtime::Runtime,
    _directory: tempfile::TempDir,
}

struct Answer {
    status: u16,
    media: String,
    allow: Option<String>,
    body: Vec<u8>,
}

impl Server {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data");
        std::fs::create_dir(&data).unwrap();
        let parts = testing::open(
            &data,
            Options::default(),
            Aggregation::default(),
            UnixMicros(NOW),
        )
        .unwrap();
        let settings = Settings {
            backup_dir: Some(directory.path().join("backups")),
            randomness: |buffer| {
                buffer.fill(7);
                Ok(())
            },
            ..Settings::default()
        };
        let app = App::new(
            parts.catalog,
            parts.warehouse,
            parts.aggregator,
            parts.clock,
            settings,
        );
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .unwrap();
        Self {
            router: router(Arc::new(app)),
            runtime,
            _directory: directory,
        }
    }

    fn send(&self, request: Request<Body>) -> Answer {
        self.runtime.block_on(async {
            let response: Response<Body> = self.router.clone().oneshot(request).await.unwrap();
            let header = |name: &str| {
                let value = response.headers().get(name)?;
                Some(value.to_str().unwrap().to_owned())
            };
            Answer {
                status: response.status().as_u16(),
                media: header("content-type").unwrap_or_default(),
                allow: header("allow"),
                body: axum::body::to_bytes(response.into_body(), 1 << 26)
                    .await
                    .unwrap()
                    .into(),
            }
        })
    }

    /// Sends the example of an operation; about `key`, if there is one.
    fn call(&self, operation: &Operation, key: &Value) -> Answer {
        let body = match operation.json.pointer("/requestBody/content") {
            Some(content) => content["application/json"]["example"].to_string(),
            None => String::new(),
        };
        // The key of the example may do little; this process may do everything.
        let request = Request::builder()
            .method(operation.method())
            .uri(operation.address_of(key["id"].as_str()))
            .header("content-type", "application/json")
            .extension(InProcess);
        self.send(request.body(Body::from(body)).unwrap())
    }
}

struct Operation {
    path: String,
    method: String,
    json: Value,
}

impl Operation {
    fn method(&self) -> Method {
        self.method.to_uppercase().parse().unwrap()
    }

    /// The path with its examples in place, those of queries included: a required one has one.
    fn address(&self) -> String {
        self.address_of(None)
    }

    /// The same about the thing with this id.
    fn address_of(&self, id: Option<&str>) -> String {
        let mut path = self.path.clone();
        for parameter in self.json["parameters"].as_array().into_iter().flatten() {
            if parameter["in"] == "path" {
                let name = format!("{{{}}}", parameter["name"].as_str().unwrap());
                let example = parameter["example"].as_str().unwrap();
                path = path.replace(&name, &percent::encode(id.unwrap_or(example)));
            } else if parameter["required"] == true || parameter["example"].is_array() {
                let name = parameter["name"].as_str().unwrap();
                let example = match &parameter["example"] {
                    Value::Array(texts) => texts.as_slice(),
                    text => std::slice::from_ref(text),
                };
                let texts: Vec<&str> = example.iter().map(|text| text.as_str().unwrap()).collect();
                let joint = if path.contains('?') { '&' } else { '?' };
                path = format!("{path}{joint}{name}={}", texts.join(","));
            }
        }
        assert!(
            !path.contains('{'),
            "{path} has a segment without a parameter"
        );
        path
    }
}

fn operations() -> Vec<Operation> {
    let document = document();
    let paths = document["paths"].as_object().unwrap();
    let of_path = |(path, item): (&String, &Value)| {
        let operation = |(method, json): (&String, &Value)| Operation {
            path: path.clone(),
            method: method.clone(),
            json: json.clone(),
        };
        let operations: Vec<_> = item.as_object().unwrap().iter().map(operation).collect();
        operations
    };
    paths.iter().flat_map(of_path).collect()
}

#[test]
fn the_snapshot_in_the_documents_is_what_the_code_generates() {
    let snapshot = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/openapi.json");
    let kept = std::fs::read_to_string(snapshot).unwrap_or_default();
    assert!(
        kept == text(),
        "docs/openapi.json is not what the code generates: look at the difference, then refresh it with `cargo run -p trialog -- openapi > docs/openapi.json`"
    );
}

#[test]
fn what_is_routed_is_documented_and_what_is_documented_is_routed() {
    let server = Server::new();
    let documented_paths: BTreeSet<String> = operations()
        .into_iter()
        .map(|operation| operation.path)
        .collect();
    let routed_paths: BTreeSet<String> = (trialog_server::paths().into_iter())
        .filter(|path| !PAGES.contains(path))
        .map(str::to_owned)
        .collect();
    assert_eq!(documented_paths, routed_paths);
    let documented: BTreeSet<(String, String)> = (operations().into_iter())
        .map(|operation| (operation.address(), operation.method))
        .collect();
    let addresses: BTreeSet<&String> = documented.iter().map(|(address, _)| address).collect();
    for address in addresses {
        for method in METHODS {
            let request = Request::builder().method(method.to_uppercase().as_str());
            let answer = server.send(request.uri(address).body(Body::empty()).unwrap());
            let is_documented = documented.contains(&(address.clone(), method.to_owned()));
            assert_eq!(answer.status != 405, is_documented, "{method} {address}");
            if answer.status == 405 {
                assert_eq!(answer.media, "application/problem+json");
                let allow = answer.allow.unwrap_or_default().to_lowercase();
                let allowed: BTreeSet<&str> = allow
                    .split(',')
                    .filter(|method| *method != "head")
                    .collect();
                let routed = METHODS
                    .into_iter()
                    .filter(|method| documented.contains(&(address.clone(), (*method).to_owned())));
                assert_eq!(allowed, routed.collect(), "Allow of {address}");
            }
        }
    }
}

#[test]
fn every_example_is_accepted_and_every_answer_has_the_documented_form() {
    let server = Server::new();
    let operations = operations();
    let ids: BTreeSet<&str> = operations.iter().map(|operation| operation.id()).collect();
    let called: BTreeSet<&str> = CALLS.iter().chain(&OTHERS).map(|(id, _)| *id).collect();
    assert_eq!(ids, called, "each operation is called once");
    let document = document();
    let mut key = Value::Null;
    for (id, status) in OTHERS.iter().chain(&CALLS) {
        let operation = operations
            .iter()
            .find(|operation| operation.id() == *id)
            .unwrap();
        if *id == "confirmChange" {
            // Something has to wait for it.
            let change = r#"{"alpha": 0.1, "confirm": true}"#;
            let request = Request::patch("/v1/experiments/checkout").extension(InProcess);
            let changed = server.send(request.body(Body::from(change)).unwrap());
            assert_eq!(changed.status, 200);
        }
        let answer = server.call(operation, &key);
        let text = String::from_utf8_lossy(&answer.body);
        assert_eq!(answer.status, *status, "{id}: {text}");
        let response = &operation.json["responses"][status.to_string()];
        let content = response["content"].as_object().unwrap();
        let media = content
            .keys()
            .find(|known| answer.media.starts_with(*known));
        let media = media.unwrap_or_else(|| panic!("{id} answers {}", answer.media));
        if media == "application/json" && *id != "getOpenApi" {
            let body = serde_json::from_slice(&answer.body).unwrap();
            Validator(&document).check(&content[media]["schema"], &body, id);
            if *id == "createKey" {
                key = body;
            }
        }
    }
}

#[test]
fn the_example_of_every_body_has_the_form_that_it_is_an_example_of() {
    let document = document();
    for operation in operations() {
        if let Some(body) = operation
            .json
            .pointer("/requestBody/content/application~1json")
        {
            Validator(&document).check(&body["schema"], &body["example"], operation.id());
        }
    }
}

#[test]
fn every_reference_leads_somewhere_and_every_component_is_used() {
    let document = document();
    let mut references = BTreeSet::new();
    collect(&document, &mut references);
    let mut components = BTreeSet::new();
    for (kind, named) in document["components"].as_object().unwrap() {
        let names = named.as_object().unwrap().keys();
        components.extend(names.map(|name| format!("#/components/{kind}/{name}")));
    }
    components.retain(|component| !component.contains("/securitySchemes/"));
    // Told of in a description: its lines are no JSON document.
    components.remove("#/components/schemas/VerifyReport");
    assert_eq!(references, components);
}

fn collect(value: &Value, references: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            references.extend(
                members
                    .get("$ref")
                    .map(|reference| reference.as_str().unwrap().to_owned()),
            );
            members
                .values()
                .for_each(|member| collect(member, references));
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, references)),
        _ => {}
    }
}

impl Operation {
    fn id(&self) -> &str {
        self.json["operationId"].as_str().unwrap()
    }
}

/// Checks values against the keywords that the document uses, and refuses
/// members that it does not name.
struct Validator<'a>(&'a Value);

impl Validator<'_> {
    fn check(&self, schema: &Value, value: &Value, at: &str) {
        if let Err(reason) = self.validate(schema, value, at) {
            panic!("{reason}");
        }
    }

    fn validate(&self, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
        let fail = |what: &str| Err(format!("{at} {what}: {value}"));
        if let Some(reference) = schema["$ref"].as_str() {
            let schema = self.0.pointer(reference.trim_start_matches('#')).unwrap();
            return self.validate(schema, value, at);
        }
        for choice in ["anyOf", "oneOf"] {
            if let Some(choices) = schema[choice].as_array() {
                let fits = |form: &&Value| self.validate(form, value, at).is_ok();
                if !choices.iter().any(|form| fits(&form)) {
                    return fail("fits none of its forms");
                }
            }
        }
        let kinds = match &schema["type"] {
            Value::Array(kinds) => kinds.clone(),
            Value::Null => Vec::new(),
            kind => vec![kind.clone()],
        };
        if !kinds.is_empty() && !kinds.iter().any(|kind| is_of_kind(value, kind)) {
            return fail("is of another type");
        }
        if schema["enum"]
            .as_array()
            .is_some_and(|words| !words.contains(value))
        {
            return fail("is none of its words");
        }
        if schema
            .get("const")
            .is_some_and(|constant| constant != value)
        {
            return fail("is another value");
        }
        if let (Some(number), Some(least)) = (value.as_f64(), schema["minimum"].as_f64())
            && number < least
        {
            return fail("is too small");
        }
        for (n, item) in value.as_array().into_iter().flatten().enumerate() {
            self.validate(&schema["items"], item, &format!("{at}[{n}]"))?;
        }
        match (value.as_object(), schema["properties"].as_object()) {
            (Some(members), Some(properties)) => self.members(schema, members, properties, at),
            _ => Ok(()),
        }
    }

    fn members(
        &self,
        schema: &Value,
        members: &Map<String, Value>,
        properties: &Map<String, Value>,
        at: &str,
    ) -> Result<(), String> {
        for required in schema["required"].as_array().into_iter().flatten() {
            if !members.contains_key(required.as_str().unwrap()) {
                return Err(format!("{at} lacks {required}"));
            }
        }
        for (name, value) in members {
            let at = format!("{at}.{name}");
            match properties.get(name) {
                Some(schema) => self.validate(schema, value, &at)?,
                // Said to be open.
                None if schema["additionalProperties"] == true => {}
                None => return Err(format!("{at} is not documented")),
            }
        }
        Ok(())
    }
}

fn is_of_kind(value: &Value, kind: &Value) -> bool {
    match kind.as_str().unwrap() {
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "null" => value.is_null(),
        other => panic!("no such type: {other}"),
    }
}

#[test]
fn the_validator_finds_what_it_is_to_find() {
    let document = document();
    let validator = Validator(&document);
    let schema = json!({ "$ref": "#/components/schemas/Accepted" });
    let good = json!({ "accepted": 1, "rejected": [{ "index": 0, "field": "f", "reason": "r" }] });
    assert!(validator.validate(&schema, &good, "").is_ok());
    for (pointer, value) in [
        ("/accepted", json!("1")),
        ("/accepted", json!(-1)),
        ("/accepted", json!(null)),
        ("/rejected/0/index", json!(0.5)),
        ("/rejected/0", json!({ "index": 0, "field": "f" })),
        (
            "/rejected/0",
            json!({ "index": 0, "field": "f", "reason": "r", "more": 1 }),
        ),
    ] {
        let mut bad = good.clone();
        *bad.pointer_mut(pointer).unwrap() = value.clone();
        assert!(
            validator.validate(&schema, &bad, "").is_err(),
            "{pointer} {value}"
        );
    }
}
