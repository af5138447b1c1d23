//! The table `[fleet]`: the broker of the fleet, this node, and the callers that it knows.

use std::path::PathBuf;

use super::reader::{Reader, Value};

const KEYS: &str = "url, name, labels, prefix, credentials, nkey, ca, unsigned, keys";

/// The table `[fleet]` of the file. Names and keys are checked when the node starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(not(feature = "fleet"), allow(dead_code, reason = "only a node reads it"))]
pub(crate) struct FleetFile {
    pub(crate) url: String,
    /// The host name by default.
    pub(crate) name: Option<String>,
    /// `role=web,dc=fra`
    pub(crate) labels: String,
    pub(crate) prefix: Option<String>,
    pub(crate) credentials: Option<PathBuf>,
    /// The file with the seed of an nkey, for the login.
    pub(crate) nkey: Option<PathBuf>,
    /// The file with certificates that are trusted too.
    pub(crate) ca: Option<PathBuf>,
    /// Whether requests without a signature are taken.
    pub(crate) unsigned: bool,
    pub(crate) keys: Vec<FleetKey>,
}

/// `anna = { key = "UAB…", groups = ["sre"] }`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(not(feature = "fleet"), allow(dead_code, reason = "only a node reads it"))]
pub(crate) struct FleetKey {
    pub(crate) name: String,
    pub(crate) key: String,
    pub(crate) groups: Vec<String>,
}

/// Reads `[fleet]`. A wrong value is recorded as a problem, and the result is not used.
pub(super) fn read(reader: &mut Reader, value: &Value) -> Option<FleetFile> {
    let table = reader.table("fleet", value, "a table with `url`")?;
    let mut file = FleetFile::default();
    for (key, value) in table {
        let (span, key) = (key.span(), key.get_ref().as_ref());
        let path = format!("fleet.{key}");
        let mut text = |what| reader.string(&path, value, what).map(str::to_owned);
        match key {
            "url" => {
                let url = text("a URL such as \"nats://127.0.0.1:4222\"");
                file.url = url.unwrap_or_default();
            }
            "name" => file.name = text("a name such as \"web-1\""),
            "prefix" => file.prefix = text("a name such as \"kakehi\""),
            "credentials" => file.credentials = text("a path").map(PathBuf::from),
            "nkey" => file.nkey = text("a path").map(PathBuf::from),
            "ca" => file.ca = text("a path").map(PathBuf::from),
            "labels" => file.labels = labels(reader, &path, value),
            "unsigned" => file.unsigned = reader.boolean(&path, value),
            "keys" => file.keys = keys(reader, &path, value),
            _ => {
                reader.problem(&span, &format!("{path}: unknown key, expected one of {KEYS}"));
            }
        }
    }
    if !table.keys().any(|key| key.get_ref() == "url") {
        reader.missing(&value.span(), "fleet.url: expected a URL, found none");
    }
    Some(file)
}

fn labels(reader: &mut Reader, key: &str, value: &Value) -> String {
    let what = "a table of labels, such as { role = \"web\" }";
    let Some(table) = reader.table(key, value, what) else { return String::new() };
    let mut labels = vec![];
    for (name, value) in table {
        let name = name.get_ref().as_ref();
        if let Some(text) = reader.string(&format!("{key}.{name}"), value, "a string") {
            labels.push(format!("{name}={text}"));
        }
    }
    labels.join(",")
}

fn keys(reader: &mut Reader, key: &str, value: &Value) -> Vec<FleetKey> {
    let what = "a table of callers, such as anna = { key = \"UAB…\" }";
    let Some(table) = reader.table(key, value, what) else { return vec![] };
    let mut keys = vec![];
    for (name, value) in table {
        let name = name.get_ref().as_ref();
        let path = format!("{key}.{name}");
        let mut found = FleetKey { name: name.to_owned(), ..FleetKey::default() };
        let Some(table) = reader.table(&path, value, "a table with `key`") else { continue };
        for (inner, value) in table {
            let (span, inner) = (inner.span(), inner.get_ref().as_ref());
            let path = format!("{path}.{inner}");
            match inner {
                "key" => {
                    let text = reader.string(&path, value, "the public key of an nkey");
                    text.unwrap_or_default().clone_into(&mut found.key);
                }
                "groups" => {
                    let groups = reader.strings(&path, value, "an array of group names");
                    found.groups = groups.into_iter().map(|(group, _)| group.to_owned()).collect();
                }
                _ => reader
                    .problem(&span, &format!("{path}: unknown key, expected `key` or `groups`")),
            }
        }
        keys.push(found);
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::file::{Problem, parse_tables};

    fn problems(text: &str) -> Vec<(usize, String)> {
        let problems = parse_tables(text.as_bytes()).unwrap_err();
        problems.into_iter().map(|Problem { line, text }| (line, text)).collect()
    }

    #[test]
    fn the_table_is_read_as_it_is_written() {
        let text = "[fleet]\nurl = 'nats://a'\nname = 'web-1'\nlabels = { role = 'web' }\n\
            prefix = 'p'\ncredentials = '/c'\nnkey = '/n'\nca = '/a'\nunsigned = true\n\
            [fleet.keys]\nanna = { key = 'UA', groups = ['sre'] }\n";
        let (jobs, fleet) = parse_tables(text.as_bytes()).unwrap();
        let anna = FleetKey { name: "anna".into(), key: "UA".into(), groups: vec!["sre".into()] };
        let expected = FleetFile {
            url: "nats://a".into(),
            name: Some("web-1".into()),
            labels: "role=web".into(),
            prefix: Some("p".into()),
            credentials: Some("/c".into()),
            nkey: Some("/n".into()),
            ca: Some("/a".into()),
            unsigned: true,
            keys: vec![anna],
        };
        assert_eq!((jobs.len(), fleet), (0, Some(expected)));
        assert_eq!(parse_tables(b"").unwrap().1, None);
    }

    #[test]
    fn each_problem_names_its_key() {
        assert_eq!(
            problems("fleet = 1"),
            [(1, "fleet: expected a table with `url`, found 1".into())]
        );
        let text = "[fleet]\nurk = 'x'\nunsigned = 1\n[fleet.keys]\nanna = { kex = 'UA' }\n";
        let found = problems(text);
        let lines: Vec<_> = found.iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, [1, 2, 3, 5], "{found:?}");
    }
}
