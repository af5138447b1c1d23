//! A schema in one line, for a person: what to write.

use std::cell::Cell;

use serde_json::Value;

use super::schema::Schema;
use crate::{escape::escape, text::shorten};

/// How deep it looks: references can be circular.
const DEPTH: usize = 6;
/// How many schemas it shows in all.
const STEPS: u32 = 60;
/// The longest outline, in columns.
const LONGEST: usize = 200;

/// The JSON that fits the schema, escaped: `{"days": 0..365, "weeks"?: [NUMBER, ...]}`. A question
/// mark follows the name of an optional field.
pub(super) fn outline(schema: Schema<'_>) -> String {
    let text = part(schema, DEPTH, &Cell::new(STEPS));
    shorten(&escape(&text), LONGEST).into_owned()
}

/// The numbers that fit the schema. A bound that only the type has is left out.
pub(super) fn range(schema: Schema<'_>) -> String {
    const TYPES: [i128; 6] = [
        i32::MIN as i128,
        i64::MIN as i128,
        i32::MAX as i128,
        u32::MAX as i128,
        i64::MAX as i128,
        u64::MAX as i128,
    ];
    let bound = |key| {
        let bound = schema.get(key).filter(|bound| bound.is_number()).map(Value::to_string);
        let is_own = |text: &String| text.parse().is_ok_and(|number| !TYPES.contains(&number));
        bound.filter(|text| text.contains(['.', 'e']) || is_own(text)).unwrap_or_default()
    };
    match (bound("minimum"), bound("maximum")) {
        (min, max) if min.is_empty() && max.is_empty() => "NUMBER".to_owned(),
        (min, max) => format!("{min}..{max}"),
    }
}

fn part(schema: Schema<'_>, depth: usize, steps: &Cell<u32>) -> String {
    let Some((depth, left)) = depth.checked_sub(1).zip(steps.get().checked_sub(1)) else {
        return "...".to_owned();
    };
    steps.set(left);
    let schema = schema.present();
    if let Some(words) = schema.words() {
        let words: Vec<_> = words.iter().map(|(word, _)| Value::from(*word).to_string()).collect();
        return words.join(" | ");
    }
    if let Some(only) = schema.get("const") {
        return only.to_string();
    }
    let others: Vec<_> = schema.alternatives().map(|other| part(other, depth, steps)).collect();
    if !others.is_empty() {
        return others.join(" | ");
    }
    match schema.types().as_slice() {
        ["null"] => "null".to_owned(),
        ["boolean"] => "true | false".to_owned(),
        ["string"] => "\"TEXT\"".to_owned(),
        ["integer" | "number"] => range(schema),
        ["array"] => array(schema, depth, steps),
        ["object"] => object(schema, depth, steps),
        [] => "JSON".to_owned(),
        types => types.join(" | "),
    }
}

fn array(schema: Schema<'_>, depth: usize, steps: &Cell<u32>) -> String {
    if let Some(items) = schema.get("prefixItems").and_then(Value::as_array) {
        let items: Vec<_> = items.iter().map(|item| part(schema.of(item), depth, steps)).collect();
        return format!("[{}]", items.join(", "));
    }
    match schema.get("items") {
        Some(item) => format!("[{}, ...]", part(schema.of(item), depth, steps)),
        None => "[JSON, ...]".to_owned(),
    }
}

fn object(schema: Schema<'_>, depth: usize, steps: &Cell<u32>) -> String {
    let mut fields = vec![];
    for (name, is_required, field) in schema.properties() {
        let mark = if is_required { "" } else { "?" };
        let name = Value::from(name);
        fields.push(format!("{name}{mark}: {}", part(field, depth, steps)));
    }
    if let Some(other) = schema.get("additionalProperties").filter(|other| other.is_object()) {
        fields.push(format!("\"NAME\": {}, ...", part(schema.of(other), depth, steps)));
    }
    format!("{{{}}}", fields.join(", "))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_outline_shows_what_to_write() {
        let schema = json!({
            "type": "object",
            "required": ["name", "mode"],
            "properties": {
                "name": { "type": "string" },
                "port": { "type": ["integer", "null"], "minimum": 1, "maximum": 65535 },
                "large": { "type": "integer", "minimum": 0, "maximum": u64::MAX },
                "any": {},
                "mode": { "oneOf": [{ "const": "fast" }, { "enum": ["slow"] }] },
                "tags": { "type": "array", "items": { "type": "string" } },
                "pair": { "type": "array", "prefixItems": [{ "type": "number" }, { "type": "boolean" }] },
                "tree": { "anyOf": [{ "type": "object", "additionalProperties": { "type": "null" } }, { "type": "null" }] },
            },
        });
        let expected = "{\"name\": \"TEXT\", \"mode\": \"fast\" | \"slow\", \"any\"?: JSON, \
            \"large\"?: 0.., \"pair\"?: [NUMBER, true | false], \"port\"?: 1..65535, \
            \"tags\"?: [\"TEXT\", ...], \"tree\"?: {\"NAME\": null, ...}}";
        assert_eq!(outline(Schema::root(&schema)), expected);
    }

    #[test]
    fn a_hostile_schema_has_a_short_outline() {
        let wide: Vec<_> = (0..1000).map(|_| json!({ "$ref": "#" })).collect();
        let evil = "x\u{1b}[2J".repeat(1000);
        for schema in [
            json!({ "anyOf": wide }),
            json!({ "type": "object", "properties": { (evil): { "$ref": "#" } } }),
            json!({ "type": "array", "items": { "$ref": "#" } }),
        ] {
            let text = outline(Schema::root(&schema));
            assert!(text.len() <= LONGEST && !text.contains('\u{1b}'), "{text}");
        }
    }
}
