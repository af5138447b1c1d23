//! `kakehi mcp`: the commands of a server as tools of the Model Context Protocol, over standard
//! input and output.

mod call;
mod jobs;
mod offer;
mod progress;
mod result;
mod schema;
mod server;
mod target;
mod text;

use std::time::Duration;

use clap::Args;
use rmcp::{service::serve_server, transport::async_rw::AsyncRwTransport};
use tokio::io::{stdin, stdout};

use self::{server::Tools, target::Target};
use crate::{
    args::{Options, duration},
    exit,
    failure::Failure,
};

/// The longest message that is read, in bytes: a request of the server has at most as many.
const MAX_MESSAGE: usize = 1024 * 1024;

/// Which commands are offered to agents.
#[derive(Debug, Args)]
pub(crate) struct McpArguments {
    /// Offer only these commands
    #[arg(long, value_name = "NAME", num_args = 1.., value_delimiter = ',')]
    allow: Vec<String>,
    /// Offer only commands that change nothing
    #[arg(long)]
    read_only: bool,
    /// Time between two signs of life of a call [default: 15s]
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "15s")]
    #[arg(hide_default_value = true)]
    keep_alive: Duration,
}

/// Serves until the client closes standard input.
pub(crate) async fn run(arguments: McpArguments, options: &Options) -> Result<u8, Failure> {
    let tools = Tools::new(Target::new(options)?, arguments);
    let calls = tools.calls();
    let transport = AsyncRwTransport::new_server(stdin(), stdout());
    let transport = transport.with_max_line_length(MAX_MESSAGE);
    let failed = |why: String| {
        let remedy = "start `kakehi mcp` from a client of the Model Context Protocol";
        Failure::usage("the session has failed", &why, remedy)
    };
    let serving = serve_server(tools, transport).await;
    let session = serving.map_err(|error| failed(error.to_string()))?;
    let ended = session.waiting().await;
    calls.end().await;
    ended.map_err(|error| failed(error.to_string()))?;
    Ok(exit::OK)
}
