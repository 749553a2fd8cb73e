//! Controls access: every request passes [`guard`] before its handler.
//!
//! Without any key, a server that listens on loopback answers everybody on
//! this machine. From the first key on a request needs one whose scope covers
//! it ([`scopes`]), even after the last key was revoked.

mod credential;
pub(crate) mod keyring;
pub(crate) mod refusals;
pub(crate) mod scopes;
pub(crate) mod secret;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::json;
use trialog_catalog::keys::Scope;
use trialog_model::time::UnixMicros;

use crate::answers;
use crate::app::App;
use crate::body;
use crate::limits::Who;
use crate::places::Busy;
use crate::pools;
use crate::problem::{Answer, Problem};
use crate::serving::Peer;
use crate::work::on_behalf_of;
use credential::Credential;
use keyring::{Caller, Refused};
use refusals::Refusal;
use scopes::Need;
use trialog_catalog::audit::Actor;

/// Fills its argument with unpredictable random bytes.
pub type Randomness = fn(&mut [u8]) -> std::io::Result<()>;

/// Marks a request that this process makes to itself. It needs no key, because whoever can open
/// the data directory may do everything. No request from outside can carry it.
#[derive(Debug, Clone, Copy)]
pub struct InProcess;

/// The identity of an admitted request: its actor, and the caller whose limits it uses.
struct Admitted {
    actor: Actor,
    who: Who,
}

/// Passes a request to its handler, with its [`Actor`] and its [`Who`] in the extensions, or
/// rejects it. The response carries the [`Who`] too, as far as it is known.
pub(crate) async fn guard(
    State(app): State<Arc<App>>,
    mut request: Request,
    next: Next,
) -> Response {
    if !app.keyring.is_current(&app.catalog)
        && let Err(problem) = load_keys(&app).await
    {
        return problem.into_response();
    }
    let Admitted { actor, who } = match admit(&app, &request) {
        Ok(admitted) => admitted,
        Err(problem) => {
            let (parts, body) = request.into_parts();
            body::discard(&parts.headers, body).await;
            return problem.into_response();
        }
    };
    request.extensions_mut().insert(actor);
    request.extensions_mut().insert(who.clone());
    let caller = who.limited().cloned();
    let mut response = match body::hold(&app, &who, request).await {
        Ok((request, _held)) => on_behalf_of(caller, next.run(request)).await,
        Err(problem) => problem.into_response(),
    };
    response.extensions_mut().insert(who);
    response
}

/// Reads the keys that were changed meanwhile. Anybody's request may find that they cannot be
/// read, so that is counted like a refusal.
async fn load_keys(app: &Arc<App>) -> Answer<()> {
    let load = |app: &App| Ok(app.keyring.load(&app.catalog));
    pools::upkeep(app, load).await?.map_err(|error| {
        let why = format!("the API keys cannot be read: {error}");
        tell(app.refusals.note(Refusal::KeysUnread, &why, (app.clock)()));
        Problem::unavailable(why, 5)
    })
}

fn admit(app: &Arc<App>, request: &Request) -> Answer<Admitted> {
    if secret::contains_key(&request.uri().to_string()) {
        return Err(Problem::bad_request(
            "an API key stands in the address, which proxies and browsers write down: revoke that key, and send another in the header `Authorization: Bearer`; a user whose id looks like one can be named by the number that `trialog user-id` prints",
        ));
    }
    let peer = request.extensions().get::<Peer>();
    let address = peer.map_or(Who::Local, |peer| Who::address(peer.address.ip()));
    let admitted = |actor, who| Ok(Admitted { actor, who });
    if request.extensions().get::<InProcess>().is_some() {
        return admitted(Actor::local(), Who::Local);
    }
    let path = request.extensions().get::<MatchedPath>();
    let need = scopes::need(request.method(), path.map(MatchedPath::as_str));
    if need == Need::Nothing {
        return admitted(Actor::anonymous(), address);
    }
    let now = (app.clock)();
    let authenticated = authenticate(app, request, peer, now);
    let who = match &authenticated {
        Ok(Some(caller)) if caller.id == secret::LOCAL_ID => Who::Local,
        Ok(Some(caller)) => Who::Key(caller.id.clone()),
        _ => address,
    };
    if let Some(wait) = app.rates.refuse(&who, now) {
        let limit = app.settings.requests_per_second;
        return Err(Problem::busy(
            format!("more than {limit} requests a second: send this one again in {wait} s"),
            wait,
        ));
    }
    let caller = authenticated?;
    let_in(request, caller.is_some(), &who)?;
    let actor = match caller {
        Some(caller) => {
            note_use(app, now);
            permit(app, &caller, need, now)?;
            match caller.id == secret::LOCAL_ID {
                true => Actor::local(),
                false => Actor::of_key(&caller.name),
            }
        }
        None => Actor::anonymous(),
    };
    if !answers::brings_events(request.uri().path()) {
        app.answers.check(&who)?;
    }
    admitted(actor, who)
}

