//! One job of the file.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    env,
    ffi::OsString,
    ops::Range,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use rustix::fs::{Access, access};
use toml::Spanned;

use super::{
    argument, keep,
    reader::{Reader, Value},
};
use crate::jobs::{
    caller::Allow,
    job::{Job, Keep},
    progress::{Rule, Source},
};

const KEYS: &str = "about, run, args, allow, timeout, at_once, when_client_leaves, env, cwd, \
    keep, reader_timeout, progress, stdin, confirm";

/// Reads `[job.NAME]`. A wrong value is recorded as a problem, and the returned job is not used.
pub(super) fn read(
    reader: &mut Reader,
    name: &Spanned<Cow<'_, str>>,
    value: &Value,
) -> Option<Job> {
    let (span, name) = (name.span(), name.get_ref().as_ref());
    if !is_name(name) {
        let wanted = "expected lower-case letters, digits, `-` and `_`, a letter or digit first";
        reader.problem(&span, &format!("job name {name:?}: {wanted}"));
    }
    let prefix = format!("job.{name}");
    let table = reader.table(&prefix, value, "a table with `run`")?;
    let mut job = Job {
        name: name.to_owned(),
        about: String::new(),
        program: PathBuf::new(),
        run: vec![],
        args: vec![],
        allow: Allow::default(),
        timeout: None,
        at_once: 1,
        finishes: false,
        env: BTreeMap::new(),
        cwd: "/".into(),
        keep: Keep::default(),
        reader_timeout: None,
        progress: None,
        stdin: false,
        confirm: false,
    };
    let mut program = None;
    for (key, value) in table {
        let (span, key) = (key.span(), key.get_ref().as_ref());
        let path = format!("{prefix}.{key}");
        match key {
            "about" => {
                let about = reader.string(&path, value, "a text");
                about.unwrap_or_default().clone_into(&mut job.about);
            }
            "run" => (program, job.run) = run(reader, &path, value),
            "args" => job.args = argument::read(reader, &path, value),
            "allow" => job.allow = allow(reader, &path, value),
            "timeout" => job.timeout = reader.duration(&path, value),
            "at_once" => job.at_once = reader.count(&path, value).unwrap_or(1),
            "when_client_leaves" => job.finishes = finishes(reader, &path, value),
            "env" => job.env = variables(reader, &path, value),
            "cwd" => job.cwd = folder(reader, &path, value),
            "keep" => job.keep = keep::read(reader, &path, value),
            "reader_timeout" => job.reader_timeout = reader.duration(&path, value),
            "progress" => job.progress = progress(reader, &path, value),
            "stdin" => job.stdin = reader.boolean(&path, value),
            "confirm" => job.confirm = reader.boolean(&path, value),
            _ => {
                reader.problem(&span, &format!("{path}: unknown key, expected one of {KEYS}"));
            }
        }
    }
    match program {
        Some((program, span)) => job.program = find(reader, &prefix, &program, &span, &job.env),
        None if job.run.is_empty() && !table.keys().any(|key| key.get_ref() == "run") => {
            reader.missing(&span, &format!("{prefix}.run: expected a command line, found none"));
        }
        None => {}
    }
    Some(job)
}

fn is_name(name: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    name.bytes().next().is_some_and(word)
        && name.bytes().all(|byte| word(byte) || byte == b'-' || byte == b'_')
}

type Program = Option<(String, Range<usize>)>;

fn run(reader: &mut Reader, key: &str, value: &Value) -> (Program, Vec<String>) {
    let what = "a command line, such as [\"tar\", \"-c\", \"/srv\"]";
    let strings = reader.strings(key, value, what);
    let program = strings.first().map(|(program, span)| (program.to_string(), span.clone()));
    if let toml::de::DeValue::Array(values) = value.get_ref()
        && values.is_empty()
    {
        reader.problem(&value.span(), &format!("{key}: expected {what}, found an empty array"));
    }
    (program, strings.into_iter().map(|(text, _)| text.to_owned()).collect())
}

