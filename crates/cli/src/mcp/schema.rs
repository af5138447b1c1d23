//! JSON Schemas in the form that tools need: with an object at the root.

use serde_json::{Map, Value, json};

/// A schema with an object at its root.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Root {
    /// There is no value.
    Nothing,
    /// The value is an object already.
    Object(Map<String, Value>),
    /// The value is the only property of an object.
    Wrapped(Map<String, Value>),
}

impl Root {
    /// `name` is that of the property of a wrapped value.
    pub(super) fn of(schema: &Value, name: &str) -> Self {
        match schema {
            Value::Object(object) if is(object, "null") => Self::Nothing,
            Value::Object(object) if is(object, "object") => {
                let mut object = object.clone();
                // Some clients need them.
                object.entry("properties").or_insert_with(|| json!({}));
                Self::Object(object)
            }
            other => Self::wrapped(other, name),
        }
    }

    fn wrapped(schema: &Value, name: &str) -> Self {
        let mut inner = schema.clone();
        move_references(&mut inner, &format!("#/properties/{name}"));
        let dialect = inner.as_object_mut().and_then(|object| object.remove("$schema"));
        let mut object = Map::new();
        if let Some(dialect) = dialect {
            object.insert("$schema".to_owned(), dialect);
        }
        object.insert("type".to_owned(), "object".into());
        object.insert("properties".to_owned(), json!({ name: inner }));
        object.insert("required".to_owned(), json!([name]));
        Self::Wrapped(object)
    }
}

/// An object without properties.
pub(super) fn empty() -> Map<String, Value> {
    let fields = [("type", json!("object")), ("properties", json!({}))];
    fields.map(|(key, value)| (key.to_owned(), value)).into_iter().collect()
}

fn is(schema: &Map<String, Value>, name: &str) -> bool {
    schema.get("type").and_then(Value::as_str) == Some(name)
}

/// References point into the document, which is now a part of another one.
fn move_references(schema: &mut Value, to: &str) {
    match schema {
        Value::Object(fields) => {
            for (key, value) in fields {
                match value {
                    Value::String(path) if key == "$ref" && path.starts_with('#') => {
                        *path = format!("{to}{}", path.trim_start_matches('#'));
                    }
                    value => move_references(value, to),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| move_references(item, to)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_root_becomes_an_object_and_its_references_stay_true() {
        assert_eq!(Root::of(&json!({ "type": "null" }), "result"), Root::Nothing);
        let object = json!({ "type": "object", "properties": { "a": { "$ref": "#" } } });
        let Root::Object(same) = Root::of(&object, "result") else { panic!("not an object") };
        assert_eq!(Value::Object(same), object);
        let number = json!({ "$schema": "s", "type": "integer", "minimum": 0 });
        let Root::Wrapped(wrapped) = Root::of(&number, "result") else { panic!("not wrapped") };
        let expected = json!({
            "$schema": "s",
            "type": "object",
            "properties": { "result": { "type": "integer", "minimum": 0 } },
            "required": ["result"],
        });
        assert_eq!(Value::Object(wrapped), expected);
        let tree = json!({ "anyOf": [{ "$ref": "#/$defs/A" }, { "items": { "$ref": "#" } }], "$defs": { "A": {} } });
        let Root::Wrapped(wrapped) = Root::of(&tree, "result") else { panic!("not wrapped") };
        let inner = &wrapped["properties"]["result"];
        assert_eq!(inner["anyOf"][0]["$ref"], "#/properties/result/$defs/A");
        assert_eq!(inner["anyOf"][1]["items"]["$ref"], "#/properties/result");
    }
}
