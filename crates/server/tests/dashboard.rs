//! The dashboard over a real catalog and a real warehouse, without a socket.

#![expect(clippy::unwrap_used, reason = "a failing helper fails its test")]

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use serde_json::{Value, json};
use tower::ServiceExt;
use trialog_catalog::Catalog;
use trialog_model::ids::ExperimentId;
use trialog_model::percent;
use trialog_model::time::UnixMicros;
use trialog_pipeline::aggregation::{Aggregator, Settings as Aggregation};
use trialog_pipeline::{subject, testing};
use trialog_report::Report;
use trialog_report::summary::{SUMMARY, Summary, basis};
use trialog_server::{App, Settings, router};
use trialog_warehouse::embedded::Options;

const NOW: i64 = 1_760_000_000_000_000;

struct Site {
    router: Router,
    runtime: tokio::runtime::Runtime,
    catalog: Arc<Catalog>,
    aggregator: Arc<Aggregator>,
    _directory: tempfile::TempDir,
}

impl Site {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let options = Options::default();
        let parts = testing::open(
            directory.path(),
            options,
            Aggregation::default(),
            UnixMicros(NOW),
        )
        .unwrap();
        let settings = Settings {
            max_folds: 0,
            max_waiting_folds: 0,
            ..Settings::default()
        };
        let app = App::new(
            Arc::clone(&parts.catalog),
            parts.warehouse,
            Arc::clone(&parts.aggregator),
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
            catalog: parts.catalog,
            aggregator: parts.aggregator,
            _directory: directory,
        }
    }

    fn send(&self, request: Request<Body>) -> (StatusCode, HeaderMap, String) {
        self.runtime.block_on(async {
            let response = self.router.clone().oneshot(request).await.unwrap();
            let (status, headers) = (response.status(), response.headers().clone());
            let bytes = axum::body::to_bytes(response.into_body(), 1 << 24)
                .await
                .unwrap();
            (status, headers, String::from_utf8(bytes.to_vec()).unwrap())
        })
    }

    fn post(&self, path: &str, body: &Value) {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let (status, _, answer) = self.send(Request::post(path).body(Body::from(body)).unwrap());
        assert!(status.is_success(), "{path}: {answer}");
    }

    fn get(&self, path: &str) -> (StatusCode, HeaderMap, String) {
        self.send(Request::get(path).body(Body::empty()).unwrap())
    }

    fn page(&self, path: &str) -> String {
        let (status, _, text) = self.get(path);
        assert_eq!(status, StatusCode::OK, "{path}: {text}");
        text
    }

    fn json(&self, path: &str) -> Value {
        serde_json::from_str(&self.page(path)).unwrap()
    }

    /// The summary of the report on `id` that a list would read, if it still holds.
    fn stored_summary(&self, id: &str) -> Option<Summary> {
        let id = ExperimentId::new(id).unwrap();
        let experiment = self.catalog.experiment(&id).unwrap();
        let current = self.aggregator.fingerprint(&experiment);
        let breaks = self.catalog.breaks(&id).unwrap();
        let rows = self.catalog.latest_analysis(&id, SUMMARY).unwrap();
        let basis = basis(&subject(&experiment), &current, &breaks);
        Summary::from_json(&rows.first()?.body, &basis)
    }

    /// An experiment in two variants with `n_old` and `n_new` users, of whom every fifth buys.
    fn fill(&self, id: &str, n_old: i64, n_new: i64) {
        self.post(
            "/v1/experiments",
            &json!({"experiment_id": id, "hypothesis": "a <b>later</b> gate", "owner": "games & co",
                    "variants": [{"variant": "old"}, {"variant": "new"}],
                    "plan": {"sample_size_per_variant": 400, "mde": 0.05, "power": 0.8},
                    "metrics": {"primary": ["buy"], "guardrail": ["crash:count"]}}),
        );
        let path = format!("/v1/experiments/{}/start", percent::encode(id));
        self.post(&path, &Value::Null);
        let variant = |user| if user < n_old { "old" } else { "new" };
        let assigned = (0..n_old + n_new).map(|user| {
            json!({"user_id": user, "experiment_id": id, "variant": variant(user), "assigned_at": "2025-10-01T00:00:00Z",
                   "context": {"platform": if user % 2 == 0 { "ios" } else { "web" }}})
        });
        self.post("/v1/events/assignments", &assigned.collect());
        let event = |user: i64, kind: &str| {
            json!({"user_id": user, "experiment_id": id, "event_type": kind, "value": format!("{}.25", user % 7),
                   "timestamp": "2025-10-02T00:00:00Z"})
        };
        let buys = (0..n_old + n_new)
            .filter(|user| user % 5 == 0)
            .map(|user| event(user, "buy"));
        let crashes = (0..n_old)
            .filter(|user| user % 9 == 0)
            .map(|user| event(user, "crash"));
        let seen = (0..9).map(|user| event(user, "<i>seen"));
        self.post(
            "/v1/events/metrics",
            &buys.chain(crashes).chain(seen).collect(),
        );
        self.post("/v1/pipeline/run", &Value::Null);
    }
}

