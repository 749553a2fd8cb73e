//! Describes one operation of the document: its inputs and all its responses.

use axum::http::{Method, StatusCode};
use schemars::JsonSchema;
use serde_json::{Map, Value, json};

use super::derived::{Derived, derive};
use super::problems;
use super::schema::{Schema, text};
use crate::access::scopes::{self, Need};

/// A method of a path.
pub(crate) struct Operation {
    pub(crate) method: Method,
    pub(crate) path: &'static str,
    pub(crate) tag: &'static str,
    id: &'static str,
    summary: &'static str,
    description: &'static str,
    parameters: Vec<Value>,
    body: Option<Value>,
    responses: Map<String, Value>,
    components: Vec<(String, Schema)>,
}

impl Operation {
    /// Creates an operation without parameters, body or responses. `summary` is a short sentence.
    pub(crate) fn new(
        method: Method,
        path: &'static str,
        id: &'static str,
        summary: &'static str,
    ) -> Self {
        let mut operation = Self {
            method,
            path,
            tag: "",
            id,
            summary,
            description: "",
            parameters: Vec::new(),
            body: None,
            responses: Map::new(),
            components: Vec::new(),
        };
        operation = operation.problems(problems::OF_EVERY_REQUEST);
        match operation.need() {
            Need::Nothing => operation,
            Need::Scope(_) | Need::AnyKey => operation.problems(problems::OF_ACCESS),
        }
    }

    fn need(&self) -> Need {
        scopes::need(&self.method, Some(self.path))
    }

    /// Any one of the ways to send a key, with the scope that it takes.
    fn security(&self) -> Value {
        match self.need() {
            Need::Scope(scope) => json!([
                { "bearer": [scope] }, { "header": [scope] }, { "password": [scope] },
            ]),
            Need::Nothing | Need::AnyKey => json!([]),
        }
    }

    pub(crate) fn tag(self, tag: &'static str) -> Self {
        Self { tag, ..self }
    }

    pub(crate) fn describe(self, description: &'static str) -> Self {
        Self {
            description,
            ..self
        }
    }

    /// Adds a segment of the path.
    pub(crate) fn segment(mut self, name: &str, schema: Schema, example: &str, text: &str) -> Self {
        self.parameters.push(json!({
            "name": name, "in": "path", "required": true,
            "schema": schema, "example": example, "description": text,
        }));
        self
    }

    /// Adds an optional parameter of the query.
    pub(crate) fn query(mut self, name: &str, schema: Schema, description: &str) -> Self {
        self.parameters.push(json!({
            "name": name, "in": "query", "required": false,
            "schema": schema, "description": description,
        }));
        self
    }

    /// Adds a parameter of the query that may be repeated with different values.
    pub(crate) fn queries(mut self, name: &str, items: Schema, description: &str) -> Self {
        self.parameters.push(json!({
            "name": name, "in": "query", "required": false,
            "schema": { "type": "array", "items": items },
            "style": "form", "explode": true, "description": description,
        }));
        self
    }

    /// Adds an optional header.
    pub(crate) fn header(mut self, name: &str, schema: Schema, description: &str) -> Self {
        self.parameters.push(json!({
            "name": name, "in": "header", "required": false,
            "schema": schema, "description": description,
        }));
        self
    }

    /// Adds the header `If-Match`, and the response if it does not match.
    pub(crate) fn if_match(self) -> Self {
        let description = "Tags of the states that may be changed; any without it.";
        self.header("If-Match", text(), description)
            .problems(&[412])
    }

    /// Adds a parameter written by hand.
    pub(crate) fn parameter(mut self, parameter: Value) -> Self {
        self.parameters.push(parameter);
        self
    }

    /// Adds a body in JSON.
    pub(crate) fn body(mut self, schema: Schema, example: Value) -> Self {
        self.body = Some(json!({
            "required": true,
            "content": { "application/json": { "schema": schema, "example": example } },
        }));
        self
    }

