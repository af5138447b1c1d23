//! `--hosts @FILE`: a file with one host a line.

use std::{fs, str::FromStr};

use super::ssh::SshHost;

/// The largest file of hosts, in bytes.
const LARGEST: u64 = 1024 * 1024;

/// The hosts of a file, in its order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hosts(pub(crate) Vec<SshHost>);

impl FromStr for Hosts {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let path = text.strip_prefix('@').ok_or("expected @ and the path of a file")?;
        let size =
            fs::metadata(path).map_err(|error| format!("cannot read {path}: {error}"))?.len();
        if size > LARGEST {
            return Err(format!("{path} has {size} bytes, more than {LARGEST}"));
        }
        let text = fs::read_to_string(path);
        parse(&text.map_err(|error| format!("cannot read {path}: {error}"))?)
            .map_err(|why| format!("{path}, {why}"))
    }
}

/// Each line is a host, with or without `ssh://`. A `#` starts a comment.
fn parse(text: &str) -> Result<Hosts, String> {
    let mut hosts = vec![];
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let url = if line.contains("://") { line.to_owned() } else { format!("ssh://{line}") };
        let host = url.parse().map_err(|why| format!("line {number}: {why}"))?;
        hosts.push(host);
    }
    if hosts.is_empty() {
        return Err("no line names a host".to_owned());
    }
    Ok(Hosts(hosts))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_blank_lines_are_no_hosts() {
        let text = "# all\n\nssh://a\n  deploy@b:2222  # second\n\t\n";
        let names: Vec<_> = parse(text).unwrap().0.iter().map(SshHost::name).collect();
        assert_eq!(names, ["a", "deploy@b:2222"]);
        assert_eq!(
            parse("a\n-b\n").unwrap_err().split(';').next(),
            Some("line 2: the host is not valid")
        );
        assert_eq!(parse("# none\n").unwrap_err(), "no line names a host");
        assert!("hosts".parse::<Hosts>().unwrap_err().contains('@'));
        assert!("@/nonexistent".parse::<Hosts>().unwrap_err().starts_with("cannot read /nonex"));
    }
}