/// The path and value of every number on a page.
fn numbers(page: &str) -> Vec<(String, String)> {
    let attribute = |tag: &str, name: &str| {
        let found = tag.split_once(&format!("{name}=\""));
        found
            .and_then(|(_, rest)| rest.split_once('"'))
            .map(|(value, _)| value.to_owned())
    };
    page.split("<data ")
        .skip(1)
        .filter_map(|rest| {
            let tag = rest.split('>').next().unwrap();
            Some((
                attribute(tag, "data-path")?,
                attribute(tag, "value").unwrap(),
            ))
        })
        .collect()
}

/// Every number on the page is the API's, to the last digit. Gives how many there are.
fn compare(page: &str, report: &Value) -> usize {
    let numbers = numbers(page);
    for (path, shown) in &numbers {
        let reported = report
            .pointer(path)
            .unwrap_or_else(|| panic!("the report has no {path}"));
        // Both pass through the same parser, which reads the last digit of a double its own way.
        let read = match reported {
            Value::String(_) => Ok(Value::String(shown.clone())),
            _ => serde_json::from_str(shown),
        };
        assert_eq!(read.unwrap(), *reported, "{path}");
    }
    numbers.len()
}

#[test]
fn every_number_on_the_page_is_the_one_of_the_api() {
    let site = Site::new();
    site.fill("gate", 300, 310);
    for query in [
        "",
        "?alpha=0.1&correction=bh",
        "?control=new&kind=conversion",
        "?metric=buy:sum",
    ] {
        let page = site.page(&format!("/experiments/gate{query}"));
        let report = site.json(&format!("/v1/experiments/gate/results{query}"));
        let n_numbers = compare(&page, &report);
        assert!(n_numbers > 20, "{query}: {n_numbers} numbers");
        for (index, metric) in report["metrics"].as_array().unwrap().iter().enumerate() {
            let path = format!("/metrics/{index}/comparisons/0/p_value");
            assert!(metric["comparisons"][0]["p_value"].is_number(), "{metric}");
            assert!(page.contains(&path), "{path} of {query}");
        }
        assert!(!page.contains("NaN") && !page.contains("inf"), "{query}");
    }
}

