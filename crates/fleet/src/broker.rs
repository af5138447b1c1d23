//! The connection to the broker, and its reports.

#[cfg(not(feature = "tls"))]
mod no_tls;

use std::{fmt, path::PathBuf};

use async_nats::{ConnectOptions, Event, HeaderMap, ServerAddr, ServerError, Subject};
use bytes::Bytes;
use futures::FutureExt;
use tokio::sync::broadcast;

use crate::{NameError, link::Link, names::Subjects};

/// How many reports of a client's connection may wait to be read; older ones are lost. A node reads
/// none, so its queue has the smallest size.
const REPORTS: usize = 64;

/// How many messages of each subscription of a node may wait. More are lost, which does no harm: a
/// client sends a request again that has no accept, and each control message has the complete state.
/// The default of the client of NATS is 65,536.
const WAITING: usize = 4096;

/// Where the broker is, and how to log in.
///
/// ```
/// use kakehi_fleet::Broker;
///
/// let broker = Broker::new("nats://10.0.0.1:4222,nats://10.0.0.2:4222")
///     .credentials("/etc/kakehi/node.creds")
///     .prefix("kakehi");
/// # let _ = broker;
/// ```
#[derive(Clone, Debug)]
#[must_use = "it connects once it is given to a node or a fleet"]
pub struct Broker {
    url: String,
    credentials: Option<PathBuf>,
    nkey: Option<PathBuf>,
    root_certificates: Option<PathBuf>,
    prefix: String,
    inbox_prefix: Option<String>,
    #[cfg(any(test, feature = "testing"))]
    scripted: Option<crate::scripted::Link>,
}

impl Broker {
    /// One URL, or several separated by commas: `nats://HOST:PORT` or `tls://HOST:PORT`, with
    /// `USER:PASSWORD@` before the host if the broker asks for it. The port is 4222 by default.
    /// `tls://` needs the feature `tls`.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            credentials: None,
            nkey: None,
            root_certificates: None,
            prefix: "kakehi".to_owned(),
            inbox_prefix: None,
            #[cfg(any(test, feature = "testing"))]
            scripted: None,
        }
    }

    /// A broker that a script plays. Public for fuzzing only; not covered by semver.
    #[cfg(any(test, feature = "testing"))]
    #[doc(hidden)]
    pub fn scripted(link: crate::scripted::Link) -> Self {
        Self { scripted: Some(link), ..Self::new("") }
    }

    /// Logs in by a credentials file of NATS.
    pub fn credentials(mut self, path: impl Into<PathBuf>) -> Self {
        self.credentials = Some(path.into());
        self
    }

    /// Logs in by the seed of an nkey in this file, `SU…`.
    pub fn nkey(mut self, path: impl Into<PathBuf>) -> Self {
        self.nkey = Some(path.into());
        self
    }

    /// Trusts the certificates of this file too, for `tls://`.
    pub fn root_certificates(mut self, path: impl Into<PathBuf>) -> Self {
        self.root_certificates = Some(path.into());
        self
    }

    /// The prefix of all subjects; `kakehi` by default.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// The prefix of the client's inboxes, for permissions; `_INBOX` by default.
    pub fn inbox_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.inbox_prefix = Some(prefix.into());
        self
    }

    /// Connects. A node waits for the broker, and reads no reports.
    pub(crate) async fn connect(self, name: &str, is_node: bool) -> Result<Connection, FleetError> {
        let subjects = Subjects::new(&self.prefix).map_err(|error| FleetError::prefix(&error))?;
        #[cfg(any(test, feature = "testing"))]
        if let Some(link) = self.scripted {
            let reports = link.reports();
            return Ok(Connection { link: Link::Scripted(link), subjects, reports });
        }
        let failed = |why: &dyn fmt::Display| {
            FleetError(format!("cannot connect to {}: {why}", self.shown_url()))
        };
        let (reports, _) = broadcast::channel(if is_node { 1 } else { REPORTS });
        let sender = reports.clone();
        // Subjects are made of names, which were checked, or came from the broker.
        let mut options = ConnectOptions::new().name(name).skip_subject_validation(true);
        options = options.event_callback(move |event| {
            let sender = sender.clone();
            async move {
                report(&sender, event);
            }
        });
        if is_node {
            // `connect` returns at once, and a task of the client connects.
            options = options.retry_on_initial_connect().subscription_capacity(WAITING);
        }
        if let Some(prefix) = &self.inbox_prefix {
            Subjects::new(prefix).map_err(|error| FleetError::prefix(&error))?;
            options = options.custom_inbox_prefix(prefix);
        }
        if let Some(path) = &self.credentials {
            options = options
                .credentials_file(path)
                .await
                .map_err(|error| FleetError(format!("credentials {}: {error}", path.display())))?;
        }
        if let Some(path) = &self.nkey {
            let seed = std::fs::read_to_string(path)
                .map_err(|error| FleetError(format!("nkey {}: {error}", path.display())))?;
            options = options.nkey(seed.trim().to_owned());
        }
        if let Some(path) = self.root_certificates.clone() {
            // The client of NATS names neither the file nor the reason.
            std::fs::metadata(&path)
                .map_err(|error| FleetError(format!("certificates {}: {error}", path.display())))?;
            options = options.add_root_certificates(path);
        }
        let urls: Result<Vec<ServerAddr>, _> =
            self.url.split(',').map(|url| url.trim().parse()).collect();
        let urls = urls.map_err(|error| failed(&error))?;
        #[cfg(not(feature = "tls"))]
        {
            if urls.iter().any(ServerAddr::tls_required) {
                return Err(failed(&no_tls::REASON));
            }
            options = options.tls_client_config(no_tls::config().map_err(|error| failed(&error))?);
        }
        if let Some((user, password)) = urls.iter().find_map(login) {
            options = options.user_and_password(user, password);
        }
        // Neither is part of this future, of which a process with many nodes has as many at once.
        let connected = if is_node {
            options.connect(urls).now_or_never().ok_or_else(|| failed(&"it takes a connection"))?
        } else {
            Box::pin(options.connect(urls)).await
        };
        let client = connected.map_err(|error| failed(&error))?;
        Ok(Connection { link: Link::Nats(client), subjects, reports })
    }

    /// Without a password.
    fn shown_url(&self) -> String {
        let shown = |url: &str| {
            // The library takes this scheme if there is none.
            let url = url.trim();
            let (scheme, rest) = url.split_once("://").unwrap_or(("nats", url));
            let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
            format!("{scheme}://{host}")
        };
        self.url.split(',').map(shown).collect::<Vec<_>>().join(",")
    }
}

