//! The `kakehi` binary: asks a server over its Unix socket.

use std::process::ExitCode;

fn main() -> ExitCode {
    kakehi_cli::run()
}
