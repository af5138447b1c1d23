//! The peer of a connection, and the rule that admits it.

use std::{collections::HashSet, io, sync::Arc};

use tokio::net::UnixStream;

/// The process at the other end of a connection, as the kernel recorded it when the process connected.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
/// let (ours, _theirs) = tokio::net::UnixStream::pair()?;
/// let peer = kakehi_socket::Peer::of(&ours)?;
/// assert_eq!(peer.pid, Some(std::process::id() as i32));
/// assert_eq!(peer, kakehi_socket::Peer::own());
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The effective user id; [`u32::MAX`], which no process has, for a remote peer.
    pub uid: u32,
    /// The effective primary group id; [`u32::MAX`] for a remote peer.
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
/// use kakehi_socket::{Identity, Peer};
///
/// let anna = Identity { name: "anna".into(), groups: vec!["sre".into()] };
/// let peer = Peer::remote(anna);
/// assert_eq!((peer.uid, peer.pid), (u32::MAX, None));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// Unique among the names that the listener knows.
    pub name: String,
    /// The groups of this name.
    pub groups: Vec<String>,
}

impl Peer {
    /// A peer on another machine. It has no uid, so it is never the server's owner, nor root.
    #[must_use]
    pub fn remote(identity: impl Into<Arc<Identity>>) -> Self {
        let identity = Some(identity.into());
        Self { uid: u32::MAX, gid: u32::MAX, pid: None, identity }
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
/// [`everybody`](field@Self::everybody).
///
/// ```
/// use kakehi_socket::{Access, Peer};
///
/// let mut access = Access::default();
/// access.uids.insert(1234);
/// access.gids.insert(27);
/// ```
#[derive(Clone, Debug)]
pub struct Access {
    /// Whether every peer that can open the socket may connect. Its mode, owner and group are then
    /// the only check.
    pub everybody: bool,
    /// These users may connect.
    pub uids: HashSet<u32>,
    /// Peers with these primary groups may connect.
    pub gids: HashSet<u32>,
}

impl Access {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(uid: u32, gid: u32) -> Peer {
        Peer { uid, gid, ..Peer::own() }
    }

    #[test]
    fn access_depends_on_the_user_the_primary_group_and_the_listener() {
        let mut access = Access::default();
        access.uids.insert(4321);
        access.gids.insert(27);
        for allowed in [peer(4321, 9), peer(9, 27), peer(0, 9)] {
            assert!(access.allows(&allowed), "{allowed:?}");
        }
        for refused in [peer(9, 9), peer(27, 4321)] {
            assert!(!access.allows(&refused), "{refused:?}");
        }
        assert!(Access { everybody: true, ..access }.allows(&peer(9, 9)));
        // The listener has verified a remote peer; a uid says nothing about it.
        let anna = Identity { name: "anna".into(), groups: vec![] };
        assert!(Access::default().allows(&Peer::remote(anna)));
        assert!(!Access::default().allows(&peer(u32::MAX, u32::MAX)));
    }
}
