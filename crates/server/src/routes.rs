//! Defines the routes of the HTTP interface, and the layers that every request passes.

use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::middleware::from_fn_with_state;
use axum::response::Response;
use axum::routing::{MethodRouter, delete, get, post};
use trialog_catalog::experiments::Experiment;
use trialog_catalog::holdouts::Holdout;
use trialog_catalog::layers::Layer;
use trialog_catalog::metrics::Metric;

use crate::api::{
    audit, breakdown, breakdowns, calc, cohorts, context, evaluation, events, experiments, export,
    funnel, health, holdouts, keys, maintenance, pipeline, resource, results, timeline,
};
use crate::app::App;
use crate::problem::Problem;
use crate::{access, cors, dashboard, headers, observe, openapi, telemetry};

/// A router that lists its paths, so that tests can call each of them.
pub(crate) struct Routes {
    router: Router<Arc<App>>,
    paths: Vec<&'static str>,
}

impl Routes {
    pub(crate) fn new() -> Self {
        Self {
            router: Router::new(),
            paths: Vec::new(),
        }
    }

    pub(crate) fn route(mut self, path: &'static str, methods: MethodRouter<Arc<App>>) -> Self {
        self.router = self.router.route(path, methods);
        self.paths.push(path);
        self
    }

    /// Adds another spelling of a path that is routed already; it is not listed.
    fn alias(mut self, path: &'static str, methods: MethodRouter<Arc<App>>) -> Self {
        self.router = self.router.route(path, methods);
        self
    }

    fn merge(mut self, other: Self) -> Self {
        self.router = self.router.merge(other.router);
        self.paths.extend(other.paths);
        self
    }
}

/// Lists the path of every route.
pub fn paths() -> Vec<&'static str> {
    routes().paths
}

/// Builds the router over `app`: all routes behind the layers that every request passes.
pub fn router(app: Arc<App>) -> Router {
    let served = if app.settings.serves_api {
        routes()
    } else {
        process_routes()
    };
    served
        .router
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .with_state(Arc::clone(&app))
        .layer(from_fn_with_state(Arc::clone(&app), access::guard))
        .layer(from_fn_with_state(Arc::clone(&app), cors::share))
        .layer(from_fn_with_state(Arc::clone(&app), observe::observe))
        .layer(from_fn_with_state(app, headers::add_response_headers))
}

fn routes() -> Routes {
    Routes::new()
        .route("/v1/events/assignments", post(events::assignments))
        .route("/v1/events/metrics", post(events::metrics))
        .route(
            "/v1/experiments",
            get(experiments::list).post(resource::create::<Experiment>),
        )
        .route(
            "/v1/experiments/{id}",
            resource::one::<Experiment>().delete(experiments::delete),
        )
        .route("/v1/experiments/{id}/start", experiments::start())
        .route("/v1/experiments/{id}/stop", experiments::stop())
        .route("/v1/experiments/{id}/resume", experiments::resume())
        .route("/v1/experiments/{id}/decide", post(experiments::decide))
        .route("/v1/experiments/{id}/archive", experiments::archive())
        .route("/v1/experiments/{id}/confirm", experiments::confirm())
        .route("/v1/experiments/{id}/audit", get(audit::of_experiment))
        .route("/v1/audit", get(audit::all))
        .route("/v1/metrics", resource::all::<Metric>())
        .route(
            "/v1/metrics/{name}",
            resource::one::<Metric>().delete(resource::delete::<Metric>),
        )
        .route("/v1/layers", resource::all::<Layer>())
        .route(
            "/v1/layers/{name}",
            resource::one::<Layer>().delete(resource::delete::<Layer>),
        )
        .route("/v1/holdouts", resource::all::<Holdout>())
        .route(
            "/v1/holdouts/{name}",
            get(resource::read::<Holdout>).patch(holdouts::change),
        )
        .route("/v1/holdouts/{name}/start", holdouts::start())
        .route("/v1/holdouts/{name}/stop", holdouts::stop())
        .route("/v1/sdk/config", get(evaluation::config))
        .route("/v1/assign", post(evaluation::assign))
        .route("/v1/track", post(evaluation::track))
        .route("/ofrep/v1/evaluate/flags", post(evaluation::evaluate_all))
        .alias("/ofrep/v1/evaluate/flags/", post(evaluation::evaluate_all))
        .route("/ofrep/v1/evaluate/flags/{key}", post(evaluation::evaluate))
        .route("/v1/experiments/{id}/results", get(results::results))
        .route("/v1/experiments/{id}/context", get(context::context))
        .route("/v1/experiments/{id}/breakdown", get(breakdown::breakdown))
        .route(
            "/v1/experiments/{id}/breakdowns",
            get(breakdowns::breakdowns),
        )
        .route("/v1/experiments/{id}/timeline", get(timeline::timeline))
        .route("/v1/experiments/{id}/cohorts", get(cohorts::cohorts))
        .route("/v1/experiments/{id}/funnel", get(funnel::funnel))
        .route("/v1/experiments/{id}/funnels", get(funnel::list))
        .route("/v1/calc/{family}", post(calc::compute))
        .route("/v1/pipeline", get(pipeline::state))
        .route("/v1/pipeline/run", post(pipeline::run))
        .route("/v1/backup", post(maintenance::backup))
        .route("/v1/verify", get(maintenance::verify))
        .route("/v1/users/{user}", delete(maintenance::forget))
        .route("/v1/export/{table}", get(export::export))
        .route("/v1/retention/apply", post(maintenance::retain))
        .route("/v1/erasures", get(maintenance::erasures))
        .route("/v1/keys", get(keys::list).post(keys::create))
        .route("/v1/keys/{id}", delete(keys::revoke))
        .route("/openapi.json", get(openapi::serve))
        .merge(dashboard::routes())
        .merge(process_routes())
}

/// Returns the routes by which a process reports on itself, whatever its roles.
fn process_routes() -> Routes {
    Routes::new()
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(telemetry::metrics))
}

async fn no_route(uri: Uri, headers: HeaderMap) -> Response {
    let problem = Problem::new(
        StatusCode::NOT_FOUND,
        format!(
            "there is no path `{}`: GET /openapi.json lists all paths",
            uri.path()
        ),
    );
    dashboard::not_found(problem, &headers)
}

async fn no_method(uri: Uri) -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        format!("`{}` does not take this method", uri.path()),
    )
}