    /// Adds another form of the body, which is text.
    pub(crate) fn or_body(mut self, media: &str, description: &str, example: &str) -> Self {
        if let Some(body) = &mut self.body {
            let schema = json!({ "type": "string", "description": description });
            body["content"][media] = json!({ "schema": schema, "example": example });
        }
        self
    }

    /// Adds a response in JSON of type `T`, whose schema the document derives.
    pub(crate) fn answers<T: JsonSchema>(mut self, status: StatusCode, description: &str) -> Self {
        let Derived { schema, components } = derive::<T>();
        self.components.extend(components);
        self.answer(status, schema, description)
    }

    /// Adds the components of `T`, which only a description mentions.
    pub(crate) fn mentions<T: JsonSchema>(mut self) -> Self {
        self.components.extend(derive::<T>().components);
        self
    }

    /// Adds a response in JSON.
    pub(crate) fn answer(self, status: StatusCode, schema: Schema, description: &str) -> Self {
        self.media(status, "application/json", schema, description)
    }

    /// Adds a response in another format, text or bytes.
    pub(crate) fn answer_as(self, status: StatusCode, media: &str, description: &str) -> Self {
        self.media(status, media, text(), description)
    }

    fn media(mut self, status: StatusCode, media: &str, schema: Schema, description: &str) -> Self {
        let response = self
            .responses
            .entry(status.as_str())
            .or_insert_with(|| json!({ "description": description, "headers": headers() }));
        response["content"][media] = json!({ "schema": schema });
        self
    }

    /// Adds a response without a body.
    pub(crate) fn answer_empty(mut self, status: StatusCode, description: &str) -> Self {
        let response = json!({ "description": description, "headers": headers() });
        self.responses.insert(status.as_str().to_owned(), response);
        self
    }

    /// Adds a failure in the format of another protocol, a `T`, beside a problem document.
    pub(crate) fn failure<T: JsonSchema>(mut self, status: StatusCode, description: &str) -> Self {
        let Derived { schema, components } = derive::<T>();
        self.components.extend(components);
        let response = json!({
            "description": description,
            "headers": headers(),
            "content": {
                "application/json": { "schema": schema },
                "application/problem+json": { "schema": super::schema::reference("Problem") },
            },
        });
        self.responses.insert(status.as_str().to_owned(), response);
        self
    }

    /// Adds a header to the response with this status.
    pub(crate) fn answer_header(
        mut self,
        status: StatusCode,
        name: &str,
        description: &str,
    ) -> Self {
        if let Some(response) = self.responses.get_mut(status.as_str()) {
            response["headers"][name] = json!({
                "required": true, "schema": text(), "description": description,
            });
        }
        self
    }

    /// Adds problems to those of every request.
    pub(crate) fn problems(mut self, statuses: &[u16]) -> Self {
        for status in statuses {
            let name = format!("#/components/responses/{}", problems::name(*status));
            self.responses
                .insert(status.to_string(), json!({ "$ref": name }));
        }
        self
    }

    /// Returns the components that its responses refer to.
    pub(crate) fn components(&self) -> impl Iterator<Item = (String, Schema)> {
        self.components.iter().cloned()
    }

    /// Returns the operation as the document shows it.
    pub(crate) fn json(&self) -> Value {
        let mut operation = json!({
            "operationId": self.id,
            "tags": [self.tag],
            "summary": self.summary,
            "security": self.security(),
            "responses": self.responses,
        });
        if !self.description.is_empty() {
            operation["description"] = json!(self.description);
        }
        if !self.parameters.is_empty() {
            operation["parameters"] = json!(self.parameters);
        }
        if let Some(body) = &self.body {
            operation["requestBody"] = body.clone();
        }
        operation
    }
}

/// Returns the headers of every response.
pub(crate) fn headers() -> Value {
    let description = "The request's own `X-Request-Id`, or a new one; it stands in the log too.";
    json!({ "X-Request-Id": {
        "schema": text(), "description": description,
    } })
}
