//! The results of a handler: `Ok` becomes OK, `Err` becomes ERROR.

use std::fmt::Display;

use kakehi_channel::Refusal;

/// An OK response: a message for people, and optional content for programs.
///
/// ```
/// use kakehi_server::Answer;
///
/// fn count(clusters: &[&str]) -> Answer<usize> {
///     match clusters {
///         [] => Answer { message: "nothing to count".into(), content: None },
///         some => Answer::new("counted").with_content(some.len()),
///     }
/// }
/// assert_eq!(count(&["a", "b"]).content, Some(2));
/// assert_eq!(count(&[]).message, "nothing to count");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer<T = ()> {
    /// The text for people.
    pub message: String,
    /// The value for programs.
    pub content: Option<T>,
}

impl Answer {
    /// Creates an answer without content.
    #[must_use]
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), content: None }
    }
}

impl<T> Answer<T> {
    /// Returns the same message with `content`.
    #[must_use]
    pub fn with_content<U>(self, content: U) -> Answer<U> {
        Answer { message: self.message, content: Some(content) }
    }
}

/// An ERROR response: a message for people, optional content for programs, and for a refusal the
/// reason.
///
/// A handler can return any type that implements [`Display`] as its error. This type adds content,
/// or says that the handler refused the request before it started anything.
///
/// ```
/// use kakehi_channel::Refusal;
/// use kakehi_server::Failure;
///
/// fn ended(code: Option<i32>) -> Failure<i32> {
///     match code {
///         Some(code) => Failure::new("the job failed").with_content(code),
///         None => {
///             let refused = Some(Refusal::Busy);
///             Failure { message: "try later".into(), content: None, refused }
///         }
///     }
/// }
/// assert_eq!(ended(Some(3)).content, Some(3));
/// assert_eq!(ended(None).refused, Some(Refusal::Busy));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure<T = ()> {
    /// The text for people.
    pub message: String,
    /// The value for programs.
    pub content: Option<T>,
    /// The reason, if the handler started nothing. The client may then send the request again.
    pub refused: Option<Refusal>,
}

impl Failure {
    /// Creates a failure without content.
    #[must_use]
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), content: None, refused: None }
    }

    /// Creates a refusal: the handler started nothing.
    #[must_use]
    pub fn refused(why: Refusal, message: impl Into<String>) -> Self {
        Self { refused: Some(why), ..Self::new(message) }
    }
}

impl<T> Failure<T> {
    /// Returns the same failure with `content`.
    #[must_use]
    pub fn with_content<U>(self, content: U) -> Failure<U> {
        Failure { message: self.message, content: Some(content), refused: self.refused }
    }
}

/// Makes `?` work in a handler for every type that implements [`Display`]: any
/// [`Error`](std::error::Error), `anyhow::Error`, `Box<dyn Error>`, `String` and `&str`. The message
/// is written with `{:#}`, so `anyhow` includes the causes.
///
/// ```
/// use kakehi_server::Failure;
///
/// fn port(text: &str) -> Result<u16, Failure> {
///     if text.is_empty() {
///         return Err("the port is missing".into());
///     }
///     Ok(text.parse()?)
/// }
/// assert_eq!(port("").unwrap_err().message, "the port is missing");
/// assert_eq!(port("x").unwrap_err().message, "invalid digit found in string");
///
/// fn even(text: &str) -> Result<u16, Failure<u16>> {
///     match text.parse()? {
///         odd if odd % 2 == 1 => Err(Failure::new("the port is odd").with_content(odd)),
///         even => Ok(even),
///     }
/// }
/// assert_eq!(even("7").unwrap_err().content, Some(7));
/// ```
impl<T, E: Display> From<E> for Failure<T> {
    fn from(error: E) -> Self {
        Self { message: format!("{error:#}"), content: None, refused: None }
    }
}

/// Converts the `Ok` value of a handler to an [`Answer`]: `()`, a text or an [`Answer`].
///
/// ```
/// use kakehi_server::{Answer, IntoAnswer};
///
/// assert_eq!("done".into_answer(), Answer::new("done"));
/// assert_eq!(().into_answer(), Answer::new(""));
/// ```
#[diagnostic::on_unimplemented(
    message = "a handler cannot return `{Self}` as `Ok`",
    label = "not an answer",
    note = "a handler returns `Ok` of `()`, `String`, `&'static str` or `Answer`",
    note = "to send a value to the client, return `Answer::new(\"done\").with_content(value)`"
)]
pub trait IntoAnswer {
    /// The type of the content.
    type Content: Send;

    /// Converts the value.
    fn into_answer(self) -> Answer<Self::Content>;
}

impl<T: Send> IntoAnswer for Answer<T> {
    type Content = T;

    fn into_answer(self) -> Answer<T> {
        self
    }
}

impl IntoAnswer for String {
    type Content = ();

    fn into_answer(self) -> Answer {
        Answer { message: self, content: None }
    }
}

impl IntoAnswer for &'static str {
    type Content = ();

    fn into_answer(self) -> Answer {
        Answer::new(self)
    }
}

impl IntoAnswer for () {
    type Content = ();

    fn into_answer(self) -> Answer {
        Answer::new("")
    }
}

/// Converts the `Err` value of a handler to a [`Failure`]: a [`Failure`], or any type that implements
/// [`Display`]. The message is written with `{:#}`, so `anyhow` includes the causes.
///
/// ```
/// use kakehi_server::{Failure, IntoFailure};
///
/// let error = std::io::Error::other("the disk is full");
/// assert_eq!(error.into_failure(), Failure::new("the disk is full"));
/// ```
#[diagnostic::on_unimplemented(
    message = "a handler cannot return `{Self}` as `Err`",
    label = "not an error",
    note = "a handler returns `Err` of `Failure`, or of a type that implements `Display`",
    note = "to send a value to the client, return `Failure::new(\"failed\").with_content(value)`"
)]
pub trait IntoFailure {
    /// The type of the content.
    type Content: Send;

    /// Converts the value.
    fn into_failure(self) -> Failure<Self::Content>;
}

impl<T: Send> IntoFailure for Failure<T> {
    type Content = T;

    fn into_failure(self) -> Self {
        self
    }
}

impl<E: Display> IntoFailure for E {
    type Content = ();

    fn into_failure(self) -> Failure {
        self.into()
    }
}

/// Converts the `Err` value of the handler of a typed command, whose fault is `F`: a [`Failure`], or
/// any type that implements [`Display`].
#[diagnostic::on_unimplemented(
    message = "the fault of this command is `{F}`: `{Self}` is not an error of it",
    label = "the handler returns `Result<_, {Self}>`",
    note = "`#[command(fault = ..)]` sets the type",
    note = "a handler fails with `Failure<{F}>`, or with anything that implements `Display`"
)]
pub trait IntoFault<F> {
    /// Converts the value.
    fn into_fault(self) -> Failure<F>;
}

impl<F> IntoFault<F> for Failure<F> {
    fn into_fault(self) -> Self {
        self
    }
}

impl<F, E: Display> IntoFault<F> for E {
    fn into_fault(self) -> Failure<F> {
        self.into()
    }
}