fn allow(reader: &mut Reader, key: &str, value: &Value) -> Allow {
    let mut allow = Allow::root();
    let what = "a table with `users`, `groups` or `fleet`";
    let Some(table) = reader.table(key, value, what) else { return allow };
    for (inner, value) in table {
        let (span, inner) = (inner.span(), inner.get_ref().as_ref());
        let path = format!("{key}.{inner}");
        let kind = match inner {
            "users" => "user",
            "groups" => "group",
            "fleet" => {
                let what = "an array of names of callers, such as \"anna\" or \"group:sre\"";
                for (name, _) in reader.strings(&path, value, what) {
                    allow.add_remote(name);
                }
                continue;
            }
            _ => {
                let text = format!("{path}: unknown key, expected `users`, `groups` or `fleet`");
                reader.problem(&span, &text);
                continue;
            }
        };
        let what = format!("an array of {kind} names");
        for (name, span) in reader.strings(&path, value, &what) {
            let known = match kind {
                "user" => allow.add_user(name),
                _ => allow.add_group(name),
            };
            if !known {
                let text = format!("{path}: expected the name of a {kind} here, found {name:?}");
                reader.problem(&span, &text);
            }
        }
    }
    allow
}

fn finishes(reader: &mut Reader, key: &str, value: &Value) -> bool {
    let what = "\"kill\" or \"finish\"";
    match reader.string(key, value, what) {
        Some("finish") => true,
        Some("kill") | None => false,
        Some(_) => {
            reader.expected(key, value, what);
            false
        }
    }
}

fn progress(reader: &mut Reader, key: &str, value: &Value) -> Option<Source> {
    let what = "\"percent\", \"fd\" or a regular expression with two groups";
    let rule = match reader.string(key, value, what)? {
        "fd" => return Some(Source::Descriptor),
        "percent" => Rule::percent(),
        pattern => Rule::pattern(pattern),
    };
    let rule = rule.map_err(|why| {
        reader.problem(&value.span(), &format!("{key}: expected {what}: {why}"));
    });
    rule.ok().map(Source::Output)
}

fn variables(reader: &mut Reader, key: &str, value: &Value) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::new();
    let what = "a table of variables, such as { LANG = \"C\" }";
    let Some(table) = reader.table(key, value, what) else { return variables };
    for (name, value) in table {
        let (span, name) = (name.span(), name.get_ref().as_ref());
        if name.is_empty() || name.contains(['=', '\0']) {
            let text = format!("{key}: expected the name of a variable, found {name:?}");
            reader.problem(&span, &text);
        }
        if let Some(text) = reader.string(&format!("{key}.{name}"), value, "a string") {
            variables.insert(name.to_owned(), text.to_owned());
        }
    }
    variables
}

fn folder(reader: &mut Reader, key: &str, value: &Value) -> PathBuf {
    let what = "the absolute path of a folder";
    let Some(path) = reader.string(key, value, what).map(PathBuf::from) else {
        return PathBuf::new();
    };
    if !path.is_absolute() || !path.is_dir() {
        reader.expected(key, value, what);
    }
    path
}

/// Finds the program, by its absolute path or in the `PATH` of the job.
fn find(
    reader: &mut Reader,
    job: &str,
    program: &str,
    span: &Range<usize>,
    env: &BTreeMap<String, String>,
) -> PathBuf {
    let given = Path::new(program);
    let candidates = if given.is_absolute() {
        vec![given.to_owned()]
    } else if program.is_empty() || program.contains('/') {
        vec![]
    } else {
        let path = env.get("PATH").map(OsString::from).or_else(|| env::var_os("PATH"));
        let folders = path.unwrap_or_default();
        let folders = env::split_paths(&folders).filter(|folder| folder.is_absolute());
        folders.map(|folder| folder.join(given)).collect()
    };
    let found = candidates.into_iter().find(|path| is_program(path));
    found.unwrap_or_else(|| {
        let wanted = "expected a program, by its absolute path or by a name that is in PATH";
        reader.problem(span, &format!("{job}.run: {wanted}, found {program:?}"));
        PathBuf::new()
    })
}

fn is_program(path: &Path) -> bool {
    path.is_file() && access(path.as_os_str().as_bytes(), Access::EXEC_OK).is_ok()
}
