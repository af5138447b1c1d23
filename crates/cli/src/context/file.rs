//! The file of the contexts: `$XDG_CONFIG_HOME/kakehi/config.toml`.

use std::{
    env, fmt,
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    str::FromStr,
};

use rustix::fs::{FlockOperation, flock};
use toml_edit::{DocumentMut, Item, Table, TableLike, Value};

use super::DEFAULT;
use crate::{failure::Failure, ssh::SshHost};

/// The largest file that is read, in bytes.
const LARGEST: u64 = 1024 * 1024;
/// The longest name of a context, in characters.
const LONGEST: usize = 64;

/// The name of a context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Name(String);

/// A server on this machine or another one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) host: Option<SshHost>,
    /// The path of the socket, on the other machine if there is one.
    pub(crate) socket: Option<PathBuf>,
}

/// The file, with its comments.
#[derive(Debug)]
pub(super) struct File {
    path: PathBuf,
    document: DocumentMut,
}

impl FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if text.is_empty() || text.len() > LONGEST || !text.bytes().all(is_part) {
            return Err(format!("expected 1 to {LONGEST} letters, digits, `.`, `_` and `-`"));
        }
        if text.starts_with('-') {
            return Err("a name starts with no hyphen".to_owned());
        }
        Ok(Self(text.to_owned()))
    }
}

impl Name {
    /// Whether it stands for the default places.
    pub(super) fn is_default(&self) -> bool {
        self.0 == DEFAULT
    }

    /// Checks that a context may have this name.
    pub(super) fn check_new(&self) -> Result<(), Failure> {
        if !self.is_default() {
            return Ok(());
        }
        let why = "the name stands for the default places";
        Err(Failure::usage("a context cannot be named `default`", why, "choose another name"))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.contains("://") {
            return Ok(Self { host: Some(text.parse()?), socket: None });
        }
        // A relative path would depend on the folder of each command.
        if !text.starts_with('/') {
            return Err(
                "expected ssh://[user@]host[:port], or the absolute path of a socket".into()
            );
        }
        Ok(Self { host: None, socket: Some(text.into()) })
    }
}

impl Place {
    /// The same, with the path of the socket on the other machine.
    pub(super) fn with_socket(&self, socket: Option<PathBuf>) -> Result<Self, Failure> {
        if socket.is_some() && self.host.is_none() {
            let why = "the server is a socket on this machine";
            let remedy = "leave --remote-socket out";
            return Err(Failure::usage("--remote-socket needs another machine", why, remedy));
        }
        Ok(Self { host: self.host.clone(), socket: socket.or_else(|| self.socket.clone()) })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.host, &self.socket) {
            (Some(host), Some(socket)) => write!(f, "{} {}", host.url(), socket.display()),
            (Some(host), None) => f.write_str(&host.url()),
            (None, Some(socket)) => write!(f, "{}", socket.display()),
            (None, None) => f.write_str("-"),
        }
    }
}

impl File {
    /// Reads the file. Without one, there are no contexts.
    ///
    /// # Errors
    /// It cannot be read, is not valid, or has unknown keys.
    pub(super) fn read() -> Result<Self, Failure> {
        let Some(path) = path() else {
            return Ok(Self { path: PathBuf::new(), document: DocumentMut::new() });
        };
        Self::load(&path)
    }

    fn load(path: &Path) -> Result<Self, Failure> {
        let text = match fs::metadata(path) {
            Ok(file) if file.len() > LARGEST => Err(format!("it has more than {LARGEST} bytes")),
            Ok(_) => fs::read_to_string(path).map_err(|error| error.to_string()),
            // In a folder that is closed to the user, the file is that of another one.
            Err(error) if is_absent(&error) => Ok(String::new()),
            Err(error) => Err(error.to_string()),
        };
        let text = text.map_err(|why| unusable(path, &why))?;
        let document = text.parse::<DocumentMut>();
        let document = document.map_err(|error| {
            let lines = error.to_string();
            let lines: Vec<_> = lines.lines().map(str::trim).collect();
            unusable(path, &lines.join(" "))
        })?;
        let file = Self { path: path.to_owned(), document };
        file.check().map_err(|why| unusable(path, &why))?;
        Ok(file)
    }

