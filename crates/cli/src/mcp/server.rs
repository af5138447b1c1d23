//! The session with the client.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use kakehi_client::Outcome;
use rmcp::{
    ErrorData, RoleServer, ServerHandler,
    model::{
        CallToolRequestParams, CallToolResponse, CallToolResult, CustomRequest, CustomResult,
        ErrorCode, Implementation, ListToolsResult, PaginatedRequestParams, ServerCapabilities,
        ServerConfig,
    },
    service::RequestContext,
};
use serde_json::json;
use tokio::{sync::Semaphore, time::timeout};
use tracing::warn;

use super::{
    McpArguments,
    call::Call,
    jobs::jobs,
    offer::{Offer, offers},
    result::failed,
    target::Target,
};
use crate::{commands, exit, failure::Failure, question::Question};

/// How many calls may run at once. Further ones are refused.
pub(super) const MAX_CALLS: usize = 16;
/// How long calls may go on after the session.
const GRACE: Duration = Duration::from_secs(3);

/// The tools of one server.
#[derive(Debug)]
pub(super) struct Tools {
    target: Target,
    arguments: McpArguments,
    calls: Calls,
    /// The tools that were listed last.
    listed: Mutex<Option<Arc<Listed>>>,
}

#[derive(Debug)]
struct Listed {
    offers: BTreeMap<String, Offer>,
    is_kakehid: bool,
}

/// The calls that are running.
#[derive(Clone, Debug)]
pub(super) struct Calls(Arc<Semaphore>);

impl Calls {
    /// Waits until the last call has ended, within bounds.
    pub(super) async fn end(self) {
        let all = u32::try_from(MAX_CALLS).unwrap_or(u32::MAX);
        let _ = timeout(GRACE, self.0.acquire_many(all)).await;
    }
}

impl Tools {
    pub(super) fn new(target: Target, arguments: McpArguments) -> Self {
        let calls = Calls(Arc::new(Semaphore::new(MAX_CALLS)));
        Self { target, arguments, calls, listed: Mutex::default() }
    }

    pub(super) fn calls(&self) -> Calls {
        self.calls.clone()
    }

    /// Asks the server for its commands.
    async fn list(&self) -> Result<Arc<Listed>, Failure> {
        let answer = self.target.answer(commands::question()).await;
        let answer = answer.map_err(commands::undescribed)?;
        let description = commands::description(&answer)?;
        let is_kakehid = description.name == "kakehid";
        let mut all = offers(&description);
        if is_kakehid {
            all.extend(self.jobs().await);
        }
        all.retain(|offer| self.is_offered(offer));
        for name in &self.arguments.allow {
            if all.iter().all(|offer| offer.name() != name) {
                warn!(name, "--allow names a command that is not offered");
            }
        }
        let offers = all.into_iter().map(|offer| (offer.name().to_owned(), offer)).collect();
        let listed = Arc::new(Listed { offers, is_kakehid });
        *self.listed.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&listed));
        Ok(listed)
    }

    async fn jobs(&self) -> Vec<Offer> {
        match self.target.answer(Question::command(&json!("list"))).await {
            Ok(answer) => {
                jobs(answer.content().unwrap_or_default()).into_iter().map(Offer::job).collect()
            }
            Err(failure) => {
                warn!(why = failure.why, "cannot list the jobs");
                vec![]
            }
        }
    }

    fn is_offered(&self, offer: &Offer) -> bool {
        self.is_allowed(offer.name()) && (offer.read_only || !self.arguments.read_only)
    }

    fn is_allowed(&self, name: &str) -> bool {
        let allow = &self.arguments.allow;
        allow.is_empty() || allow.iter().any(|allowed| allowed == name)
    }

    /// The tools that were listed last, or else now.
    async fn listed(&self) -> Result<Arc<Listed>, Failure> {
        let listed = self.listed.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match listed {
            Some(listed) => Ok(listed),
            None => self.list().await,
        }
    }

    async fn call(
        &self,
        request: CallToolRequestParams,
        context: &RequestContext<RoleServer>,
    ) -> Result<CallToolResult, Failure> {
        let name = &*request.name;
        if !self.is_allowed(name) {
            return Err(not_offered(name));
        }
        let Ok(_permit) = self.calls.0.try_acquire() else { return Err(too_many()) };
        let listed = self.listed().await.map_err(Failure::before_command)?;
        let offer = listed.offers.get(name).ok_or_else(|| not_offered(name))?;
        let question = offer.question(request.arguments.unwrap_or_default()).map_err(|why| {
            Failure::usage("the arguments are wrong", &why, "see the schema of the tool")
        })?;
        let cancel = if listed.is_kakehid { "cancel" } else { "kakehi.cancel" };
        let call =
            Call { target: &self.target, offer, keep_alive: self.arguments.keep_alive, cancel };
        Ok(call.run(question, context).await)
    }
}

impl ServerHandler for Tools {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder().enable_tools().build();
        let kakehi = Implementation::new("kakehi", env!("CARGO_PKG_VERSION"));
        ServerConfig::new(capabilities).with_server_info(kakehi).with_instructions(
            "Each tool is a command of one daemon. A result that is an error says whether the \
             command may have run.",
        )
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let listed = self.list().await.map_err(|Failure { what, why, word, .. }| {
            ErrorData::internal_error(format!("{what}: {why}"), Some(json!({ "error": word })))
        })?;
        let tools = listed.offers.values().map(|offer| offer.tool.clone());
        Ok(ListToolsResult::with_all_items(tools.collect()))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let called = self.call(request, &context).await;
        Ok(called.unwrap_or_else(|failure| failed(&failure, None, "")).into())
    }

    /// A request whose parameters do not fit its method comes here too.
    async fn on_custom_request(
        &self,
        CustomRequest { method, .. }: CustomRequest,
        _: RequestContext<RoleServer>,
    ) -> Result<CustomResult, ErrorData> {
        if matches!(&*method, "initialize" | "tools/call" | "tools/list") {
            let why = format!("the parameters of `{method}` are invalid");
            return Err(ErrorData::invalid_params(why, None));
        }
        Err(ErrorData::new(ErrorCode::METHOD_NOT_FOUND, method, None))
    }
}

fn not_offered(name: &str) -> Failure {
    let (what, why) = (format!("`{name}` is not offered"), "the daemon was not asked");
    refused("not_offered", [&what, why, "call one of the listed tools"])
}

fn too_many() -> Failure {
    let why = format!("{MAX_CALLS} calls are running");
    refused("busy", ["too many calls at once", &why, "wait until a call has ended"])
}

fn refused(word: &'static str, parts: [&str; 3]) -> Failure {
    Failure { outcome: Outcome::Refused, ..Failure::unsent(exit::ERROR, word, parts) }
}
