//! A JSON Schema: its references, types, choices and properties.

use serde_json::Value;

/// A schema inside of the document that its references point into.
#[derive(Clone, Copy)]
pub(super) struct Schema<'s> {
    root: &'s Value,
    /// The schema that a reference points to, or this one.
    pub(super) value: &'s Value,
    /// The schema with the reference. Its description comes before that of the target.
    outer: &'s Value,
}

/// How often a reference may lead to another one.
const REFERENCES: usize = 16;

impl<'s> Schema<'s> {
    pub(super) fn root(root: &'s Value) -> Self {
        Self { root, value: root, outer: root }.of(root)
    }

    /// Another schema of the same document.
    pub(super) fn of(self, outer: &'s Value) -> Self {
        let mut value = outer;
        for _ in 0..REFERENCES {
            let Some(path) = value.get("$ref").and_then(Value::as_str) else { break };
            let target = path.strip_prefix('#').and_then(|path| self.root.pointer(path));
            let Some(target) = target else { break };
            value = target;
        }
        Self { root: self.root, value, outer }
    }

    pub(super) fn get(self, key: &str) -> Option<&'s Value> {
        self.value.get(key)
    }

    pub(super) fn text(self) -> &'s str {
        let own = |value: &'s Value| value.get("description").and_then(Value::as_str);
        own(self.outer).or_else(|| own(self.value)).unwrap_or_default()
    }

    pub(super) fn default(self) -> Option<&'s Value> {
        self.outer.get("default").or_else(|| self.get("default"))
    }

    /// Without the alternative `null` of an optional value.
    pub(super) fn present(self) -> Self {
        let not_null: Vec<_> = self.alternatives().filter(|other| !other.is("null")).collect();
        match not_null.as_slice() {
            [only] if self.alternatives().count() == 2 => Self { outer: self.outer, ..*only },
            _ => self,
        }
    }

    pub(super) fn alternatives(self) -> impl Iterator<Item = Self> {
        let of = |key| self.get(key).and_then(Value::as_array);
        of("anyOf").or_else(|| of("oneOf")).into_iter().flatten().map(move |other| self.of(other))
    }

    /// The types that are named, `null` left out.
    pub(super) fn types(self) -> Vec<&'s str> {
        let types: Vec<_> = match self.get("type") {
            Some(Value::String(name)) => vec![name.as_str()],
            Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
            _ => vec![],
        };
        if types.len() > 1 {
            types.into_iter().filter(|name| *name != "null").collect()
        } else {
            types
        }
    }

    pub(super) fn is(self, name: &str) -> bool {
        self.types() == [name]
    }

    /// The texts that are possible, each with its description, if only these are.
    pub(super) fn words(self) -> Option<Vec<(&'s str, &'s str)>> {
        self.words_within(REFERENCES)
    }

    fn words_within(self, depth: usize) -> Option<Vec<(&'s str, &'s str)>> {
        let depth = depth.checked_sub(1)?;
        if let Some(words) = self.get("enum").and_then(Value::as_array) {
            let words = words.iter().filter(|word| !word.is_null());
            return words.map(|word| Some((word.as_str()?, ""))).collect();
        }
        let mut words = vec![];
        for other in self.alternatives() {
            match other.get("const").and_then(Value::as_str) {
                Some(word) => words.push((word, other.text())),
                None => words.extend(other.words_within(depth)?),
            }
        }
        (!words.is_empty()).then_some(words)
    }

    /// The properties of an object, the required ones first: their names, whether they are
    /// required, and their schemas.
    pub(super) fn properties(self) -> Vec<(&'s str, bool, Self)> {
        let Some(all) = self.get("properties").and_then(Value::as_object) else { return vec![] };
        let required = self.required();
        let first = required.iter().filter_map(|name| all.get_key_value(*name)).map(|p| (p, true));
        let rest = all.iter().filter(|(name, _)| !required.contains(&name.as_str()));
        first
            .chain(rest.map(|property| (property, false)))
            .map(|((name, schema), is_required)| (name.as_str(), is_required, self.of(schema)))
            .collect()
    }

    pub(super) fn required(self) -> Vec<&'s str> {
        let names = self.get("required").and_then(Value::as_array).into_iter().flatten();
        names.filter_map(Value::as_str).collect()
    }
}
