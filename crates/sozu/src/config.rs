//! A client's settings from Sōzu's own configuration file.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    time::Duration,
};

use sozu_command_lib::config::{Config, ConfigBuilder, FileConfig};
use tokio::task::spawn_blocking;

use crate::SozuBuilder;

/// How much later than Sōzu itself the client gives up.
const MARGIN: Duration = Duration::from_secs(5);

impl SozuBuilder {
    /// See [`Sozu::from_config`](crate::Sozu::from_config).
    pub(crate) async fn from_config(file: PathBuf) -> Result<Self, ConfigError> {
        let read = spawn_blocking({
            let file = file.clone();
            move || settings(&file)
        });
        let settings = read.await.unwrap_or_else(|gone| Err(io::Error::from(gone).into()));
        settings.map_err(|source| ConfigError { file, source })
    }
}

fn settings(file: &Path) -> Result<SozuBuilder, Source> {
    // Sōzu takes the socket's folder from the file's, which `config.toml` alone would not have.
    let file = std::path::absolute(file)?;
    let file = file.to_str().ok_or("the path is not UTF-8, which Sōzu's own reader needs")?;
    let config = ConfigBuilder::new(FileConfig::load_from_path(file)?, file)
        .without_backend_resolution()
        .into_config()?;
    let max = usize::try_from(config.max_command_buffer_size).unwrap_or(usize::MAX);
    Ok(SozuBuilder::new(config.command_socket_path()?)
        .deadline(deadline(&config))
        .max_command_buffer_size(max))
}

/// Long enough to hear what Sōzu says of a worker that does not answer, and no shorter than its
/// command line waits.
fn deadline(config: &Config) -> Duration {
    let worker = Duration::from_secs(config.worker_timeout.into());
    worker.saturating_add(MARGIN).max(Duration::from_millis(config.ctl_command_timeout))
}

type Source = Box<dyn std::error::Error + Send + Sync>;

/// Why a configuration file of Sōzu's could not be used.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let error = kakehi_sozu::Sozu::from_config("/nowhere/config.toml").await.unwrap_err();
/// assert!(error.to_string().starts_with("cannot use /nowhere/config.toml: "));
/// # }
/// ```
#[derive(Debug)]
pub struct ConfigError {
    file: PathBuf,
    source: Source,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot use {}: {}", self.file.display(), self.source)
    }
}

impl std::error::Error for ConfigError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&*self.source)
    }
}
