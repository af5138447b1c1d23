//! JSON as YAML.

use std::fmt::Write;

use serde_json::Value;

use crate::escape::escape_json;

/// The value in block style. Strings are quoted as in JSON, which YAML reads alike, unless they are
/// plain words.
pub(crate) fn yaml(value: &Value) -> String {
    let mut out = String::new();
    put(&mut out, value, 0, true);
    out
}

/// Puts a value behind a key, or behind `-`. `is_start`: the line is empty so far.
fn put(out: &mut String, value: &Value, depth: usize, is_start: bool) {
    match value {
        Value::Array(items) if !items.is_empty() => {
            for (index, item) in items.iter().enumerate() {
                indent(out, depth, is_start && index == 0);
                out.push('-');
                put_inner(out, item, depth);
            }
        }
        Value::Object(fields) if !fields.is_empty() => {
            for (index, (name, field)) in fields.iter().enumerate() {
                indent(out, depth, is_start && index == 0);
                out.push_str(&scalar(&Value::from(name.as_str())));
                out.push(':');
                if matches!(field, Value::Array(items) if !items.is_empty())
                    || matches!(field, Value::Object(fields) if !fields.is_empty())
                {
                    out.push('\n');
                    put(out, field, depth + 1, false);
                } else {
                    put_inner(out, field, depth);
                }
            }
        }
        other => {
            out.push_str(&scalar(other));
            out.push('\n');
        }
    }
}

fn put_inner(out: &mut String, value: &Value, depth: usize) {
    out.push(' ');
    put(out, value, depth + 1, true);
}

fn indent(out: &mut String, depth: usize, is_start: bool) {
    if !is_start {
        // Writing into a string cannot fail.
        let _ = write!(out, "{:width$}", "", width = 2 * depth);
    }
}

fn scalar(value: &Value) -> String {
    /// Words that are not strings in some version of YAML.
    const RESERVED: [&str; 9] = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    match value {
        Value::String(text) => {
            let is_word = text.starts_with(|first: char| first.is_ascii_alphabetic())
                && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
            if is_word && !RESERVED.contains(&text.to_ascii_lowercase().as_str()) {
                return text.clone();
            }
            escape_json(&value.to_string()).into_owned()
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_nest_in_block_style() {
        let value = json!({
            "job": "backup", "about": "", "no": null, "list": [1, [2, 3], { "a": true, "b": {} }],
            "deep": { "text": "two words\n\u{1b}", "on": "off" },
        });
        let expected = r#"about: ""
deep:
  "on": "off"
  text: "two words\n\u001b"
job: backup
list:
  - 1
  - - 2
    - 3
  - a: true
    b: {}
"no": null
"#;
        assert_eq!(yaml(&value), expected);
        assert_eq!(yaml(&json!("x")), "x\n");
        assert_eq!(yaml(&json!([])), "[]\n");
    }
}
