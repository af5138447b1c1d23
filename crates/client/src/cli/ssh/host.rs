//! Where to log in.

use std::{fmt, str::FromStr};

/// A machine, as `ssh://[user@]host[:port]` says.
///
/// Only what a name or an address can hold is let through: ssh would take a host that begins with a
/// hyphen for an option, and its settings may hand a host to a shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SshHost {
    pub(super) user: Option<String>,
    pub(super) host: String,
    pub(super) port: Option<u16>,
}

impl FromStr for SshHost {
    type Err = String;

    fn from_str(url: &str) -> Result<Self, String> {
        parse(url).map_err(|why| format!("{why}; it is written ssh://[user@]host[:port]"))
    }
}

fn parse(url: &str) -> Result<SshHost, &'static str> {
    let authority = url.strip_prefix("ssh://").ok_or("only ssh is known")?;
    let authority = authority.strip_suffix('/').unwrap_or(authority);
    if authority.contains(['/', '?', '#']) {
        return Err("nothing may follow the host: give the socket there by --socket");
    }
    let (user, place) = match authority.rsplit_once('@') {
        Some((user, place)) => (Some(user), place),
        None => (None, authority),
    };
    if user.is_some_and(|user| user.contains(':')) {
        return Err("it may hold no password: ssh asks for it");
    }
    let (host, port) = match place.strip_prefix('[').map(|rest| rest.split_once(']')) {
        Some(Some((address, rest))) if is_address(address) => (address, port(rest)?),
        Some(_) => return Err("what is in brackets is no address"),
        None if is_address(place) => return Err("an address with colons stands in brackets"),
        None => match place.split_once(':') {
            Some((host, _)) => (host, port(place.get(host.len()..).unwrap_or_default())?),
            None => (place, None),
        },
    };
    let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b"._-:%".contains(&byte);
    if host.is_empty() || host.starts_with('-') || !host.bytes().all(is_host) {
        return Err("it names no host");
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
        // A sign is a number's to Rust.
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            digits.parse().ok().filter(|port| *port != 0).map(Some).ok_or("it has no such port")
        }
        _ => Err("it has no such port"),
    }
}

/// As one names it to ssh.
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
        }
    }

    #[test]
    fn what_is_wrong_with_a_port_or_an_address_is_said() {
        for (url, expected) in [
            ("ssh://::1", "an address with colons stands in brackets"),
            ("ssh://root@fe80::1%eth0", "an address with colons stands in brackets"),
            ("ssh://host:22:33", "it has no such port"),
            ("ssh://[fe80::1", "what is in brackets is no address"),
        ] {
            let error = url.parse::<SshHost>().unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn what_ssh_or_a_shell_would_take_for_something_else_is_refused() {
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
            assert!(error.ends_with("; it is written ssh://[user@]host[:port]"), "{error}");
        }
    }
}