impl From<&str> for Broker {
    fn from(url: &str) -> Self {
        Self::new(url)
    }
}

impl From<String> for Broker {
    fn from(url: String) -> Self {
        Self::new(url)
    }
}

/// Why a node or a fleet cannot work: no connection to the broker, a bad name, a missing file.
#[derive(Debug)]
pub struct FleetError(String);

impl FleetError {
    fn prefix(error: &NameError) -> Self {
        Self(format!("the prefix of subjects: {error}"))
    }

    pub(crate) fn subscribe(error: &dyn fmt::Display) -> Self {
        Self(format!("cannot subscribe: {error}"))
    }

    pub(crate) fn secret(error: &dyn fmt::Display) -> Self {
        Self(format!("cannot make a secret: {error}"))
    }

    pub(crate) fn journal(error: &dyn fmt::Display) -> Self {
        Self(error.to_string())
    }

    pub(crate) fn command(error: &dyn fmt::Display) -> Self {
        Self(format!("cannot encode the command: {error}"))
    }

    pub(crate) fn name(error: &NameError) -> Self {
        Self(error.to_string())
    }
}

impl fmt::Display for FleetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for FleetError {}

/// One connection to the broker. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Connection {
    pub(crate) link: Link,
    pub(crate) subjects: Subjects,
    reports: broadcast::Sender<Report>,
}

/// Events of the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Report {
    Reconnected,
    /// The broker does not permit to publish or to subscribe; its message names the subject.
    Denied(String),
}

impl Connection {
    pub(crate) fn is_connected(&self) -> bool {
        self.link.is_connected()
    }

    pub(crate) fn reports(&self) -> broadcast::Receiver<Report> {
        self.reports.subscribe()
    }

    /// Text that no other process has.
    pub(crate) fn unique(&self) -> String {
        let inbox = self.link.new_inbox();
        inbox.rsplit('.').next().unwrap_or_default().to_owned()
    }

    /// Publishes a message. It fails if the connection is closed, or if the message is too large.
    pub(crate) async fn publish(
        &self,
        subject: Subject,
        reply: Option<Subject>,
        headers: HeaderMap,
        payload: Bytes,
    ) -> Result<(), String> {
        self.link.publish(subject, reply, headers, payload).await
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("prefix", &self.subjects.prefix())
            .field("is_connected", &self.is_connected())
            .finish_non_exhaustive()
    }
}

/// The library takes none from the URL by itself.
fn login(url: &ServerAddr) -> Option<(String, String)> {
    Some((url.username()?.to_owned(), url.password().unwrap_or_default().to_owned()))
}

