//! What the resources of named documents share: one handler for each thing to do with them.
//!
//! A kind supplies its types, its words and what differs by implementing [`Resource`];
//! `operations.rs` describes the same handlers for the OpenAPI document.

pub(super) mod operations;

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{Path, RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use bytes::Bytes;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use trialog_catalog::audit::Edit;
use trialog_catalog::documents::{Deletable, Document};
use trialog_catalog::{Catalog, CatalogError};
use trialog_model::document;
use trialog_model::ids::NameError;
use trialog_model::percent;

use crate::app::App;
use crate::body::received;
use crate::edit::{Editing, etag, merged, patch, take_confirmation};
use crate::page::{listing, next};
use crate::pools;
use crate::problem::{Answer, Problem};

/// The words that the interface has for a kind of document.
pub(crate) struct Words {
    /// The path of all.
    pub(crate) path: &'static str,
    /// The path of one.
    pub(crate) path_of_one: &'static str,
    /// The parameter of that path.
    pub(crate) segment: &'static str,
    /// The most characters of a name.
    pub(crate) max_chars: usize,
    /// A name.
    pub(crate) example: &'static str,
    /// The member of a definition that is the name.
    pub(crate) member: &'static str,
    /// Why a name cannot change, and what to do instead.
    pub(crate) renaming: &'static str,
    /// The tag of operations.
    pub(crate) tag: &'static str,
    /// What a page has.
    pub(crate) many: &'static str,
    /// What an answer is.
    pub(crate) one: &'static str,
    /// What creating one leads to.
    pub(crate) created: &'static str,
    /// What an entity tag is.
    pub(crate) entity_tag: &'static str,
}

/// A kind of named document behind HTTP.
pub(crate) trait Resource:
    Document<Name: TryFrom<String, Error = NameError> + PartialEq + Send, Definition: Send>
    + Send
    + 'static
{
    /// How answers show one.
    type Shown: From<Self> + Serialize + JsonSchema;
    /// How answers show a page.
    type Page: Serialize + JsonSchema;

    const WORDS: Words;
    /// What a search looks at, where lists can be searched.
    const SEARCH: Option<&'static str> = None;
    /// Whether `confirm` may stand beside a new definition.
    const CONFIRMS_NEW: bool = false;
    /// Whether `confirm` may stand beside the members that change.
    const CONFIRMS_CHANGE: bool = false;

    /// Reads a definition, and checks it.
    fn read(fields: Value) -> Answer<Self::Definition>;

    /// Reads the definition that takes the place of the present one, and checks the change.
    fn read_change(&self, fields: Value) -> Answer<Self::Definition> {
        let changed = Self::read(fields)?;
        self.keep_name(&changed)?;
        Ok(changed)
    }

    /// Checks that `changed` has the same name.
    fn keep_name(&self, changed: &Self::Definition) -> Answer<()> {
        if Self::name_of(changed) == Self::name_of(self.definition()) {
            return Ok(());
        }
        let reason = format!("cannot change: {}", Self::WORDS.renaming);
        Err(Problem::broken_rule(Self::WORDS.member, &reason))
    }

    /// Shows one that was created or changed, with what people should know about that.
    fn with_warnings(self, _app: &App) -> Answer<Self::Shown> {
        Ok(self.into())
    }

    /// Puts a page together.
    fn page(shown: Vec<Self::Shown>, next: Option<String>) -> Self::Page;
}

/// Routes what is done with all of a kind.
pub(crate) fn all<R: Resource>() -> MethodRouter<Arc<App>> {
    get(list::<R>).post(create::<R>)
}

/// Routes what is done with one of a kind.
pub(crate) fn one<R: Resource>() -> MethodRouter<Arc<App>> {
    get(read::<R>).patch(change::<R>)
}

/// Reads the name in a path; one that cannot exist is not found.
pub(crate) fn name<R: Resource>(path: Result<Path<String>, PathRejection>) -> Answer<R::Name> {
    let Path(text) =
        path.map_err(|error| Problem::bad_request(format!("the path cannot be read: {error}")))?;
    R::Name::try_from(text).map_err(|error| {
        let such = match R::WORDS.segment {
            "id" => "an id",
            _ => "a name",
        };
        let detail = format!("no {} has such {such}: it {error}", R::SUBJECT.as_str());
        Problem::new(StatusCode::NOT_FOUND, detail)
    })
}

/// Shows `document` without warnings.
pub(crate) fn plain<R: Resource>(document: R, _app: &App) -> Answer<R::Shown> {
    Ok(document.into())
}

/// Answers with what `show` makes of `document`, and its entity tag.
pub(crate) fn answer<R: Resource>(
    document: R,
    app: &App,
    show: impl FnOnce(R, &App) -> Answer<R::Shown>,
) -> Answer<Response> {
    let tag = [(header::ETAG, etag(document.state()))];
    Ok((tag, Json(show(document, app)?)).into_response())
}

pub(crate) async fn create<R: Resource>(
    State(app): State<Arc<App>>,
    Editing(mut edit): Editing,
    body: Result<Bytes, BytesRejection>,
) -> Answer<Response> {
    let mut fields = document::value(&received(body)?).map_err(Problem::unreadable)?;
    if let (true, Value::Object(fields)) = (R::CONFIRMS_NEW, &mut fields) {
        take_confirmation(&mut edit, fields)?;
    }
    let definition = R::read(fields)?;
    let name = percent::encode(&R::name_of(&definition).to_string());
    let location = [(header::LOCATION, format!("{}/{name}", R::WORDS.path))];
    let created = pools::change(&app, move |app| {
        let created: R = app.catalog.create(&definition, &edit)?;
        answer(created, app, R::with_warnings)
    })
    .await?;
    Ok((StatusCode::CREATED, location, created).into_response())
}

pub(crate) async fn read<R: Resource>(
    State(app): State<Arc<App>>,
    path: Result<Path<String>, PathRejection>,
) -> Answer<Response> {
    let name = name::<R>(path)?;
    pools::query(&app, move |app| {
        let found: R = app.catalog.get(&name)?;
        answer(found, app, plain)
    })
    .await
}

/// Replaces the fields that the body names; null puts one back to its default.
pub(crate) async fn change<R: Resource>(
    State(app): State<Arc<App>>,
    path: Result<Path<String>, PathRejection>,
    Editing(mut edit): Editing,
    body: Result<Bytes, BytesRejection>,
) -> Answer<Response> {
    let name = name::<R>(path)?;
    let mut patch = patch(&received(body)?)?;
    if R::CONFIRMS_CHANGE {
        take_confirmation(&mut edit, &mut patch)?;
    }
    pools::change(&app, move |app| {
        let changed = app.catalog.change(&name, &edit, |known: &R| {
            known.read_change(merged(known.definition(), patch)?)
        })?;
        answer(changed, app, R::with_warnings)
    })
    .await
}

/// Deletes one, and answers with it as it was.
pub(crate) async fn delete<R: Resource + Deletable>(
    State(app): State<Arc<App>>,
    path: Result<Path<String>, PathRejection>,
    Editing(edit): Editing,
) -> Answer<Response> {
    let name = name::<R>(path)?;
    pools::change(&app, move |app| {
        let deleted: R = app.catalog.delete(&name, &edit)?;
        Ok(Json(R::Shown::from(deleted)).into_response())
    })
    .await
}

pub(crate) async fn list<R: Resource>(
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
) -> Answer<Response> {
    let listing = listing(query.as_deref().unwrap_or_default(), R::SEARCH.is_some())?;
    // A long page is written here too, so that no other connection waits for it.
    pools::query(&app, move |app| {
        let found: Vec<R> = app.catalog.list(&listing)?;
        let next = next(&found, listing.limit, |last| {
            R::name_of(last.definition()).to_string()
        });
        let shown = found.into_iter().map(R::Shown::from).collect();
        Ok(Json(R::page(shown, next)).into_response())
    })
    .await
}

/// Routes a step in the life of one, which the catalog takes.
pub(crate) fn step<R: Resource>(
    step: fn(&Catalog, &R::Name, &Edit) -> Result<R, CatalogError>,
    show: fn(R, &App) -> Answer<R::Shown>,
) -> MethodRouter<Arc<App>> {
    post(
        move |State(app): State<Arc<App>>,
              path: Result<Path<String>, PathRejection>,
              Editing(edit): Editing| async move {
            let name = name::<R>(path)?;
            pools::change(&app, move |app| {
                answer(step(&app.catalog, &name, &edit)?, app, show)
            })
            .await
        },
    )
}
