//! What a handler may return: `Ok` becomes OK, `Err` becomes ERROR.

use std::fmt::Display;

use kakehi_channel::Refusal;

/// A message for a person and, where there is one, content for a program.
///
/// ```
/// use kakehi_server::Answer;
///
/// let answer = Answer::new("3 clusters").with_content(["a", "b", "c"]);
/// assert_eq!(answer.message, "3 clusters");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer<T = ()> {
    /// For a person.
    pub message: String,
    /// For a program.
    pub content: Option<T>,
}

impl Answer {
    /// An answer without content.
    ///
    /// ```
    /// assert_eq!(kakehi_server::Answer::new("done").content, None);
    /// ```
    #[must_use]
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), content: None }
    }
}

impl<T> Answer<T> {
    /// The same message with `content`.
    ///
    /// ```
    /// let answer = kakehi_server::Answer::new("counted").with_content(42);
    /// assert_eq!(answer.content, Some(42));
    /// ```
    #[must_use]
    pub fn with_content<U>(self, content: U) -> Answer<U> {
        Answer { message: self.message, content: Some(content) }
    }

    /// The same message alone, where a handler's other answers have content.
    ///
    /// ```
    /// use kakehi_server::Answer;
    ///
    /// fn count(of: &[u32]) -> Answer<usize> {
    ///     match of {
    ///         [] => Answer::new("nothing to count").without_content(),
    ///         some => Answer::new("counted").with_content(some.len()),
    ///     }
    /// }
    /// assert_eq!(count(&[]).content, None);
    /// ```
    #[must_use]
    pub fn without_content<U>(self) -> Answer<U> {
        Answer { message: self.message, content: None }
    }
}

/// Why a handler did not do what it was asked for.
///
/// A handler can return anything that is [`Display`] as its error; this is for those that have
/// content to add, or that refused before they started anything.
///
/// ```
/// use kakehi_channel::Refusal;
/// use kakehi_server::Failure;
///
/// let failure = Failure::new("exit code 3").with_content(3);
/// assert_eq!(failure.content, Some(3));
/// let refused = Failure::refused(Refusal::Denied, "deploy may not run `backup`");
/// assert_eq!(refused.refused, Some(Refusal::Denied));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure<T = ()> {
    /// For a person.
    pub message: String,
    /// For a program.
    pub content: Option<T>,
    /// Nothing was started, for this reason.
    pub refused: Option<Refusal>,
}

impl Failure {
    /// A failure without content.
    ///
    /// ```
    /// assert_eq!(kakehi_server::Failure::new("no such job").refused, None);
    /// ```
    #[must_use]
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), content: None, refused: None }
    }

    /// Nothing was started.
    ///
    /// ```
    /// let failure = kakehi_server::Failure::refused(kakehi_channel::Refusal::Busy, "try later");
    /// assert_eq!(failure.message, "try later");
    /// ```
    #[must_use]
    pub fn refused(why: Refusal, message: impl Into<String>) -> Self {
        Self { refused: Some(why), ..Self::new(message) }
    }
}

impl<T> Failure<T> {
    /// The same failure with `content`.
    ///
    /// ```
    /// assert_eq!(kakehi_server::Failure::new("failed").with_content(1).content, Some(1));
    /// ```
    #[must_use]
    pub fn with_content<U>(self, content: U) -> Failure<U> {
        Failure { message: self.message, content: Some(content), refused: self.refused }
    }

    /// The same failure alone, where a handler's other failures have content.
    ///
    /// ```
    /// use kakehi_server::Failure;
    ///
    /// fn missing(code: Option<i32>) -> Failure<i32> {
    ///     let failure = Failure::new("it has failed");
    ///     match code {
    ///         Some(code) => failure.with_content(code),
    ///         None => failure.without_content(),
    ///     }
    /// }
    /// assert_eq!(missing(None).content, None);
    /// ```
    #[must_use]
    pub fn without_content<U>(self) -> Failure<U> {
        Failure { message: self.message, content: None, refused: self.refused }
    }
}

/// For `?` in a handler, whatever the content of its failures.
///
/// ```
/// use kakehi_server::Failure;
///
/// fn port(text: &str) -> Result<u16, Failure> {
///     Ok(text.parse()?)
/// }
/// assert_eq!(port("x").unwrap_err().message, "invalid digit found in string");
///
/// fn even(text: &str) -> Result<u16, Failure<u16>> {
///     match text.parse()? {
///         odd if odd % 2 == 1 => Err(Failure::new("it is odd").with_content(odd)),
///         even => Ok(even),
///     }
/// }
/// assert_eq!(even("7").unwrap_err().content, Some(7));
/// ```
impl<T, E: std::error::Error> From<E> for Failure<T> {
    fn from(error: E) -> Self {
        Failure::new(error.to_string()).without_content()
    }
}

/// What a handler may return as `Ok`: nothing, a text, or an [`Answer`].
///
/// ```
/// use kakehi_server::{Answer, IntoAnswer};
///
/// assert_eq!("done".into_answer(), Answer::new("done"));
/// assert_eq!(().into_answer(), Answer::new(""));
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an answer",
    label = "not an answer",
    note = "a handler returns `()`, a `String`, a `&'static str`, or an `Answer`",
    note = "what a program is to read is content: `Answer::new(\"..\").with_content(value)`"
)]
pub trait IntoAnswer {
    /// For a program.
    type Content: Send;

    /// Makes the answer.
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

/// What a handler may return as `Err`: anything that is [`Display`], or a [`Failure`]. It is written
/// as `{:#}`: so `anyhow`, for one, tells the causes too.
///
/// ```
/// use kakehi_server::{Failure, IntoFailure};
///
/// let error = std::io::Error::other("the disk is full");
/// assert_eq!(error.into_failure(), Failure::new("the disk is full"));
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a failure",
    label = "not a failure",
    note = "a handler fails with a `Failure`, or with anything that implements `Display`",
    note = "what a program is to read is content: `Failure::new(\"..\").with_content(value)`"
)]
pub trait IntoFailure {
    /// For a program.
    type Content: Send;

    /// Makes the failure.
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
        Failure::new(format!("{self:#}"))
    }
}
