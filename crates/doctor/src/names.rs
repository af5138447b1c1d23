//! Names of users and groups.

use std::fs;

/// Returns the name and the number, or the number alone.
///
/// Reads only the files: a directory service such as LDAP may not respond.
pub(super) fn user(uid: u32) -> String {
    match find("/etc/passwd", uid) {
        Some(name) => format!("{name} (uid {uid})"),
        None => format!("uid {uid}"),
    }
}

/// The same for a group.
pub(super) fn group(gid: u32) -> String {
    match group_name(gid) {
        Some(name) => format!("{name} (gid {gid})"),
        None => format!("gid {gid}"),
    }
}

pub(super) fn group_name(gid: u32) -> Option<String> {
    find("/etc/group", gid)
}

/// The user as an argument of `sudo -u`.
pub(super) fn sudo_user(uid: u32) -> String {
    find("/etc/passwd", uid).unwrap_or_else(|| format!("'#{uid}'"))
}

/// Finds the name of a number in a file of lines `name:password:number:...`. A name that a shell
/// would need quoted counts as missing.
fn find(file: &str, number: u32) -> Option<String> {
    let lines = fs::read_to_string(file).ok()?;
    let (name, _) = lines.lines().filter_map(entry).find(|(_, found)| *found == number)?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (name.bytes().all(is_plain) && !name.starts_with('-')).then(|| name.to_owned())
}

fn entry(line: &str) -> Option<(&str, u32)> {
    let mut fields = line.split(':');
    let name = fields.next()?;
    Some((name, fields.nth(1)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_the_files() {
        assert_eq!(user(0), "root (uid 0)");
        assert_eq!(group(0), "root (gid 0)");
        assert_eq!(user(4_000_000_000), "uid 4000000000");
        assert_eq!(sudo_user(4_000_000_000), "'#4000000000'");
        assert_eq!(entry("nobody:x:65534:65534:nobody:/:/bin/false"), Some(("nobody", 65534)));
        assert_eq!(entry("+::::::"), None);
    }
}
