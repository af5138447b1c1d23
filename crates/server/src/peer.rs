//! The peer of a connection, and the rule that admits it.

use std::{collections::HashSet, io, sync::Arc};

use tokio::net::UnixStream;

/// The process at the other end of a connection, as the kernel recorded it when the process connected.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
/// let (ours, _theirs) = tokio::net::UnixStream::pair()?;
/// let peer = kakehi_server::Peer::of(&ours)?;
/// assert_eq!(peer.pid, Some(std::process::id() as i32));
/// assert_eq!(peer, kakehi_server::Peer::own());
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The effective user id; [`NO_UID`](Self::NO_UID) for a remote peer.
    pub uid: u32,
    /// The effective primary group id; [`NO_UID`](Self::NO_UID) for a remote peer.
    pub gid: u32,
    /// The process id. `None` for a process in another pid namespace, or a remote peer.
    pub pid: Option<i32>,
    /// The identity of a remote peer, as its listener has verified it. `None` for a local process.
    pub identity: Option<Arc<Identity>>,
}

/// A caller on another machine: a name and groups of the listener's own configuration, not of the
/// operating system.
///
/// ```
/// use kakehi_server::{Identity, Peer};
///
/// let anna = Identity { name: "anna".into(), groups: vec!["sre".into()] };
/// assert!(anna.is_in("sre"));
/// let peer = Peer::remote(anna);
/// assert_eq!((peer.uid, peer.pid), (Peer::NO_UID, None));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// Unique among the names that the listener knows.
    pub name: String,
    /// The groups of this name.
    pub groups: Vec<String>,
}

impl Identity {
    /// Whether the identity is a member of `group`.
    #[must_use]
    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|of| of == group)
    }
}

impl Peer {
    /// The uid and gid of a remote peer: `(uid_t) -1`, which no process has.
    pub const NO_UID: u32 = u32::MAX;

    /// A peer on another machine. It has no uid, so it is never the server's owner, nor root.
    #[must_use]
    pub fn remote(identity: impl Into<Arc<Identity>>) -> Self {
        let identity = Some(identity.into());
        Self { uid: Self::NO_UID, gid: Self::NO_UID, pid: None, identity }
    }

    /// Reads the peer of a stream from the kernel.
    ///
    /// # Errors
    /// An error of the system call. Refuse a peer that cannot be identified.
    pub fn of(stream: &UnixStream) -> io::Result<Self> {
        let cred = stream.peer_cred()?;
        // A process of another pid namespace has no pid here, which the kernel writes as 0.
        let pid = cred.pid().filter(|pid| *pid != 0);
        Ok(Self { uid: cred.uid(), gid: cred.gid(), pid, identity: None })
    }

    /// Returns this process, for a stream that is not a socket.
    #[must_use]
    pub fn own() -> Self {
        Self {
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            pid: i32::try_from(std::process::id()).ok(),
            identity: None,
        }
    }
}

/// The users that may connect. Default: the server's own user and root.
///
/// Groups are compared with the peer's primary group, because [`Peer`] has no other. To admit all
/// members of a group, set the socket's group and mode 0660, and use
/// [`everybody`](Self::everybody).
///
/// ```
/// use kakehi_server::{Access, Peer};
///
/// let mut access = Access::default();
/// access.uids.insert(1234);
/// access.gids.insert(27);
/// assert!(access.allows(&Peer { uid: 1234, gid: 0, ..Peer::own() }));
/// assert!(access.allows(&Peer { uid: 99, gid: 27, ..Peer::own() }));
/// assert!(!access.allows(&Peer { uid: 99, gid: 99, ..Peer::own() }));
/// assert!(Access::everybody().allows(&Peer { uid: 99, gid: 99, ..Peer::own() }));
/// ```
#[derive(Clone, Debug)]
pub struct Access {
    /// Whether every peer that can open the socket may connect.
    pub everybody: bool,
    /// These users may connect.
    pub uids: HashSet<u32>,
    /// Peers with these primary groups may connect.
    pub gids: HashSet<u32>,
}

impl Access {
    /// Admits every peer that can open the socket. Its mode, owner and group are the only check.
    #[must_use]
    pub fn everybody() -> Self {
        Self { everybody: true, ..Self::default() }
    }

    /// Whether `peer` may connect. A remote peer may, because its listener has verified it.
    #[must_use]
    pub fn allows(&self, peer: &Peer) -> bool {
        self.everybody
            || peer.identity.is_some()
            || self.uids.contains(&peer.uid)
            || self.gids.contains(&peer.gid)
    }
}

impl Default for Access {
    fn default() -> Self {
        let uids = HashSet::from([0, rustix::process::geteuid().as_raw()]);
        Self { everybody: false, uids, gids: HashSet::new() }
    }
}
