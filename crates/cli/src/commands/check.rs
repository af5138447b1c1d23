//! Checks a value against a JSON Schema. It knows the keywords that schemas of Rust types have, and
//! ignores all others: the server checks everything again.

use std::cell::Cell;

use regex::RegexBuilder;
use serde_json::Value;

use super::{outline::outline, schema::Schema};

/// How deep it looks: references can be circular.
const DEPTH: usize = 64;
/// How many schemas it applies in all: each level may have several alternatives.
const STEPS: u32 = 100_000;
/// The longest pattern that is used, in bytes.
const LONGEST_PATTERN: usize = 1024;
/// The largest compiled pattern, in bytes.
const LARGEST_REGEX: usize = 1024 * 1024;

/// Says what is wrong with a value, and where.
pub(super) fn check(schema: Schema<'_>, value: &Value) -> Result<(), String> {
    check_at(schema, value, "", DEPTH, &Cell::new(STEPS))
}

fn check_at(
    schema: Schema<'_>,
    value: &Value,
    at: &str,
    depth: usize,
    steps: &Cell<u32>,
) -> Result<(), String> {
    let Some((depth, left)) = depth.checked_sub(1).zip(steps.get().checked_sub(1)) else {
        return Ok(());
    };
    steps.set(left);
    let wrong = |why: String| Err(located(at, &why));
    if let Some(expected) = type_mismatch(schema, value) {
        return wrong(format!("{value} is not {expected}"));
    }
    let not_fitting = not_one_of(schema, value)
        .or_else(|| out_of_range(schema, value))
        .or_else(|| not_matching(schema, value));
    if let Some(why) = not_fitting {
        return wrong(why);
    }
    check_alternatives(schema, value, at, depth, steps)?;
    match value {
        Value::Object(fields) => {
            for name in schema.required() {
                if !fields.contains_key(name) {
                    return wrong(format!("the field `{name}` is missing"));
                }
            }
            let known = schema.properties();
            for (name, field) in fields {
                let at = format!("{at}.{name}");
                match known.iter().find(|(known, ..)| known == name) {
                    Some((.., schema)) => check_at(*schema, field, &at, depth, steps)?,
                    None => match schema.get("additionalProperties") {
                        Some(Value::Bool(false)) => {
                            return wrong(format!("there is no field `{name}`"));
                        }
                        Some(other) => check_at(schema.of(other), field, &at, depth, steps)?,
                        None => {}
                    },
                }
            }
        }
        Value::Array(items) => {
            let prefix = schema.get("prefixItems").and_then(Value::as_array);
            for (index, item) in items.iter().enumerate() {
                let own = prefix.and_then(|prefix| prefix.get(index));
                if let Some(other) = own.or_else(|| schema.get("items")) {
                    check_at(schema.of(other), item, &format!("{at}[{index}]"), depth, steps)?;
                }
            }
        }
        _ => {}
    }
    Ok(())
}

/// Checks that the value fits one of the alternatives.
fn check_alternatives(
    schema: Schema<'_>,
    value: &Value,
    at: &str,
    depth: usize,
    steps: &Cell<u32>,
) -> Result<(), String> {
    // The choices are checked already.
    if schema.words().is_some() {
        return Ok(());
    }
    let mut meant = vec![];
    let mut count = 0;
    for other in schema.alternatives() {
        let Err(why) = check_at(other, value, at, depth, steps) else { return Ok(()) };
        count += 1;
        if is_meant(other, value) {
            meant.push(why);
        }
    }
    match meant.as_slice() {
        _ if count == 0 => Ok(()),
        [only] => Err(only.clone()),
        _ => Err(located(at, &format!("{value} is not one of {}", outline(schema)))),
    }
}

/// Whether the value seems to be written for this alternative: by its tag, or else by its fields.
fn is_meant(schema: Schema<'_>, value: &Value) -> bool {
    let Value::Object(fields) = value else {
        return type_mismatch(schema, value).is_none() && not_one_of(schema, value).is_none();
    };
    let known = schema.properties();
    let mut tags =
        known.iter().filter_map(|(name, _, schema)| Some((*name, schema.get("const")?))).peekable();
    if tags.peek().is_some() {
        return tags.all(|(name, tag)| fields.get(name) == Some(tag));
    }
    let is_known = |name: &String| known.iter().any(|(known, ..)| known == name);
    schema.is("object") && (fields.is_empty() || fields.keys().any(is_known))
}

