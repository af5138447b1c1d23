//! Selection of nodes by their labels.

use std::{fmt, str::FromStr};

use crate::{Labels, Name, names::is_name_byte};

/// The longest selector, in bytes.
const MAX_LENGTH: usize = 4096;

/// How deep parentheses and `not` may nest.
const MAX_DEPTH: usize = 32;

/// A condition on a node's labels: `role=web and not canary`.
///
/// | form | holds if |
/// |---|---|
/// | `role=web`, `role=web*` | the label has this value; `*` and `?` match as in a shell |
/// | `role!=web` | the label has another value, or the node has no such label |
/// | `dc in (fra, par-*)` | the label has one of these values |
/// | `canary` | the node has the label |
/// | `not A`, `A and B`, `A or B`, `(A)` | in this order of precedence |
///
/// The key `node` is the node's name. Nodes without a label of that name have it too.
///
/// ```
/// use kakehi_fleet::Selector;
///
/// let selector: Selector = "role=web and not canary".parse().unwrap();
/// let name = "web-1".parse().unwrap();
/// assert!(selector.matches(&name, &"role=web,dc=fra".parse().unwrap()));
/// assert!(!selector.matches(&name, &"role=web,canary=1".parse().unwrap()));
///
/// let error = "role=web and".parse::<Selector>().unwrap_err();
/// assert_eq!(error.to_string(), "at 12: expected a label, found the end");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector(Expression);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Expression {
    All(Vec<Expression>),
    Any(Vec<Expression>),
    Not(Box<Expression>),
    Has(String),
    Is(String, Vec<String>),
}

impl Selector {
    /// Every node.
    ///
    /// ```
    /// use kakehi_fleet::{Labels, Selector};
    ///
    /// assert!(Selector::all().matches(&"web-1".parse().unwrap(), &Labels::default()));
    /// ```
    #[must_use]
    pub fn all() -> Self {
        Self(Expression::All(vec![]))
    }

    /// No node.
    ///
    /// ```
    /// use kakehi_fleet::{Labels, Selector};
    ///
    /// assert!(!Selector::none().matches(&"web-1".parse().unwrap(), &Labels::default()));
    /// ```
    #[must_use]
    pub fn none() -> Self {
        Self(Expression::Any(vec![]))
    }

    /// Whether a node of this name and with these labels is selected.
    #[must_use]
    pub fn matches(&self, node: &Name, labels: &Labels) -> bool {
        self.0.holds(&|key| if key == "node" { Some(node.as_str()) } else { labels.get(key) })
    }
}

impl Expression {
    fn holds<'a>(&self, label: &impl Fn(&str) -> Option<&'a str>) -> bool {
        match self {
            Self::All(parts) => parts.iter().all(|part| part.holds(label)),
            Self::Any(parts) => parts.iter().any(|part| part.holds(label)),
            Self::Not(part) => !part.holds(label),
            Self::Has(key) => label(key).is_some(),
            Self::Is(key, patterns) => label(key).is_some_and(|value| {
                patterns.iter().any(|pattern| matches(pattern.as_bytes(), value.as_bytes()))
            }),
        }
    }
}

/// Matches `*` and `?`, in time of at most the product of both lengths.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p + 1, t));
                p += 1;
            }
            Some(&byte) if byte == b'?' || text.get(t) == Some(&byte) => {
                p += 1;
                t += 1;
            }
            // The last star takes one byte more.
            _ => {
                let Some((after, from)) = star else { return false };
                star = Some((after, from + 1));
                p = after;
                t = from + 1;
            }
        }
    }
    pattern.get(p..).is_some_and(|rest| rest.iter().all(|byte| *byte == b'*'))
}

/// Why a text is not a [`Selector`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelectorError {
    position: usize,
    message: String,
}

impl SelectorError {
    /// Where in the text, in bytes.
    #[must_use]
    pub fn position(&self) -> usize {
        self.position
    }
}

impl fmt::Display for SelectorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at {}: {}", self.position, self.message)
    }
}

impl std::error::Error for SelectorError {}

impl FromStr for Selector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, SelectorError> {
        if text.len() > MAX_LENGTH {
            let message = format!("a selector has at most {MAX_LENGTH} bytes");
            return Err(SelectorError { position: MAX_LENGTH, message });
        }
        let mut parser = Parser { text, at: 0, depth: 0 };
        let expression = parser.any()?;
        match parser.peek() {
            "" => Ok(Self(expression)),
            _ => Err(parser.expected("`and`, `or` or the end")),
        }
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn any(&mut self) -> Result<Expression, SelectorError> {
        let mut parts = vec![self.all()?];
        while self.take("or") {
            parts.push(self.all()?);
        }
        Ok(one_or(parts, Expression::Any))
    }

    fn all(&mut self) -> Result<Expression, SelectorError> {
        let mut parts = vec![self.one()?];
        while self.take("and") {
            parts.push(self.one()?);
        }
        Ok(one_or(parts, Expression::All))
    }

