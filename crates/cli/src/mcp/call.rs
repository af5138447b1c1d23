//! One call of a tool, from its request to its result.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use kakehi_client::{Error, RequestBuilder};
use rmcp::{RoleServer, model::CallToolResult, service::RequestContext};
use serde_json::json;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    pin,
    time::timeout,
};
use tracing::info;

use super::{
    offer::Offer,
    progress::Progress,
    result::{failed, of_answer},
    target::Target,
    text,
};
use crate::{
    escape::escape_lines,
    failure::Failure,
    output::steps,
    question::Question,
    remote::Remote,
    reply::{Answer, Verbatim},
};

/// How long a cancelled request may take to its end.
const PATIENCE: Duration = Duration::from_secs(2);
/// How much of the output is part of the result, in bytes: the end of it.
const MAX_OUTPUT: usize = 64 * 1024;

/// One call of a tool.
pub(super) struct Call<'c> {
    pub(super) target: &'c Target,
    pub(super) offer: &'c Offer,
    pub(super) keep_alive: Duration,
    /// The server's command that cancels a request by its id.
    pub(super) cancel: &'static str,
}

impl Call<'_> {
    /// Sends the request. If the caller cancels, so is the request.
    pub(super) async fn run(
        self,
        question: Question,
        context: &RequestContext<RoleServer>,
    ) -> CallToolResult {
        let token = context.meta.get_progress_token();
        let mut progress = Progress::new(context.peer.clone(), token, self.keep_alive);
        let (id, name) = (question.id().to_owned(), self.offer.name());
        info!(tool = name, id, "calling");
        let cancel = Question::command(&json!({ self.cancel: { "id": id } }));
        let work = self.work(question, &mut progress);
        pin!(work);
        tokio::select! {
            result = &mut work => return result,
            () = context.ct.cancelled() => info!(tool = name, id, "cancelled by the caller"),
        }
        // A request that is meant to outlive its connection would go on. If the server cannot cancel
        // it, the end of the connection is all that it gets.
        let cancelling = async {
            if self.target.answer(cancel).await.is_ok() {
                let _ = work.await;
            }
        };
        let _ = timeout(PATIENCE, cancelling).await;
        // The caller gets no result.
        CallToolResult::error(vec![])
    }

    async fn work(&self, question: Question, progress: &mut Progress) -> CallToolResult {
        let mut output = Output { has_items: !self.offer.is_job(), ..Output::default() };
        let answer = match self.target {
            Target::Here(server) => {
                match follow(server.request(question), progress, &mut output).await {
                    Ok(answer) => Ok(answer),
                    Err(Some(error)) => Err(server.explain(error).await),
                    Err(None) => Err(Failure::unanswered()),
                }
            }
            Target::There { host, socket, clocks } => {
                match Remote::of(host, socket.as_deref(), *clocks)
                    .without_questions()
                    .connect()
                    .await
                {
                    Ok(mut link) => follow(link.message(question), progress, &mut output)
                        .await
                        .map_err(|error| error.map_or_else(Failure::unanswered, Failure::from)),
                    Err(failure) => Err(failure),
                }
            }
        };
        let output = output.text();
        match answer {
            Ok(answer) => of_answer(&answer, self.offer, &output),
            Err(failure) => failed(&failure, None, &output),
        }
    }
}

/// Returns the final response. `None` is the end of the responses without one.
async fn follow<S: AsyncRead + AsyncWrite + Unpin>(
    request: RequestBuilder<'_, Question, Answer, Verbatim, S>,
    progress: &mut Progress,
    output: &mut Output,
) -> Result<Answer, Option<Error<Answer>>> {
    let mut responses = request.send().await.map_err(Some)?;
    loop {
        let next = tokio::select! {
            next = responses.next() => next,
            () = progress.due() => {
                progress.sign_of_life().await;
                continue;
            }
        };
        let answer = next.ok_or(None)?.map_err(Some)?;
        if answer.response.status.is_final() {
            return Ok(answer);
        }
        output.add(&answer);
        progress.response(&answer).await;
    }
}

/// The end of a job's output, or of the result that a command streams in its progress.
#[derive(Debug, Default)]
struct Output {
    kept: String,
    is_cut: bool,
    /// Whether content of progress is a part of the result.
    has_items: bool,
}

impl Output {
    fn add(&mut self, answer: &Answer) {
        let Some(tag) = answer.line() else { return self.add_item(answer) };
        let bytes = tag.base64.as_ref().and_then(|text| STANDARD.decode(text).ok());
        match bytes {
            Some(bytes) => self.kept.push_str(&String::from_utf8_lossy(&bytes)),
            None => self.kept.push_str(&answer.response.message),
        }
        if tag.has_end {
            self.kept.push('\n');
        }
        self.bound();
    }

    /// Adds the content of progress that counts no steps.
    fn add_item(&mut self, answer: &Answer) {
        let content = answer.content().filter(|content| steps(content).is_none());
        let Some(content) = content.filter(|_| self.has_items) else { return };
        let message = answer.response.message.trim_end();
        let gap = if message.is_empty() { "" } else { " " };
        self.kept.extend([message, gap, content, "\n"]);
        self.bound();
    }

    fn bound(&mut self) {
        if self.kept.len() > 2 * MAX_OUTPUT {
            self.cut();
        }
    }

    fn cut(&mut self) {
        if self.kept.len() > MAX_OUTPUT {
            self.is_cut = true;
            self.kept = text::end(&self.kept, MAX_OUTPUT).to_owned();
        }
    }

    fn text(mut self) -> String {
        self.cut();
        let tabs: Vec<_> = self.kept.split('\t').map(escape_lines).collect();
        let text = tabs.join("\t");
        if self.is_cut { format!("(the start of the output is left out)\n{text}") } else { text }
    }
}