    /// Changes the file: reads it, applies `change`, and replaces it in one step.
    ///
    /// # Errors
    /// As [`read`](Self::read), or those of `change`, or the file cannot be written.
    pub(super) fn change(
        change: impl FnOnce(&mut Self) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let path = path().ok_or_else(|| {
            let why = "neither XDG_CONFIG_HOME nor HOME is an absolute path";
            Failure::usage("there is no place for contexts", why, "set HOME")
        })?;
        // A link to a file elsewhere stays a link.
        let path = fs::canonicalize(&path).unwrap_or(path);
        let failed = |error: io::Error| unwritable(&path, &error);
        let folder = path.parent().unwrap_or(Path::new("/"));
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
        // Other changes wait until this one is done.
        let lock = fs::File::open(folder).map_err(failed)?;
        flock(&lock, FlockOperation::LockExclusive).map_err(|error| failed(error.into()))?;
        let mut file = Self::load(&path)?;
        change(&mut file)?;
        write(&path, &file.document.to_string()).map_err(failed)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The chosen context.
    pub(super) fn chosen(&self) -> Result<Option<Name>, Failure> {
        let text = self.document.get("context").and_then(Item::as_str);
        let name = text.map(Name::from_str).transpose();
        name.map_err(|why| unusable(&self.path, &why))
    }

    pub(super) fn get(&self, name: &Name) -> Result<Place, Failure> {
        let found = self.contexts().and_then(|all| all.get(&name.0));
        let table = found.ok_or_else(|| self.unknown(name))?;
        place(table).map_err(|why| unusable(&self.path, &format!("[contexts.{name}] {why}")))
    }

    /// All contexts, in the order of the file.
    pub(super) fn all(&self) -> Result<Vec<(Name, Place)>, Failure> {
        let names = self.contexts().into_iter().flat_map(Table::iter).map(|(name, _)| name);
        let names: Result<Vec<Name>, String> = names.map(Name::from_str).collect();
        let names = names.map_err(|why| unusable(&self.path, &why))?;
        names.into_iter().map(|name| self.get(&name).map(|place| (name, place))).collect()
    }

    /// Checks that the name does not stand for another server.
    pub(super) fn check_unused(&self, name: &Name, place: &Place) -> Result<(), Failure> {
        let is_known = self.contexts().is_some_and(|all| all.contains_key(&name.0));
        let known = is_known.then(|| self.get(name)).transpose()?;
        let Some(known) = known.filter(|known| known != place) else { return Ok(()) };
        let what = format!("there is a context {name} already");
        let why = format!("it is the server {known}");
        Err(Failure::usage(&what, &why, "choose another name, or replace it: --force"))
    }

    pub(super) fn set(&mut self, name: &Name, place: &Place) {
        let contexts = self.document.entry("contexts").or_insert_with(|| {
            let mut contexts = Table::new();
            contexts.set_implicit(true);
            Item::Table(contexts)
        });
        let contexts = contexts.as_table_mut();
        let table =
            contexts.map(|all| all.entry(&name.0).or_insert_with(|| Item::Table(Table::new())));
        let Some(table) = table.and_then(Item::as_table_like_mut) else { return };
        let host = place.host.as_ref().map(SshHost::url);
        let socket = place.socket.as_ref().map(|path| path.display().to_string());
        for (key, text) in [("host", host), ("socket", socket)] {
            match text {
                Some(text) => put(table, key, text),
                None => drop(table.remove(key)),
            }
        }
    }

    pub(super) fn choose(&mut self, name: &Name) -> Result<(), Failure> {
        if name.is_default() {
            self.document.remove("context");
            return Ok(());
        }
        self.get(name)?;
        put(self.document.as_table_mut(), "context", name.0.clone());
        Ok(())
    }

    pub(super) fn remove(&mut self, name: &Name) -> Result<(), Failure> {
        let contexts = self.document.get_mut("contexts").and_then(Item::as_table_mut);
        if contexts.and_then(|contexts| contexts.remove(&name.0)).is_none() {
            return Err(self.unknown(name));
        }
        if self.document.get("context").and_then(Item::as_str) == Some(&name.0) {
            self.document.remove("context");
        }
        Ok(())
    }

    fn contexts(&self) -> Option<&Table> {
        self.document.get("contexts")?.as_table()
    }

    /// Checks all keys, so that a mistyped one does not lead to another server.
    fn check(&self) -> Result<(), String> {
        for (key, item) in self.document.iter() {
            match (key, item) {
                ("context", item) if item.is_str() => {}
                ("contexts", item) if item.is_table() => {}
                ("context", _) => return Err("`context` is not a text".to_owned()),
                ("contexts", _) => return Err("`contexts` is not a table".to_owned()),
                _ => return Err(format!("unknown key `{key}`; the keys are context, contexts")),
            }
        }
        for (name, item) in self.contexts().into_iter().flat_map(Table::iter) {
            name.parse::<Name>().map_err(|why| format!("[contexts.{name}]: {why}"))?;
            place(item).map_err(|why| format!("[contexts.{name}] {why}"))?;
        }
        Ok(())
    }

    fn unknown(&self, name: &Name) -> Failure {
        let path = self.path.display();
        let why = format!("{path} has no such context");
        let names: Vec<_> = self.contexts().into_iter().flat_map(Table::iter).collect();
        let names: Vec<_> = names.into_iter().map(|(name, _)| name).collect();
        let remedy = if names.is_empty() {
            format!("add it: kakehi context add {name} ssh://HOST")
        } else {
            format!("use one of: {}", names.join(", "))
        };
        Failure::usage(&format!("there is no context {name}"), &why, &remedy)
    }
}

/// Sets a key. Its comments stay.
fn put(table: &mut dyn TableLike, key: &str, text: String) {
    let mut new = Value::from(text);
    match table.get_mut(key) {
        Some(item) => {
            if let Some(old) = item.as_value() {
                *new.decor_mut() = old.decor().clone();
            }
            *item = Item::Value(new);
        }
        None => drop(table.insert(key, Item::Value(new))),
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied)
}

/// A context of the file.
fn place(item: &Item) -> Result<Place, String> {
    let table = item.as_table_like().ok_or("is not a table")?;
    let mut place = Place::default();
    for (key, item) in table.iter() {
        let text = || item.as_str().ok_or_else(|| format!("`{key}` is not a text"));
        match key {
            "host" => place.host = Some(text()?.parse()?),
            "socket" => place.socket = Some(text()?.into()),
            _ => return Err(format!("has the unknown key `{key}`; the keys are host, socket")),
        }
    }
    if place == Place::default() {
        return Err("has neither `host` nor `socket`".to_owned());
    }
    Ok(place)
}

/// The path of the file. Relative folders are ignored, as the XDG base directories say.
fn path() -> Option<PathBuf> {
    let folder = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let config = folder("XDG_CONFIG_HOME").or_else(|| Some(folder("HOME")?.join(".config")))?;
    Some(config.join("kakehi/config.toml"))
}

/// Replaces a file in one step. Only the user may read it.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let temporary = path.with_extension(format!("toml.{}", std::process::id()));
    let written = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)
        .and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        })
        .and_then(|()| fs::rename(&temporary, path));
    written.inspect_err(|_| drop(fs::remove_file(&temporary)))
}