#[test]
fn the_list_has_users_progress_and_warnings() {
    let site = Site::new();
    site.fill("gate", 300, 310);
    let page = site.page("/");
    assert!(page.contains(r#"<data value="610">610</data>"#), "{page}");
    assert_eq!(
        compare(&page, &site.json("/v1/experiments/gate/results")),
        2
    );
    assert!(page.contains("75 %"));
    assert!(page.contains("Nothing newer has come in"));
    site.post(
        "/v1/events/metrics",
        &json!({"user_id": 1, "experiment_id": "other", "event_type": "x", "timestamp": "2025-10-02T00:00:00Z"}),
    );
    assert!(site.page("/").contains("wait for the next run"));
    site.post("/v1/pipeline/run", &Value::Null);
    assert!(
        site.page("/?status=unregistered")
            .contains("</span> unregistered</li>")
    );
}

#[test]
fn the_list_is_searched_filtered_and_paged() {
    let site = Site::new();
    for n in 0..60 {
        let id = format!("e{n:02}");
        site.post(
            "/v1/experiments",
            &json!({"experiment_id": id, "owner": if n % 2 == 0 { "Ann" } else { "ben" }, "variants": [{"variant": "a"}]}),
        );
    }
    let n_rows = |path: &str| site.page(path).matches("data-experiment=").count();
    assert_eq!(n_rows("/"), 50);
    assert!(site.page("/").contains("href=\"/?after=e49\" rel=\"next\""));
    assert_eq!(n_rows("/?after=e49"), 10);
    assert!(!site.page("/?after=e49").contains("rel=\"next\""));
    assert_eq!(n_rows("/?q=ANN&status="), 30);
    assert_eq!(n_rows("/?q=e1+ann"), 5);
    assert_eq!(n_rows("/?status=running"), 0);
    assert!(site.page("/?q=nobody").contains("No experiment matches"));
    let (status, _, page) = site.get("/?status=asleep");
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(page.contains("<code>status</code>"));
}

#[test]
fn results_that_fail_the_sample_ratio_check_are_behind_a_warning() {
    let site = Site::new();
    site.fill("gate", 400, 250);
    let page = site.page("/experiments/gate");
    let (before, after) = page.split_once("<details class=\"mismatch\">").unwrap();
    assert!(
        before.contains("data-warning=\"srm\""),
        "the warning comes first"
    );
    assert!(
        !before.contains("class=\"scorecard"),
        "no result stands in the open"
    );
    assert!(after.contains("should not be trusted") && after.contains("class=\"scorecard"));
    let site = Site::new();
    site.fill("gate", 300, 310);
    assert!(
        !site
            .page("/experiments/gate")
            .contains("class=\"mismatch\"")
    );
}

/// The numbers between two texts of a page.
fn numbers_between(page: &str, from: &str, to: &str) -> Vec<String> {
    let (_, rest) = page.split_once(from).unwrap();
    let (part, _) = rest.split_once(to).unwrap();
    let values = part.split("<data value=\"").skip(1);
    values
        .map(|value| value.split('"').next().unwrap().to_owned())
        .collect()
}

#[test]
fn saved_funnels_are_shown_with_users_rates_and_the_test_of_the_last_step() {
    let site = Site::new();
    site.fill("gate", 300, 310);
    assert!(!site.page("/experiments/gate").contains("id=\"funnels\""));
    let hostile = "<script>alert(1)</script>";
    let funnels = json!({"funnels": [
        {"name": "to buy & back", "steps": ["buy", "crash"], "window": "36h", "limits": [null, "1h"]},
        {"name": hostile, "steps": [hostile, "buy"], "window": "none"},
    ]});
    let patch = |funnels: &Value| {
        let request = Request::patch("/v1/experiments/gate").body(Body::from(funnels.to_string()));
        let (status, _, answer) = site.send(request.unwrap());
        assert_eq!(status, StatusCode::OK, "{answer}");
    };
    patch(&funnels);
    let waiting = site.page("/experiments/gate");
    assert_eq!(waiting.matches("Not computed yet").count(), 2, "{waiting}");
    site.post("/v1/pipeline/run", &Value::Null);

    for query in ["", "?control=new&alpha=0.2"] {
        let page = site.page(&format!("/experiments/gate{query}"));
        assert!(!page.contains("<script"), "{page}");
        assert!(page.contains("<h3 id=\"funnel-0\">to buy &#38; back"));
        assert!(page.contains("within 36h after the exposure"));
        assert!(page.contains("within 1h after the step before"));
        let choices = query.replace('?', "&");
        let json = format!("/v1/experiments/gate/funnel?name=to%20buy%20%26%20back{choices}");
        let link = format!("href=\"{}\"", json.replace('&', "&#38;"));
        assert!(page.contains(&link), "{link}: {page}");
        let funnel = site.json(&json);
        let mut expected = Vec::new();
        let variants = funnel["variants"].as_array().unwrap();
        expected.extend(variants.iter().map(|variant| variant["users"].to_string()));
        for step in 0..2 {
            for variant in variants {
                let step = &variant["steps"][step];
                expected.extend([step["users"].to_string(), step["rate"].to_string()]);
            }
        }
        let compared = &funnel["comparisons"][0];
        let test = &compared["always_valid"];
        expected.push(compared["steps"][1]["difference"].to_string());
        expected.extend(
            [&test["ci"][0], &test["ci"][1], &test["adjusted_p_value"]].map(Value::to_string),
        );
        let read = |text: &String| serde_json::from_str::<Value>(text).unwrap();
        let shown = numbers_between(&page, "id=\"funnel-0\"", "</section>");
        let shown: Vec<Value> = shown.iter().map(read).collect();
        assert_eq!(shown, expected.iter().map(read).collect::<Vec<_>>());
        assert_eq!(
            variants[0]["users"],
            if query.is_empty() { 300 } else { 310 }
        );
        let (_, card) = page.split_once("id=\"funnel-0\"").unwrap();
        assert_eq!(
            card.contains("</span> significant</span>"),
            test["significant"] == true
        );
    }
    let past = site.page("/experiments/gate?as_of=2025-10-09T09:00:00Z");
    assert!(
        past.contains("The saved funnels are of all users"),
        "{past}"
    );

    patch(&json!({"funnels": [{"name": "to buy & back", "steps": ["buy", "crash"]}]}));
    assert!(
        site.page("/experiments/gate")
            .contains("Changed after the last run")
    );
}

#[test]
fn funnels_of_results_that_should_not_be_trusted_are_behind_the_warning() {
    let site = Site::new();
    site.post(
        "/v1/experiments",
        &json!({"experiment_id": "gate", "variants": [{"variant": "old"}, {"variant": "new"}],
                "funnels": [{"name": "f", "steps": ["buy", "buy"]}]}),
    );
    let assigned = (0..650).map(|user| {
        json!({"user_id": user, "experiment_id": "gate", "variant": if user < 400 { "old" } else { "new" },
               "assigned_at": "2025-10-01T00:00:00Z"})
    });
    site.post("/v1/events/assignments", &assigned.collect());
    site.post("/v1/pipeline/run", &Value::Null);
    let page = site.page("/experiments/gate");
    let (before, after) = page.split_once("<details class=\"mismatch\">").unwrap();
    assert!(!before.contains("id=\"funnels\""));
    assert!(after.contains("data-funnel=\"f\"") && after.contains("nothing to compare"));
}

#[test]
fn any_id_can_be_shown_and_linked() {
    let site = Site::new();
    for id in [
        "a b/c?d#e%2F",
        "<script>alert(1)</script>",
        "'\"&ä\u{1F600}",
    ] {
        site.fill(id, 20, 22);
        let list = site.page("/");
        let path = format!("/experiments/{}", percent::encode(id));
        assert!(list.contains(&format!("href=\"{path}\"")), "{id}");
        let page = site.page(&path);
        assert!(
            !list.contains("<script") && !page.contains("<script"),
            "{id}"
        );
        assert!(!page.contains("<b>later") && page.contains("games &#38; co"));
        assert!(!page.contains("<i>seen"));
        let json = format!("/v1{path}/results");
        assert!(page.contains(&format!("href=\"{json}\"")), "{id}");
        compare(&page, &site.json(&json));
    }
}

#[test]
fn a_form_is_turned_into_the_query_of_the_api() {
    let site = Site::new();
    site.fill("gate", 20, 22);
    let (status, headers, _) =
        site.get("/experiments/gate?metric=&kind=sum&segment=&from=&to=&alpha=0.1&as_of=");
    assert_eq!(status, StatusCode::SEE_OTHER);
    assert_eq!(headers["location"], "/experiments/gate?kind=sum&alpha=0.1");
    let page = site.page("/experiments/gate?kind=sum&alpha=0.1");
    assert!(page.contains("href=\"/v1/experiments/gate/results?kind=sum&#38;alpha=0.1\""));
    assert!(page.contains("<option selected>sum</option>"));
    let (_, headers, _) = site.get("/experiments/gate?segment=platform%3Dios&from=2025-10-01");
    let location = headers["location"].to_str().unwrap();
    assert_eq!(
        location,
        "/experiments/gate?segment.platform=ios&from=2025-10-01T00%3A00%3A00Z"
    );
}

#[test]
fn an_error_is_a_page_with_a_way_back() {
    let site = Site::new();
    site.fill("gate", 20, 22);
    for (path, expected, text) in [
        ("/experiments/nobody", StatusCode::NOT_FOUND, "nobody"),
        (
            "/experiments/gate?alpha=2",
            StatusCode::BAD_REQUEST,
            "<code>alpha</code>",
        ),
        (
            "/experiments/gate?segment=ios",
            StatusCode::BAD_REQUEST,
            "<code>segment</code>",
        ),
        (
            "/experiments/gate?control=green",
            StatusCode::UNPROCESSABLE_ENTITY,
            "<code>control</code>",
        ),
        (
            "/experiments/gate?x=%ff",
            StatusCode::BAD_REQUEST,
            "<code>x</code>",
        ),
        (
            "/experiments/%ff",
            StatusCode::BAD_REQUEST,
            "cannot be read",
        ),
        (
            "/experiments/gate?segment.platform=ios",
            StatusCode::TOO_MANY_REQUESTS,
            "again in 2 seconds",
        ),
        (
            "/static/1/nothing.css",
            StatusCode::NOT_FOUND,
            "nothing.css",
        ),
    ] {
        let (status, headers, page) = site.get(path);
        assert_eq!(status, expected, "{path}: {page}");
        assert!(
            headers["content-type"]
                .to_str()
                .unwrap()
                .starts_with("text/html"),
            "{path}"
        );
        assert_eq!(headers["cache-control"], "no-store", "{path}");
        assert!(
            page.contains(text) && page.contains("href=\"/\""),
            "{path}: {page}"
        );
    }
    assert!(
        site.get("/experiments/gate?alpha=2")
            .2
            .contains("href=\"/experiments/gate\"")
    );
    assert_eq!(
        site.get("/experiments/gate?segment.platform=ios").1["retry-after"],
        "2"
    );
    let lost = |accept: &str| {
        let request = Request::get("/nowhere").header("accept", accept);
        site.send(request.body(Body::empty()).unwrap()).1["content-type"].clone()
    };
    assert_eq!(lost("text/html,*/*"), "text/html; charset=utf-8");
    assert_eq!(lost("*/*"), "application/problem+json");
}

#[test]
fn an_empty_page_tells_the_next_step() {
    let site = Site::new();
    assert!(site.page("/").contains("/v1/experiments&#39; -d &#39;{"));
    let id = "it's";
    let path = format!("/experiments/{}", percent::encode(id));
    let post = |path: &str| site.post(path, &Value::Null);
    site.post(
        "/v1/experiments",
        &json!({"experiment_id": id, "variants": [{"variant": "a"}, {"variant": "b"}]}),
    );
    assert!(site.page(&path).contains(&format!("/v1{path}/start")));
    post(&format!("/v1{path}/start"));
    assert!(site.page(&path).contains("/v1/pipeline/run"));
    post("/v1/pipeline/run");
    let page = site.page(&path);
    assert!(page.contains("/v1/events/assignments"));
    assert!(
        page.contains(r"it&#39;\&#39;&#39;s"),
        "quoted for a shell: {page}"
    );
    site.post(
        "/v1/events/assignments",
        &json!({"user_id": 1, "experiment_id": id, "variant": "a", "assigned_at": "2025-10-01T00:00:00Z"}),
    );
    post("/v1/pipeline/run");
    assert!(site.page(&path).contains("/v1/events/metrics"));
}

#[test]
fn files_are_kept_by_their_version_and_pages_are_not() {
    let site = Site::new();
    let (_, headers, page) = site.get("/");
    assert_eq!(headers["cache-control"], "no-store");
    let (_, rest) = page.split_once("rel=\"stylesheet\" href=\"").unwrap();
    let address = rest.split('"').next().unwrap();
    let (status, headers, _) = site.get(address);
    assert_eq!(
        (status, &headers["content-type"]),
        (StatusCode::OK, &"text/css; charset=utf-8".parse().unwrap())
    );
    assert_eq!(
        headers["cache-control"],
        "public, max-age=31536000, immutable"
    );
    assert_eq!(
        site.get("/static/0-old/dashboard.css").1["cache-control"],
        "no-store"
    );
    assert!(!page.contains("style=") && !page.contains("<script") && !page.contains("<style"));
}

#[test]
fn the_list_reads_the_summary_of_the_last_run_until_something_changes() {
    let site = Site::new();
    site.fill("gate", 210, 190);
    let built = || {
        let report = site.json("/v1/experiments/gate/results");
        Summary::from_report(&serde_json::from_value::<Report>(report).unwrap())
    };
    assert_eq!(site.stored_summary("gate"), Some(built()));
    let listed = site.page("/");
    assert!(listed.contains("400"), "{listed}");

    let change = r#"{"alpha": 0.1, "confirm": true}"#;
    let request = Request::patch("/v1/experiments/gate").body(Body::from(change));
    let (status, _, answer) = site.send(request.unwrap());
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert_eq!(site.stored_summary("gate"), None, "the report is built");
    assert!(!built().warnings.is_empty());
    let listed = site.page("/");
    for warning in built().warnings {
        let code = warning.code.replace('_', " ");
        assert!(listed.contains(&code), "{code}: {listed}");
    }

    site.post("/v1/pipeline/run", &Value::Null);
    assert_eq!(site.stored_summary("gate"), Some(built()));
}

#[test]
fn the_page_leads_to_the_breakdowns_by_declared_segments() {
    let site = Site::new();
    site.fill("plain", 30, 30);
    assert!(!site.page("/experiments/plain").contains("/breakdowns"));
    site.post(
        "/v1/experiments",
        &json!({"experiment_id": "gate", "variants": [{"variant": "a"}, {"variant": "b"}], "segments": ["platform", "a&b"]}),
    );
    let page = site.page("/experiments/gate");
    let start = page.find("/v1/experiments/gate/breakdowns").unwrap();
    let link = page[start..].split('"').next().unwrap();
    // In HTML the ampersand between two parameters is escaped.
    let address = link.replace("&#38;", "&").replace("&amp;", "&");
    assert_eq!(
        address,
        "/v1/experiments/gate/breakdowns?by=platform&by=a%26b"
    );
}
