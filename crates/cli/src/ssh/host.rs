//! The machine to log in to.

use std::{fmt, str::FromStr};

/// A machine, as `ssh://[user@]host[:port]` says.
///
/// Only the characters of names and addresses are allowed. ssh takes a host that starts with a
/// hyphen for an option, and its configuration may pass a host to a shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SshHost {
    pub(super) user: Option<String>,
    pub(super) host: String,
    pub(super) port: Option<u16>,
}

impl FromStr for SshHost {
    type Err = String;

    fn from_str(url: &str) -> Result<Self, String> {
        parse(url).map_err(|why| format!("{why}; expected ssh://[user@]host[:port]"))
    }
}

impl SshHost {
    /// The URL of the machine.
    pub(crate) fn url(&self) -> String {
        format!("ssh://{}", self.name())
    }

    /// The host, with the user and the port if they are set.
    pub(crate) fn name(&self) -> String {
        let user = self.user.as_ref().map_or_else(String::new, |user| format!("{user}@"));
        let port = self.port.map_or_else(String::new, |port| format!(":{port}"));
        if self.host.contains(':') {
            format!("{user}[{}]{port}", self.host)
        } else {
            format!("{user}{}{port}", self.host)
        }
    }
}

fn parse(url: &str) -> Result<SshHost, &'static str> {
    let authority = url.strip_prefix("ssh://").ok_or("the URL does not start with ssh://")?;
    let authority = authority.strip_suffix('/').unwrap_or(authority);
    if authority.contains(['/', '?', '#']) {
        return Err("the URL has a path; name the socket by --socket");
    }
    let (user, place) = match authority.rsplit_once('@') {
        Some((user, place)) => (Some(user), place),
        None => (None, authority),
    };
    if user.is_some_and(|user| user.contains(':')) {
        return Err("the URL has a password; ssh asks for it");
    }
    let (host, port) = match place.strip_prefix('[').map(|rest| rest.split_once(']')) {
        Some(Some((address, rest))) if is_address(address) => (address, port(rest)?),
        Some(_) => return Err("the text in brackets is not an address"),
        None if is_address(place) => return Err("an address with colons needs brackets"),
        None => match place.split_once(':') {
            Some((host, _)) => (host, port(place.get(host.len()..).unwrap_or_default())?),
            None => (place, None),
        },
    };
    let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b"._-:%".contains(&byte);
    if host.is_empty() || host.starts_with('-') || !host.bytes().all(is_host) {
        return Err("the host is not valid");
    }
    let is_user = |byte: u8| byte.is_ascii_alphanumeric() || b"._-+@".contains(&byte);
    let names_nobody =
        |user: &str| user.is_empty() || user.starts_with('-') || !user.bytes().all(is_user);
    if user.is_some_and(names_nobody) {
        return Err("it names no user");
    }
    Ok(SshHost { user: user.map(str::to_owned), host: host.to_owned(), port })
}

/// Of IP version 6, perhaps with a zone.
fn is_address(text: &str) -> bool {
    let (address, zone) = text.split_once('%').unwrap_or((text, "0"));
    let is_zone = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    address.parse::<std::net::Ipv6Addr>().is_ok() && !zone.is_empty() && zone.bytes().all(is_zone)
}

fn port(rest: &str) -> Result<Option<u16>, &'static str> {
    match rest.strip_prefix(':') {
        None if rest.is_empty() => Ok(None),
        // Rust would accept a sign.
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            digits.parse().ok().filter(|port| *port != 0).map(Some).ok_or("the port is not valid")
        }
        _ => Err("the port is not valid"),
    }
}

/// In the form of ssh.
impl fmt::Display for SshHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(user) = &self.user {
            write!(f, "{user}@")?;
        }
        f.write_str(&self.host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_a_user_a_host_and_a_port() {
        for (url, user, host, port) in [
            ("ssh://example.org", None, "example.org", None),
            ("ssh://example.org/", None, "example.org", None),
            ("ssh://hana@example.org:2222", Some("hana"), "example.org", Some(2222)),
            ("ssh://hana@corp@host_1", Some("hana@corp"), "host_1", None),
            ("ssh://[::1]:22", None, "::1", Some(22)),
            ("ssh://root@[fe80::1%eth0]", Some("root"), "fe80::1%eth0", None),
        ] {
            let found: SshHost = url.parse().unwrap();
            assert_eq!((found.user.as_deref(), &*found.host, found.port), (user, host, port));
            assert_eq!(found.url(), url.trim_end_matches('/'));
        }
    }

    #[test]
    fn an_invalid_port_or_address_is_named() {
        for (url, expected) in [
            ("ssh://::1", "an address with colons needs brackets"),
            ("ssh://root@fe80::1%eth0", "an address with colons needs brackets"),
            ("ssh://host:22:33", "the port is not valid"),
            ("ssh://[fe80::1", "the text in brackets is not an address"),
        ] {
            let error = url.parse::<SshHost>().unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn hosts_that_ssh_or_a_shell_could_misread_are_refused() {
        for url in [
            "example.org",
            "tcp://example.org",
            "ssh://",
            "ssh:///run/app.sock",
            "ssh://host/run/app.sock",
            "ssh://host?x",
            "ssh://-oProxyCommand=id",
            "ssh://[-oProxyCommand=id]",
            "ssh://-l@host",
            "ssh://@host",
            "ssh://hana:secret@host",
            "ssh://host:",
            "ssh://host:0",
            "ssh://host:+22",
            "ssh://host:65536",
            "ssh://host:22x",
            "ssh://::1",
            "ssh://[::1",
            "ssh://[::1]22",
            "ssh://ho st",
            "ssh://$(id)",
            "ssh://`id`@host",
            "ssh://ho\nst",
            "ssh://hôst",
        ] {
            let error = url.parse::<SshHost>().unwrap_err();
            assert!(error.ends_with("; expected ssh://[user@]host[:port]"), "{error}");
        }
    }
}
