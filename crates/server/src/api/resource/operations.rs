//! The OpenAPI operations of a kind of named document.

use axum::http::{Method, StatusCode};
use schemars::JsonSchema;
use serde_json::Value;

use super::Resource;
use crate::openapi::operation::Operation;
use crate::openapi::schema;
use crate::page::MAX_SEARCH;

pub(crate) fn list<R: Resource>(id: &'static str, summary: &'static str) -> Operation {
    let words = R::WORDS;
    let mut list = Operation::new(Method::GET, words.path, id, summary).tag(words.tag);
    if let Some(search) = R::SEARCH {
        list = list.query("q", schema::chars(0, MAX_SEARCH), search);
    }
    let limit = format!("{} on a page.", words.many);
    list.query("after", schema::text(), "The `next` of the page before.")
        .query("limit", schema::page_limit(), &limit)
        .answers::<R::Page>(StatusCode::OK, "A page, in the order of names.")
}

pub(crate) fn create<R: Resource>(
    id: &'static str,
    summary: &'static str,
    example: Value,
) -> Operation {
    let words = R::WORDS;
    let definition = format!("{}Definition", R::Shown::schema_name());
    Operation::new(Method::POST, words.path, id, summary)
        .tag(words.tag)
        .body(schema::reference(&definition), example)
        .answers::<R::Shown>(StatusCode::CREATED, words.created)
        .answer_header(StatusCode::CREATED, "Location", "Where it is.")
        .answer_header(StatusCode::CREATED, "ETag", words.entity_tag)
        .problems(&[409, 422])
}

pub(crate) fn read<R: Resource>(id: &'static str, summary: &'static str) -> Operation {
    one::<R>(Method::GET, R::WORDS.path_of_one, id, summary)
}

/// A change, which conflicts with nothing unless its kind says so.
pub(crate) fn change<R: Resource>(id: &'static str, example: Value) -> Operation {
    let change = format!("{}Change", R::Shown::schema_name());
    let summary = "Changes the members that the body names";
    one::<R>(Method::PATCH, R::WORDS.path_of_one, id, summary)
        .body(schema::reference(&change), example)
        .if_match()
        .problems(&[422])
}

pub(crate) fn delete<R: Resource>(id: &'static str, summary: &'static str) -> Operation {
    untagged::<R>(Method::DELETE, R::WORDS.path_of_one, id, summary)
        .if_match()
        .problems(&[409])
}

/// A step in the life of one, which its state may not allow.
pub(crate) fn step<R: Resource>(
    path: &'static str,
    id: &'static str,
    summary: &'static str,
) -> Operation {
    one::<R>(Method::POST, path, id, summary)
        .if_match()
        .problems(&[409])
}

/// An operation that answers with one and its entity tag.
pub(crate) fn one<R: Resource>(
    method: Method,
    path: &'static str,
    id: &'static str,
    summary: &'static str,
) -> Operation {
    untagged::<R>(method, path, id, summary).answer_header(
        StatusCode::OK,
        "ETag",
        R::WORDS.entity_tag,
    )
}

/// An operation that answers with one.
fn untagged<R: Resource>(
    method: Method,
    path: &'static str,
    id: &'static str,
    summary: &'static str,
) -> Operation {
    segment::<R>(Operation::new(method, path, id, summary))
        .tag(R::WORDS.tag)
        .answers::<R::Shown>(StatusCode::OK, R::WORDS.one)
        .problems(&[404])
}

/// Describes the name in a path.
pub(crate) fn segment<R: Resource>(operation: Operation) -> Operation {
    let (words, subject) = (R::WORDS, R::SUBJECT.as_str());
    let text = format!("The {subject}'s {}, percent-encoded.", words.segment);
    let name = schema::name(words.max_chars);
    operation.segment(words.segment, name, words.example, &text)
}
