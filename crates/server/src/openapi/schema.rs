//! Builds JSON schemas (2020-12), as OpenAPI 3.1 uses them.

use serde::Serialize;
use serde_json::{Map, Value, json};
use trialog_model::experiment::MIN_ALPHA;

use crate::page::{MAX_PAGE, PAGE};

/// A JSON schema.
pub(crate) type Schema = Value;

/// Allows any text.
pub(crate) fn text() -> Schema {
    json!({ "type": "string" })
}

/// Allows text of `least` to `most` characters.
pub(crate) fn chars(least: usize, most: usize) -> Schema {
    json!({ "type": "string", "minLength": least, "maxLength": most })
}

/// Allows a name: 1 to `most` characters, none of them a control character.
pub(crate) fn name(most: usize) -> Schema {
    with(chars(1, most), "pattern", "^[^\\u0000-\\u001f\\u007f]+$")
}

/// Allows an RFC 3339 time.
pub(crate) fn time() -> Schema {
    json!({ "type": "string", "format": "date-time" })
}

/// Allows text that matches `pattern`.
pub(crate) fn matching(pattern: &str) -> Schema {
    json!({ "type": "string", "pattern": pattern })
}

/// Allows one of `words`, as they are serialized.
pub(crate) fn one_of(words: &[impl Serialize]) -> Schema {
    json!({ "type": "string", "enum": words })
}

pub(crate) fn boolean() -> Schema {
    json!({ "type": "boolean" })
}

/// Allows a count.
pub(crate) fn count() -> Schema {
    integer(0)
}

/// Allows a 64-bit integer, `least` or more.
pub(crate) fn integer(least: i64) -> Schema {
    json!({ "type": "integer", "format": "int64", "minimum": least })
}

/// Allows any finite number.
pub(crate) fn number() -> Schema {
    json!({ "type": "number" })
}

/// Allows a number from 0 to 1.
pub(crate) fn fraction() -> Schema {
    json!({ "type": "number", "minimum": 0, "maximum": 1 })
}

/// Allows a number between 0 and 1, neither of them included.
pub(crate) fn between_0_and_1() -> Schema {
    json!({ "type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1 })
}

/// Allows the two-sided level of tests and intervals.
pub(crate) fn level() -> Schema {
    json!({ "type": "number", "minimum": MIN_ALPHA, "exclusiveMaximum": 1 })
}

/// Allows a number above 0.
pub(crate) fn positive() -> Schema {
    json!({ "type": "number", "exclusiveMinimum": 0 })
}

pub(crate) fn list(items: Schema) -> Schema {
    json!({ "type": "array", "items": items })
}

/// Allows any object.
pub(crate) fn any_object() -> Schema {
    json!({ "type": "object" })
}

/// Allows `schema`, or null.
pub(crate) fn nullable(mut schema: Schema) -> Schema {
    if let Some(Value::String(kind)) = schema.get("type").cloned() {
        schema["type"] = json!([kind, "null"]);
        if let Some(Value::Array(words)) = schema.get_mut("enum") {
            words.push(Value::Null);
        }
        return schema;
    }
    json!({ "anyOf": [schema, { "type": "null" }] })
}

/// Refers to the schema of this name among the components.
pub(crate) fn reference(name: &str) -> Schema {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

/// Adds a keyword to `schema`.
pub(crate) fn with(mut schema: Schema, keyword: &str, value: impl Into<Value>) -> Schema {
    schema[keyword] = value.into();
    schema
}

/// A member of an object.
pub(crate) struct Field {
    name: &'static str,
    schema: Schema,
    is_required: bool,
}

/// Describes a required member.
pub(crate) fn field(name: &'static str, schema: Schema, description: &str) -> Field {
    Field {
        name,
        schema: with(schema, "description", description),
        is_required: true,
    }
}

/// Describes an optional member.
pub(crate) fn optional(name: &'static str, schema: Schema, description: &str) -> Field {
    Field {
        is_required: false,
        ..field(name, schema, description)
    }
}

/// Describes a text of people's own, which may be left out.
pub(crate) fn free(name: &'static str, description: &str) -> Field {
    optional(name, nullable(chars(0, 4096)), description)
}

/// Describes an object. Members that are not named here may be added in later versions.
pub(crate) fn object(fields: impl IntoIterator<Item = Field>) -> Schema {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for field in fields {
        if field.is_required {
            required.push(field.name);
        }
        properties.insert(field.name.to_owned(), field.schema);
    }
    let mut schema = json!({ "type": "object", "properties": properties });
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}

/// Forbids members that the object does not name.
pub(crate) fn closed(object: Schema) -> Schema {
    with(object, "additionalProperties", false)
}

/// Adds the defaults of absent members to `object`.
pub(crate) fn with_defaults(mut object: Schema, defaults: &impl Serialize) -> Schema {
    let defaults = serde_json::to_value(defaults).unwrap_or_default();
    let required: Vec<Value> = object["required"].as_array().cloned().unwrap_or_default();
    for (name, default) in defaults.as_object().into_iter().flatten() {
        let is_optional = !required.contains(&json!(name));
        if let (true, Some(property)) = (is_optional, object["properties"].get_mut(name)) {
            property["default"] = default.clone();
        }
    }
    object
}

/// Makes all members of `object` optional, as for a partial change.
pub(crate) fn partial(mut object: Schema) -> Schema {
    if let Some(object) = object.as_object_mut() {
        object.remove("required");
        let properties = object.get_mut("properties").and_then(Value::as_object_mut);
        for property in properties.into_iter().flat_map(Map::values_mut) {
            if let Some(property) = property.as_object_mut() {
                property.remove("default");
            }
        }
    }
    object
}

/// Describes a change: every member is optional, and null resets one that has a default.
pub(crate) fn resettable(object: Schema) -> Schema {
    let required: Vec<Value> = object["required"].as_array().cloned().unwrap_or_default();
    let mut changes = partial(object);
    let properties = changes["properties"].as_object_mut();
    for (name, property) in properties.into_iter().flatten() {
        if !required.contains(&json!(name)) {
            *property = nullable(property.take());
        }
    }
    changes
}

/// Describes the length of a page.
pub(crate) fn page_limit() -> Schema {
    json!({ "type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": PAGE })
}

/// Adds the members `more` to `object`.
pub(crate) fn extended(mut object: Schema, more: impl IntoIterator<Item = Field>) -> Schema {
    for field in more {
        if let (true, Some(required)) = (field.is_required, object["required"].as_array_mut()) {
            required.push(json!(field.name));
        }
        object["properties"][field.name] = field.schema;
    }
    object
}