fn located(at: &str, why: &str) -> String {
    if at.is_empty() {
        return why.to_owned();
    }
    format!("`{}`: {why}", at.trim_start_matches('.'))
}

fn type_mismatch(schema: Schema<'_>, value: &Value) -> Option<String> {
    let types = schema.get("type")?;
    let names: Vec<&str> = match types {
        Value::String(name) => vec![name],
        Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
        _ => return None,
    };
    let fits = |name: &&str| match *name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => true,
    };
    (!names.iter().any(fits)).then(|| format!("of the type {}", names.join(" or ")))
}

fn not_one_of(schema: Schema<'_>, value: &Value) -> Option<String> {
    if let Some(only) = schema.get("const")
        && only != value
    {
        return Some(format!("{value} is not {only}"));
    }
    let words = schema.words()?;
    let fits = value.is_null() || words.iter().any(|(word, _)| value == word);
    (!fits).then(|| {
        let words: Vec<_> = words.iter().map(|(word, _)| *word).collect();
        format!("{value} is not one of {}", words.join(", "))
    })
}

fn out_of_range(schema: Schema<'_>, value: &Value) -> Option<String> {
    let number = |key| schema.get(key).filter(|bound| bound.is_number());
    if value.is_number() {
        if let Some(bound) = number("exclusiveMinimum").filter(|min| !less(min, value)) {
            return Some(format!("{value} is not more than {bound}"));
        }
        if let Some(bound) = number("exclusiveMaximum").filter(|max| !less(value, max)) {
            return Some(format!("{value} is not less than {bound}"));
        }
        let too_small = number("minimum").filter(|min| less(value, min));
        let too_large = number("maximum").filter(|max| less(max, value));
        if let Some(min) = too_small {
            return Some(format!("{value} is less than {min}"));
        }
        return too_large.map(|max| format!("{value} is more than {max}"));
    }
    let (size, unit, min, max) = match value {
        Value::String(text) => (text.chars().count(), "characters", "minLength", "maxLength"),
        Value::Array(items) => (items.len(), "items", "minItems", "maxItems"),
        _ => return None,
    };
    let bound = |key| number(key).and_then(Value::as_u64);
    if let Some(min) = bound(min).filter(|min| (size as u64) < *min) {
        return Some(format!("{size} {unit} are fewer than {min}"));
    }
    let max = bound(max).filter(|max| size as u64 > *max)?;
    Some(format!("{size} {unit} are more than {max}"))
}

/// A text that does not match the pattern of its schema. A pattern in a syntax that is not known
/// here is left to the server.
fn not_matching(schema: Schema<'_>, value: &Value) -> Option<String> {
    let (pattern, text) = (schema.get("pattern")?.as_str()?, value.as_str()?);
    let is_short = pattern.len() <= LONGEST_PATTERN;
    let regex = RegexBuilder::new(pattern).size_limit(LARGEST_REGEX).build().ok();
    let fits = regex.filter(|_| is_short)?.is_match(text);
    (!fits).then(|| format!("{value} does not match the pattern {pattern}"))
}

