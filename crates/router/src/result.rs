//! The results of the handler of a typed command.

use kakehi_server::Answer;

/// The `Ok` of a handler: the command's reply, or an [`Answer`] with a message and the reply. For a
/// command whose reply is `()`, a text is a message.
#[diagnostic::on_unimplemented(
    message = "the reply of this command is `{R}`, not `{Self}`",
    label = "the handler returns `Result<{Self}, _>`",
    note = "`#[command(reply = ..)]` sets the type",
    note = "`Answer::new(\"..\").with_content(reply)` adds a message"
)]
pub trait IntoReply<R> {
    /// Makes the answer.
    fn into_reply(self) -> Answer<R>;
}

impl<R> IntoReply<R> for R {
    fn into_reply(self) -> Answer<R> {
        Answer { message: String::new(), content: Some(self) }
    }
}

impl<R> IntoReply<R> for Answer<R> {
    fn into_reply(self) -> Self {
        self
    }
}

impl IntoReply<()> for String {
    fn into_reply(self) -> Answer {
        Answer::new(self)
    }
}

impl IntoReply<()> for &'static str {
    fn into_reply(self) -> Answer {
        Answer::new(self)
    }
}
