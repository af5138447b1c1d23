//! Permissions on the path and on the socket.

use std::{
    fs,
    os::unix::{
        fs::{MetadataExt, chown},
        net::UnixListener,
    },
};

use super::*;

#[test]
fn a_directory_without_search_permission_is_named_with_a_remedy() {
    let home = Home::new();
    fs::create_dir_all(home.path("private/kakehi")).unwrap();
    let _listener = UnixListener::bind(home.path("private/kakehi/app.sock")).unwrap();
    let path = home.path("private/kakehi/app.sock");
    let directory = home.path("private");
    let group = fs::metadata(&directory).unwrap().gid();
    let what = format!("no search permission on {}", directory.display());

    // Neither the owner nor in the group.
    chmod(&directory, 0o700);
    let Some(report) = examine_as_nobody(&path, NOBODY) else { return };
    let finding = problem(&report, Check::Directory, Problem::Permission, &what);
    let (because, so) = (why(finding), remedy(finding));
    assert!(because.starts_with("its mode is 0700 (rwx------); "), "{finding}");
    assert!(because.contains("(uid 65534) is neither its owner root (uid 0)"), "{finding}");
    assert!(because.ends_with(", which gives ---; x is needed"), "{finding}");
    assert!(so.contains("sudo -u root"), "{finding}");
    assert!(so.ends_with(&format!("chmod o+x {}", directory.display())), "{finding}");

    // In the group: the bits for others do not apply.
    chmod(&directory, 0o701);
    let report = examine_as_nobody(&path, group).unwrap();
    let finding = problem(&report, Check::Directory, Problem::Permission, &what);
    assert!(why(finding).contains("is in its group"), "{finding}");
    assert!(remedy(finding).ends_with(&format!("chmod g+x {}", directory.display())), "{finding}");
    let report = examine_as_nobody(&path, NOBODY).unwrap();
    let next = format!("no write permission on {}", path.display());
    problem(&report, Check::Permission, Problem::Permission, &next);

    // The owner, and then a user who could join the group.
    chown(&directory, Some(NOBODY), Some(1)).unwrap();
    chmod(&directory, 0o077);
    let report = examine_as_nobody(&path, NOBODY).unwrap();
    let finding = problem(&report, Check::Directory, Problem::Permission, &what);
    assert!(why(finding).contains("is its owner, which gives"), "{finding}");
    assert_eq!(remedy(finding), format!("chmod u+x {}", directory.display()));
    chown(&directory, Some(0), Some(1)).unwrap();
    chmod(&directory, 0o710);
    let report = examine_as_nobody(&path, NOBODY).unwrap();
    let finding = problem(&report, Check::Directory, Problem::Permission, &what);
    assert!(remedy(finding).contains("sudo usermod -aG "), "{finding}");
}

#[test]
fn a_socket_without_write_permission_is_reported() {
    let home = Home::new();
    let path = home.path("app.sock");
    let _listener = UnixListener::bind(&path).unwrap();
    for (mode, rwx, has) in [(0o600, "rw-------", "---"), (0o755, "rwxr-xr-x", "r-x")] {
        chmod(&path, mode);
        let Some(report) = examine_as_nobody(&path, NOBODY) else { return };
        let what = format!("no write permission on {}", path.display());
        let finding = problem(&report, Check::Permission, Problem::Permission, &what);
        let because =
            format!("its mode is {mode:04o} ({rwx}); nobody (uid 65534) is neither its owner");
        assert!(why(finding).starts_with(&because), "{finding}");
        let needs = format!("which gives {has}; w is needed");
        assert!(why(finding).ends_with(&needs), "{finding}");
        assert!(remedy(finding).contains("sudo -u root"), "{finding}");
    }
}
