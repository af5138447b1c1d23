//! Names of nodes and labels, and the NATS subjects that are made of them.

use std::{collections::BTreeMap, fmt, str::FromStr};

use async_nats::Subject;

/// The longest name.
const MAX_NAME: usize = 64;

/// The longest prefix of subjects.
const MAX_PREFIX: usize = 128;

/// A node's name, or a label's key or value: 1 to 64 of the characters `A-Z a-z 0-9 _ -`, so that
/// it is one token of a NATS subject.
///
/// ```
/// use kakehi_fleet::Name;
///
/// assert_eq!("web-1".parse::<Name>().unwrap().as_str(), "web-1");
/// assert!("web.1".parse::<Name>().is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Box<str>);

impl Name {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let is_name = (1..=MAX_NAME).contains(&text.len()) && text.bytes().all(is_name_byte);
        if is_name {
            Ok(Self(text.into()))
        } else {
            Err(NameError(text.chars().take(80).collect()))
        }
    }
}

pub(crate) fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// The text is not a [`Name`], a label, or a prefix of subjects.
///
/// ```
/// let error = "web 1".parse::<kakehi_fleet::Name>().unwrap_err();
/// assert_eq!(error.to_string(), "\"web 1\" is not a name: use 1 to 64 of A-Z a-z 0-9 _ -");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameError(String);

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not a name: use 1 to {MAX_NAME} of A-Z a-z 0-9 _ -", self.0)
    }
}

impl std::error::Error for NameError {}

/// The labels of a node, sorted by key.
///
/// ```
/// use kakehi_fleet::Labels;
///
/// let labels: Labels = "role=web,dc=fra".parse().unwrap();
/// assert_eq!(labels.get("role"), Some("web"));
/// assert_eq!(labels.to_string(), "dc=fra,role=web");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels(BTreeMap<Name, Name>);

impl Labels {
    /// Adds a label, or replaces its value.
    pub fn insert(&mut self, key: Name, value: Name) {
        self.0.insert(key, value);
    }

    /// The value of the label `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        // A map of names cannot be searched by a text; a node has few labels.
        self.0.iter().find(|(found, _)| found.as_str() == key).map(|(_, value)| value.as_str())
    }

    /// Keys and values, sorted by key.
    pub fn iter(&self) -> impl Iterator<Item = (&Name, &Name)> {
        self.0.iter()
    }
}

impl FromStr for Labels {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let mut labels = Self::default();
        for label in text.split(',').filter(|label| !label.is_empty()) {
            let (key, value) = label.split_once('=').ok_or_else(|| NameError(label.to_owned()))?;
            labels.insert(key.parse()?, value.parse()?);
        }
        Ok(labels)
    }
}

impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (key, value)) in self.0.iter().enumerate() {
            let comma = if at > 0 { "," } else { "" };
            write!(f, "{comma}{key}={value}")?;
        }
        Ok(())
    }
}

/// The address of a request: one node, or any node with a label.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Asked {
    Node(Name),
    Any(Name, Name),
}

/// As it is signed, and as it stands in the subject behind the prefix.
impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(name) => write!(f, "node.{name}"),
            Self::Any(key, value) => write!(f, "any.{key}.{value}"),
        }
    }
}

/// One accepted request: the node, its process, and the number of the request there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Accept {
    pub(crate) node: Name,
    pub(crate) epoch: Name,
    pub(crate) number: u64,
}

impl FromStr for Accept {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let invalid = || NameError(text.chars().take(80).collect());
        let mut parts = text.splitn(3, '.');
        let mut part = || parts.next().ok_or_else(invalid);
        let (node, epoch, number) = (part()?.parse()?, part()?.parse()?, part()?);
        Ok(Self { node, epoch, number: decimal(number).ok_or_else(invalid)? })
    }
}

impl fmt::Display for Accept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for name in [&self.node, &self.epoch] {
            f.write_str(name.as_str())?;
            f.write_str(".")?;
        }
        self.number.fmt(f)
    }
}

/// Reads a decimal number: digits alone, without the sign that `parse` would take.
pub(crate) fn decimal(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// The subjects of one fleet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Subjects {
    prefix: Box<str>,
}

impl Subjects {
    /// `prefix`: names, separated by dots.
    pub(crate) fn new(prefix: &str) -> Result<Self, NameError> {
        if prefix.len() > MAX_PREFIX {
            return Err(NameError(prefix.chars().take(80).collect()));
        }
        for token in prefix.split('.') {
            token.parse::<Name>()?;
        }
        Ok(Self { prefix: prefix.into() })
    }

    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    pub(crate) fn of(&self, asked: &Asked) -> Subject {
        format!("{}.{asked}", self.prefix).into()
    }

    pub(crate) fn control(&self, accept: &Accept) -> Subject {
        format!("{}.ctl.{accept}", self.prefix).into()
    }

    /// The control subjects of all requests of a node's process, as a wildcard.
    pub(crate) fn all_control(&self, node: &Name, epoch: &Name) -> String {
        format!("{}.ctl.{node}.{epoch}.*", self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    #[test]
    fn a_name_is_one_token_of_a_subject() {
        for good in ["a", "web-1", "A_b-9", &"x".repeat(64)] {
            assert_eq!(name(good).to_string(), good);
        }
        for bad in ["", "a.b", "a*", ">", "a b", "é", "a\n", &"x".repeat(65)] {
            assert!(bad.parse::<Name>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn labels_are_read_as_they_are_written() {
        let labels: Labels = "role=web,dc=fra".parse().unwrap();
        assert_eq!((labels.get("dc"), labels.get("x")), (Some("fra"), None));
        assert_eq!(labels.to_string().parse::<Labels>().unwrap(), labels);
        assert_eq!("".parse::<Labels>().unwrap(), Labels::default());
        for bad in ["role", "role=", "=web", "role=a.b", "a=b=c"] {
            assert!(bad.parse::<Labels>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn subjects_are_those_of_the_protocol() {
        let subjects = Subjects::new("kakehi").unwrap();
        let accept: Accept = "web-1.Ab3.17".parse().unwrap();
        assert_eq!(&*subjects.of(&Asked::Node(name("web-1"))), "kakehi.node.web-1");
        let any = Asked::Any(name("role"), name("web"));
        assert_eq!(&*subjects.of(&any), "kakehi.any.role.web");
        assert_eq!(&*subjects.control(&accept), "kakehi.ctl.web-1.Ab3.17");
        let all = subjects.all_control(&accept.node, &accept.epoch);
        assert_eq!(all, "kakehi.ctl.web-1.Ab3.*");
        assert!(Subjects::new("a.b").is_ok());
        for bad in ["", "a..b", "a.*", ">", &"x.".repeat(99)] {
            assert!(Subjects::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_accept_is_a_node_a_process_and_a_number() {
        let accept: Accept = "web-1.Ab3.18446744073709551615".parse().unwrap();
        assert_eq!(accept.number, u64::MAX);
        assert_eq!(accept.to_string(), "web-1.Ab3.18446744073709551615");
        for bad in ["", "a.b", "a.b.", "a.b.+1", "a.b.1.2", "a.b.-1", "a.b.99999999999999999999"] {
            assert!(bad.parse::<Accept>().is_err(), "{bad:?}");
        }
    }
}