/// Whether one number is less than the other, exact for integers.
fn less(a: &Value, b: &Value) -> bool {
    let integer =
        |value: &Value| value.as_i64().map(i128::from).or_else(|| value.as_u64().map(i128::from));
    match (integer(a), integer(b)) {
        (Some(a), Some(b)) => a < b,
        _ => a.as_f64() < b.as_f64(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_mistake_is_named_with_its_place() {
        let schema = json!({
            "type": "object",
            "required": ["name"],
            "additionalProperties": false,
            "properties": {
                "name": { "type": "string", "maxLength": 3 },
                "port": { "type": ["integer", "null"], "minimum": 0, "maximum": 65535 },
                "mode": { "$ref": "#/$defs/Mode" },
                "tags": { "type": "array", "items": { "type": "string" } },
                "pair": { "prefixItems": [{ "type": "integer" }, { "type": "boolean" }] },
                "deep": { "anyOf": [{ "$ref": "#" }, { "type": "null" }] },
                "word": { "type": "string", "pattern": "^[a-z]+$" },
                "odd": { "type": "string", "pattern": "(?<!a)b" },
                "half": { "type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1 },
                "limit": { "oneOf": [
                    { "type": "string", "const": "none" },
                    { "type": "object", "required": ["bytes"], "additionalProperties": false,
                      "properties": { "bytes": { "type": "integer", "minimum": 0 } } },
                ] },
                "shape": { "oneOf": [
                    { "type": "object", "required": ["kind", "r"], "properties":
                        { "kind": { "const": "circle" }, "r": { "type": "number" } } },
                    { "type": "object", "required": ["kind"], "properties":
                        { "kind": { "const": "point" } } },
                ] },
            },
            "$defs": { "Mode": { "oneOf": [{ "const": "fast" }, { "const": "slow" }] } },
        });
        let check = |value: Value| check(Schema::root(&schema), &value);
        for value in [
            json!({ "name": "a" }),
            json!({ "name": "a", "port": null, "mode": "fast", "tags": ["x"], "pair": [1, true] }),
            json!({ "name": "a", "deep": { "name": "b", "deep": null } }),
            json!({ "name": "a", "word": "abc", "odd": "in a syntax of its own", "half": 0.5 }),
            json!({ "name": "a", "limit": "none", "shape": { "kind": "point" } }),
        ] {
            assert_eq!(check(value.clone()), Ok(()), "{value}");
        }
        for (value, why) in [
            (json!([]), "[] is not of the type object"),
            (json!({}), "the field `name` is missing"),
            (json!({ "name": 7 }), "`name`: 7 is not of the type string"),
            (json!({ "name": "long" }), "`name`: 4 characters are more than 3"),
            (json!({ "name": "a", "port": 65536 }), "`port`: 65536 is more than 65535"),
            (json!({ "name": "a", "port": -1 }), "`port`: -1 is less than 0"),
            (json!({ "name": "a", "port": 1.5 }), "`port`: 1.5 is not of the type integer or null"),
            (json!({ "name": "a", "mode": "no" }), "`mode`: \"no\" is not one of fast, slow"),
            (json!({ "name": "a", "tags": ["x", 7] }), "`tags[1]`: 7 is not of the type string"),
            (json!({ "name": "a", "pair": [1, 2] }), "`pair[1]`: 2 is not of the type boolean"),
            (json!({ "name": "a", "other": 1 }), "there is no field `other`"),
            (
                json!({ "name": "a", "word": "a1" }),
                "`word`: \"a1\" does not match the pattern ^[a-z]+$",
            ),
            (json!({ "name": "a", "half": 0 }), "`half`: 0 is not more than 0"),
            (json!({ "name": "a", "half": 1.0 }), "`half`: 1.0 is not less than 1"),
            (json!({ "name": "a", "limit": { "bytes": -1 } }), "`limit.bytes`: -1 is less than 0"),
            (
                json!({ "name": "a", "limit": "all" }),
                "`limit`: \"all\" is not one of \"none\" | {\"bytes\": 0..}",
            ),
            (
                json!({ "name": "a", "shape": { "kind": "circle" } }),
                "`shape`: the field `r` is missing",
            ),
            (
                json!({ "name": "a", "shape": { "kind": "line" } }),
                "`shape`: {\"kind\":\"line\"} is not one of {\"kind\": \"circle\", \"r\": NUMBER} | {\"kind\": \"point\"}",
            ),
        ] {
            assert_eq!(check(value.clone()), Err(why.to_owned()), "{value}");
        }
        let deep = check(json!({ "name": "a", "deep": { "name": 7 } })).unwrap_err();
        assert!(deep.contains("`deep.name`: 7 is not of the type string"), "{deep}");
    }

    #[test]
    fn a_schema_that_refers_to_itself_ends() {
        for schema in [
            json!({ "anyOf": [{ "$ref": "#" }, { "$ref": "#" }] }),
            json!({ "oneOf": [{ "$ref": "#" }, { "const": "a" }, { "$ref": "#" }] }),
            json!({ "$ref": "#" }),
            json!({ "items": { "$ref": "#" }, "anyOf": [{ "$ref": "#" }, { "type": "null" }] }),
        ] {
            let root = Schema::root(&schema);
            let _ = (root.words(), check(root, &json!([[1], "a"])));
        }
    }
}