/// Notes on its connection that the request is let in, unless that has a reserved place and the
/// request no key, or the caller has too many in work.
fn let_in(request: &Request, has_key: bool, who: &Who) -> Answer<()> {
    let Some(busy) = request.extensions().get::<Arc<Busy>>() else {
        return Ok(());
    };
    if busy.is_reserved() && !has_key {
        return Err(Problem::unavailable(
            "the server has as many connections as it may: try again shortly, or raise --max-connections",
            1,
        ));
    }
    match busy.let_in(who.limited().cloned()) {
        true => Ok(()),
        false => Err(Problem::busy(
            "half of the connections that the server may have wait for answers to you: send this request again shortly",
            1,
        )),
    }
}

/// Authenticates a request; `None` if the server requires no key.
fn authenticate(
    app: &App,
    request: &Request,
    peer: Option<&Peer>,
    now: UnixMicros,
) -> Answer<Option<Caller>> {
    let open = app.keyring.is_empty() && peer.is_none_or(|peer| peer.is_open);
    match credential::from_headers(request.headers())? {
        None if open => {
            credential::check_host(request)?;
            credential::check_origin(request, &app.settings.cors_origins)?;
            Ok(None)
        }
        None => Err(unauthorized(
            "this server takes an API key: send it in the header `Authorization: Bearer`; `trialog keys create` makes one",
        )),
        Some(credential) => {
            if let Credential::Password(_) = credential {
                // A browser sends a password by itself, whichever page asks.
                credential::check_origin(request, &app.settings.cors_origins)?;
            }
            let caller = app.keyring.check(credential.key(), now);
            Ok(Some(
                caller.map_err(|refused| wrong_key(app, &refused, now))?,
            ))
        }
    }
}

fn wrong_key(app: &App, refused: &Refused, now: UnixMicros) -> Problem {
    let detail = match refused {
        Refused::Unknown => {
            "there is no such API key: check that it was copied whole, and that it is a key of this server".to_owned()
        }
        Refused::Revoked(name) => format!("the API key `{name}` was revoked: use another"),
        Refused::Expired(name) => format!("the API key `{name}` has expired: use another"),
    };
    let refusal = match refused {
        Refused::Unknown => Refusal::UnknownKey,
        Refused::Revoked(_) => Refusal::RevokedKey,
        Refused::Expired(_) => Refusal::ExpiredKey,
    };
    tell(app.refusals.note(refusal, &detail, now));
    unauthorized(detail)
}

/// Logs the line about refused requests, where one is due.
fn tell(line: Option<String>) {
    if let Some(line) = line {
        tracing::info!("{line}");
    }
}

/// How often [`log_refusals`] must be called.
pub(crate) const LOG_REFUSALS_EVERY: Duration = Duration::from_secs(60);

/// Logs how many requests were rejected since the last line about them.
pub(crate) fn log_refusals(app: &App) {
    tell(app.refusals.rest((app.clock)()));
}

/// Builds a 401 with both ways to send a key: the header for programs, the dialog for browsers.
pub(crate) fn unauthorized(detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, detail)
        .with_header(
            header::WWW_AUTHENTICATE,
            HeaderValue::from_static("Bearer realm=\"trialog\""),
        )
        .with_header(
            header::WWW_AUTHENTICATE,
            HeaderValue::from_static(
                "Basic realm=\"trialog: the key is the password\", charset=\"UTF-8\"",
            ),
        )
}

fn permit(app: &App, caller: &Caller, need: Need, now: UnixMicros) -> Answer<()> {
    match need {
        Need::Scope(needed) if !scopes::allow(&caller.scopes, needed) => {
            let why = format!(
                "the key `{}` has no scope `{}`",
                caller.name,
                needed.as_str()
            );
            tell(app.refusals.note(Refusal::NoScope, &why, now));
            Err(forbidden(&caller.name, needed))
        }
        _ => Ok(()),
    }
}

fn forbidden(name: &str, needed: Scope) -> Problem {
    let scope = needed.as_str();
    let detail =
        format!("this takes the scope `{scope}`, which the API key `{name}` does not have");
    let challenge =
        format!("Bearer realm=\"trialog\", error=\"insufficient_scope\", scope=\"{scope}\"");
    let problem = Problem::new(StatusCode::FORBIDDEN, detail).with("scope", json!(scope));
    match HeaderValue::try_from(challenge) {
        Ok(challenge) => problem.with_header(header::WWW_AUTHENTICATE, challenge),
        Err(_) => problem,
    }
}

/// Writes the last uses to the catalog now and then, out of the request's way.
fn note_use(app: &Arc<App>, now: UnixMicros) {
    if !app.keyring.is_due(now) {
        return;
    }
    let app = Arc::clone(app);
    tokio::spawn(async move {
        let note = |app: &App| Ok(app.keyring.note_uses(&app.catalog)?);
        if let Err(problem) = pools::upkeep(&app, note).await {
            let reason = problem.detail();
            tracing::warn!("the last use of API keys was not noted: {reason}");
        }
    });
}

/// Returns whether `method` only reads.
pub(crate) fn is_safe(method: &Method) -> bool {
    [Method::GET, Method::HEAD, Method::OPTIONS].contains(method)
}
