//! The `client` binary: asks a server over its Unix socket.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run()
}