fn unusable(path: &Path, why: &str) -> Failure {
    let what = format!("cannot use {}", path.display());
    Failure::usage(&what, why, "correct the file, or name the server by --socket or --host")
}

fn unwritable(path: &Path, error: &io::Error) -> Failure {
    let what = format!("cannot write {}", path.display());
    Failure::usage(&what, &error.to_string(), "check the folder and the space on the disk")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<File, Failure> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        fs::write(&path, text).unwrap();
        File::load(&path)
    }

    #[test]
    fn comments_and_other_contexts_survive_a_change() {
        let text =
            "# mine\ncontext = \"a\" # for now\n\n# the first\n[contexts.a]\nhost = \"ssh://a\"\n";
        let mut file = load(text).unwrap();
        let name = |name: &str| name.parse::<Name>().unwrap();
        let place = |place: &str| place.parse::<Place>().unwrap();
        file.set(&name("b"), &place("/run/b.sock"));
        file.choose(&name("b")).unwrap();
        let expected = "# mine\ncontext = \"b\" # for now\n\n# the first\n[contexts.a]\nhost = \"ssh://a\"\n\n[contexts.b]\nsocket = \"/run/b.sock\"\n";
        assert_eq!(file.document.to_string(), expected);
        file.set(&name("a"), &place("/run/a.sock"));
        let text = file.document.to_string();
        assert!(text.contains("# the first\n[contexts.a]\nsocket = \"/run/a.sock\"\n"), "{text}");
        file.set(&name("a"), &place("ssh://a"));
        file.remove(&name("b")).unwrap();
        assert_eq!(file.chosen().unwrap(), None);
        assert_eq!(file.all().unwrap(), [(name("a"), place("ssh://a"))]);
        assert!(file.remove(&name("b")).unwrap_err().remedy.contains("use one of: a"));
    }

    #[test]
    fn a_mistake_in_the_file_is_named() {
        for (text, why) in [
            ("contxt = \"a\"", "unknown key `contxt`"),
            ("context = 1", "`context` is not a text"),
            ("contexts = 1", "`contexts` is not a table"),
            ("[contexts.a]\nhots = \"ssh://a\"", "[contexts.a] has the unknown key `hots`"),
            ("[contexts.a]", "[contexts.a] has neither"),
            ("[contexts.a]\nhost = \"a\"", "[contexts.a] the URL does not start with ssh://"),
            ("[contexts.a]\nsocket = 1", "[contexts.a] `socket` is not a text"),
            ("[contexts.\"a b\"]\nsocket = \"/a\"", "[contexts.a b]: expected 1 to 64"),
            ("[", "TOML parse error at line 1, column 2"),
        ] {
            let failure = load(text).unwrap_err();
            assert!(failure.why.starts_with(why), "{text}: {failure:?}");
            assert_eq!(failure.code, crate::exit::USAGE);
        }
    }

    #[test]
    fn a_name_and_a_place_have_a_form() {
        for name in ["", "-a", "a b", "a/b", "ä", &"a".repeat(65)] {
            assert!(name.parse::<Name>().is_err(), "{name}");
        }
        for place in ["host", "relative/path", "tcp://a", ""] {
            assert!(place.parse::<Place>().is_err(), "{place}");
        }
        assert_eq!("ssh://b@a:2".parse::<Place>().unwrap().to_string(), "ssh://b@a:2");
    }
}