fn report(sender: &broadcast::Sender<Report>, event: Event) {
    let report = match event {
        Event::Connected => {
            tracing::info!("connected to the broker");
            Report::Reconnected
        }
        Event::ServerError(ServerError::Other(text)) if is_denial(&text) => Report::Denied(text),
        Event::Disconnected => {
            tracing::warn!("the connection to the broker is lost");
            return;
        }
        event => {
            tracing::debug!(%event, "the connection to the broker");
            return;
        }
    };
    // Fails if there is no receiver, because no request runs.
    let _ = sender.send(report);
}

fn is_denial(text: &str) -> bool {
    text.to_ascii_lowercase().contains("permissions violation")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use futures::StreamExt;

    use super::*;

    #[test]
    fn a_password_is_not_shown() {
        let broker = Broker::new("nats://anna:secret@a:4222,nats://b");
        assert_eq!(broker.shown_url(), "nats://a:4222,nats://b");
        let broker = Broker::new("anna:secret@a, tls://anna:p@ss@b,c:4222");
        assert_eq!(broker.shown_url(), "nats://a,tls://b,nats://c:4222");
    }

    #[cfg(not(feature = "tls"))]
    #[tokio::test]
    async fn without_the_feature_a_url_with_tls_is_an_error_that_names_it() {
        for url in ["tls://127.0.0.1:1", "nats://127.0.0.1:1,tls://127.0.0.1:1"] {
            for is_node in [false, true] {
                let connected = Broker::new(url).connect("x", is_node).await;
                let error = connected.unwrap_err().to_string();
                assert!(error.contains("the feature `tls`"), "{error}");
            }
        }
    }

    #[cfg(not(feature = "tls"))]
    #[tokio::test]
    async fn without_the_feature_a_broker_that_asks_for_tls_is_an_error_that_names_it() {
        use tokio::io::AsyncWriteExt;

        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("nats://{}", listener.local_addr().unwrap());
        let info = "INFO {\"server_id\":\"S\",\"version\":\"2.9.10\",\"proto\":1,\
            \"host\":\"127.0.0.1\",\"port\":4222,\"max_payload\":1048576,\"tls_required\":true}\r\n";
        let broker = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(info.as_bytes()).await.unwrap();
            stream
        });
        let error = Broker::new(url).connect("x", false).await.unwrap_err().to_string();
        assert!(error.contains("the feature `tls`"), "{error}");
        broker.await.unwrap();
    }

    /// A broker that sends so many messages to the first subscription, and nothing else.
    async fn flood(listener: tokio::net::TcpListener, count: usize) -> tokio::net::TcpStream {
        use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

        let (mut stream, _) = listener.accept().await.unwrap();
        let info = "INFO {\"server_id\":\"S\",\"version\":\"2.9.10\",\"proto\":1,\
            \"host\":\"127.0.0.1\",\"port\":4222,\"max_payload\":1048576}\r\n";
        stream.write_all(info.as_bytes()).await.unwrap();
        let mut stream = BufReader::new(stream);
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).await.unwrap();
            if line.starts_with("PING") {
                stream.get_mut().write_all(b"PONG\r\n").await.unwrap();
            }
            if line.starts_with("SUB") {
                let number = line.split_whitespace().last().unwrap();
                let messages = format!("MSG x {number} 0\r\n\r\n").repeat(count);
                stream.get_mut().write_all(messages.as_bytes()).await.unwrap();
                return stream.into_inner();
            }
        }
    }

    #[tokio::test]
    async fn a_node_that_does_not_read_keeps_a_bounded_number_of_messages() {
        const SENT: usize = WAITING + 100;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("nats://{}", listener.local_addr().unwrap());
        let broker = tokio::spawn(flood(listener, SENT));
        let connection = Broker::new(url).connect("x", true).await.unwrap();
        let mut messages = connection.link.subscribe("x", None).await.unwrap();
        let Link::Nats(client) = &connection.link else { panic!("a real connection") };
        while client.statistics().in_messages.load(Ordering::Relaxed) < SENT as u64 {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        let waiting = tokio::task::unconstrained(async {
            std::iter::from_fn(|| messages.next().now_or_never().flatten()).count()
        });
        assert_eq!(waiting.await, WAITING);
        drop(broker.await.unwrap());
    }

    #[tokio::test]
    async fn a_bad_prefix_is_refused_before_connecting() {
        let broker = Broker::new("nats://127.0.0.1:1").prefix("a.*");
        let error = broker.connect("x", false).await.unwrap_err().to_string();
        assert!(error.contains("the prefix of subjects: \"*\" is not a name"), "{error}");
    }
}
