//! Derives schemas from the types of responses. Doc comments become descriptions.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value};

use super::schema::Schema;

/// The schema of a type with the components that it refers to.
pub(crate) struct Derived {
    /// A reference to a component, or the whole schema of an inline type.
    pub(crate) schema: Schema,
    /// The components by name: the type and those that it is made of.
    pub(crate) components: Vec<(String, Schema)>,
}

/// Derives the schema of `T` as it is serialized.
pub(crate) fn derive<T: JsonSchema>() -> Derived {
    let mut generator = generator();
    let schema = generator.subschema_for::<T>();
    let components = generator.take_definitions(true).into_iter();
    Derived {
        schema: normalized(schema.to_value()),
        components: components
            .map(|(name, schema)| (name, normalized(schema)))
            .collect(),
    }
}

/// Wraps a schema written by hand, for a part of a derived one.
pub(crate) fn written(schema: Schema) -> schemars::Schema {
    schemars::Schema::try_from(schema).unwrap_or_default()
}

fn generator() -> SchemaGenerator {
    let mut settings = SchemaSettings::draft2020_12().for_serialize();
    settings.definitions_path = "/components/schemas".into();
    settings.into_generator()
}

/// Rewrites a derived schema in the forms that the rest of the document has: integers of 64
/// bits, words as one `enum`, and descriptions without the line breaks of their source.
fn normalized(mut schema: Value) -> Schema {
    match &mut schema {
        Value::Array(items) => {
            for item in items {
                *item = normalized(item.take());
            }
        }
        Value::Object(members) => {
            for (name, member) in members.iter_mut() {
                *member = match (name.as_str(), member.take()) {
                    ("description", Value::String(text)) => unwrapped(&text).into(),
                    // Names of members, which are no keywords.
                    ("properties", Value::Object(properties)) => (properties.into_iter())
                        .map(|(name, property)| (name, normalized(property)))
                        .collect(),
                    (_, member) => normalized(member),
                };
            }
            // Says what a reader of older answers takes for a member that is missing there.
            members.remove("default");
            unify_format(members);
            join_words(members);
            join_null(members);
        }
        _ => {}
    }
    schema
}

/// Joins the lines of each paragraph of `text`.
fn unwrapped(text: &str) -> String {
    let paragraphs = text.split("\n\n").map(|lines| lines.replace('\n', " "));
    paragraphs.collect::<Vec<_>>().join("\n\n")
}

/// Replaces the widths of Rust's numbers by the formats that OpenAPI has.
fn unify_format(members: &mut Map<String, Value>) {
    let format = members.get("format").and_then(Value::as_str);
    match format {
        Some("uint" | "uint16" | "uint32" | "uint64" | "int" | "int32") => {
            members.insert("format".to_owned(), "int64".into());
        }
        Some("double") => {
            members.remove("format");
        }
        _ => {}
    }
}

/// Replaces a choice between words, each with a description, by an `enum`.
fn join_words(members: &mut Map<String, Value>) {
    let choices = members.get("oneOf").and_then(Value::as_array);
    let words = choices.and_then(|choices| choices.iter().map(words).collect::<Option<Vec<_>>>());
    if let Some(words) = words {
        members.remove("oneOf");
        members.insert("type".to_owned(), "string".into());
        members.insert("enum".to_owned(), words.concat().into());
    }
}

/// The words that `choice` allows; `None` if it allows anything else.
fn words(choice: &Value) -> Option<Vec<Value>> {
    match (choice["type"].as_str(), choice.get("const")) {
        (Some("string"), Some(word)) => Some(vec![word.clone()]),
        (Some("string"), None) => choice["enum"].as_array().cloned(),
        _ => None,
    }
}

/// Replaces a choice between words and null by an `enum` that has null.
fn join_null(members: &mut Map<String, Value>) {
    let choices = members.get("anyOf").and_then(Value::as_array);
    let words = match choices.map(Vec::as_slice) {
        Some([choice, null]) if null["type"] == "null" => words(choice),
        _ => None,
    };
    if let Some(mut words) = words {
        words.push(Value::Null);
        members.remove("anyOf");
        members.insert("type".to_owned(), Value::from(vec!["string", "null"]));
        members.insert("enum".to_owned(), words.into());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Where it is.
    #[derive(serde::Serialize, JsonSchema)]
    #[serde(rename_all = "snake_case")]
    #[schemars(inline)]
    #[expect(dead_code, reason = "only its schema is looked at")]
    enum State {
        /// It goes on.
        Running,
        /// It has ended.
        Ended,
    }

    /// Something that runs.
    #[derive(serde::Serialize, JsonSchema)]
    struct Job {
        /// How many steps it
        /// has.
        steps: u64,
        /// How it goes.
        state: State,
        /// How it went.
        before: Option<State>,
        /// Why it failed.
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    }

    #[test]
    fn a_derived_schema_has_the_forms_of_those_that_are_written() {
        let Derived { schema, components } = derive::<Job>();
        assert_eq!(schema, json!({ "$ref": "#/components/schemas/Job" }));
        let expected = json!({
            "type": "object",
            "description": "Something that runs.",
            "required": ["steps", "state", "before"],
            "properties": {
                "steps": { "type": "integer", "format": "int64", "minimum": 0, "description": "How many steps it has." },
                "state": { "type": "string", "enum": ["running", "ended"], "description": "How it goes." },
                "before": { "type": ["string", "null"], "enum": ["running", "ended", null], "description": "How it went." },
                "reason": { "type": ["string", "null"], "description": "Why it failed." },
            },
        });
        assert_eq!(components, [("Job".to_owned(), expected)]);
    }
}