    fn one(&mut self) -> Result<Expression, SelectorError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.error(format!("over {MAX_DEPTH} levels of `not` and parentheses")));
        }
        let one = if self.take("not") {
            Expression::Not(Box::new(self.one()?))
        } else if self.take("(") {
            let inner = self.any()?;
            self.expect(")")?;
            inner
        } else {
            self.label()?
        };
        self.depth -= 1;
        Ok(one)
    }

    fn label(&mut self) -> Result<Expression, SelectorError> {
        let key = self.peek();
        if matches!(key, "and" | "or" | "in") || !key.bytes().all(is_name_byte) || key.is_empty() {
            return Err(self.expected("a label"));
        }
        self.advance();
        let key = key.to_owned();
        if self.take("=") {
            Ok(Expression::Is(key, vec![self.pattern()?]))
        } else if self.take("!=") {
            Ok(Expression::Not(Box::new(Expression::Is(key, vec![self.pattern()?]))))
        } else if self.take("in") {
            self.expect("(")?;
            let mut patterns = vec![self.pattern()?];
            while self.take(",") {
                patterns.push(self.pattern()?);
            }
            self.expect(")")?;
            Ok(Expression::Is(key, patterns))
        } else {
            Ok(Expression::Has(key))
        }
    }

    fn pattern(&mut self) -> Result<String, SelectorError> {
        let word = self.peek();
        if !word.bytes().next().is_some_and(is_word_byte) {
            return Err(self.expected("a value"));
        }
        self.advance();
        Ok(word.to_owned())
    }

    fn take(&mut self, word: &str) -> bool {
        let is_next = self.peek() == word;
        if is_next {
            self.advance();
        }
        is_next
    }

    fn expect(&mut self, word: &str) -> Result<(), SelectorError> {
        if self.take(word) { Ok(()) } else { Err(self.expected(&format!("`{word}`"))) }
    }

    /// The next word or sign; empty at the end.
    fn peek(&mut self) -> &'a str {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let trimmed = rest.trim_start();
        self.at += rest.len() - trimmed.len();
        let word = trimmed.bytes().take_while(|byte| is_word_byte(*byte)).count();
        let length = match word {
            0 if trimmed.starts_with("!=") => 2,
            0 => trimmed.chars().next().map_or(0, char::len_utf8),
            word => word,
        };
        trimmed.get(..length).unwrap_or_default()
    }

    fn advance(&mut self) {
        self.at += self.peek().len();
    }

    fn expected(&mut self, what: &str) -> SelectorError {
        match self.peek() {
            "" => self.error(format!("expected {what}, found the end")),
            found => self.error(format!("expected {what}, found {found:?}")),
        }
    }

    fn error(&self, message: String) -> SelectorError {
        SelectorError { position: self.at, message }
    }
}

fn is_word_byte(byte: u8) -> bool {
    is_name_byte(byte) || byte == b'*' || byte == b'?'
}

fn one_or(mut parts: Vec<Expression>, join: fn(Vec<Expression>) -> Expression) -> Expression {
    match parts.pop() {
        Some(only) if parts.is_empty() => only,
        Some(last) => {
            parts.push(last);
            join(parts)
        }
        None => join(parts),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selects(selector: &str, labels: &str) -> bool {
        let selector: Selector = selector.parse().unwrap_or_else(|error| panic!("{error}"));
        selector.matches(&"web-1".parse().unwrap(), &labels.parse().unwrap())
    }

    #[test]
    fn labels_are_compared_by_value_and_by_glob() {
        for (selector, labels, expected) in [
            ("role=web", "role=web", true),
            ("role=web", "role=db", false),
            ("role=web", "", false),
            ("role!=web", "role=db", true),
            ("role!=web", "", true),
            ("role = w*b", "role=web", true),
            ("role=w?b", "role=wb", false),
            ("role=*", "role=x", true),
            ("canary", "canary=0", true),
            ("canary", "role=web", false),
            ("dc in (fra, par-*)", "dc=par-2", true),
            ("dc in (fra,ams)", "dc=par", false),
            ("node=web-*", "", true),
            ("node=web-2", "", false),
        ] {
            assert_eq!(selects(selector, labels), expected, "{selector} of {labels}");
        }
    }

    #[test]
    fn not_binds_tighter_than_and_and_that_tighter_than_or() {
        assert!(selects("a or b and c", "a=1"));
        assert!(!selects("(a or b) and c", "a=1"));
        assert!(!selects("not a and b", "a=1,b=1"));
        assert!(selects("not (a and b)", "a=1"));
        assert!(selects("not not a", "a=1"));
        assert!(selects("role=web and not canary", "role=web"));
    }

    #[test]
    fn an_error_names_its_position() {
        for (selector, error) in [
            ("", "at 0: expected a label, found the end"),
            ("role=web and", "at 12: expected a label, found the end"),
            ("role==web", "at 5: expected a value, found \"=\""),
            ("role=web dc=fra", "at 9: expected `and`, `or` or the end, found \"dc\""),
            ("(role=web", "at 9: expected `)`, found the end"),
            ("dc in fra", "at 6: expected `(`, found \"fra\""),
            ("dc in (fra", "at 10: expected `)`, found the end"),
            ("and", "at 0: expected a label, found \"and\""),
            ("ro*=x", "at 0: expected a label, found \"ro*\""),
            ("é", "at 0: expected a label, found \"é\""),
        ] {
            assert_eq!(selector.parse::<Selector>().unwrap_err().to_string(), error, "{selector}");
        }
    }

    #[test]
    fn depth_and_length_are_bounded() {
        let deep = |levels| format!("{}a{}", "(".repeat(levels), ")".repeat(levels));
        assert!(deep(MAX_DEPTH - 1).parse::<Selector>().is_ok());
        assert!(deep(MAX_DEPTH).parse::<Selector>().is_err());
        assert!("not ".repeat(100_000).parse::<Selector>().is_err());
        assert!("a or ".repeat(10_000).parse::<Selector>().is_err());
    }

    #[test]
    fn a_pattern_of_many_stars_ends_soon() {
        let pattern = "*a".repeat(30) + "b";
        assert!(!matches(pattern.as_bytes(), "a".repeat(64).as_bytes()));
        assert!(matches(b"**", b"") && !matches(b"?", b""));
    }
}
