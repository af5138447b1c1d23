//! Who is on the other side, and who may be.

use std::{collections::HashSet, io};

use tokio::net::UnixStream;

/// Who is on the other side of a connection, as the kernel knew them when it was made.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
/// let (ours, _theirs) = tokio::net::UnixStream::pair()?;
/// let peer = kakehi_server::Peer::of(&ours)?;
/// assert_eq!(peer.pid, Some(std::process::id() as i32));
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The effective user id.
    pub uid: u32,
    /// The effective primary group id.
    pub gid: u32,
    /// The process id, where the system tells it.
    pub pid: Option<i32>,
}

impl Peer {
    /// Asks the kernel.
    ///
    /// # Errors
    /// What the system says. Who cannot be identified should be refused.
    pub fn of(stream: &UnixStream) -> io::Result<Self> {
        let cred = stream.peer_cred()?;
        // A process of another pid namespace has no pid here, which the kernel writes as 0.
        let pid = cred.pid().filter(|pid| *pid != 0);
        Ok(Self { uid: cred.uid(), gid: cred.gid(), pid })
    }

    /// This process itself: for streams that no kernel vouches for.
    ///
    /// ```
    /// assert_eq!(kakehi_server::Peer::own().pid, Some(std::process::id() as i32));
    /// ```
    #[must_use]
    pub fn own() -> Self {
        Self {
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            pid: i32::try_from(std::process::id()).ok(),
        }
    }
}

/// Who may connect: by default the server's own user, and root.
///
/// Groups are matched against the peer's primary group, for [`Peer`] knows no other. To
/// admit the members of a group, give the socket that group and mode 0660, and allow
/// [everybody](Self::everybody) who can open it.
///
/// ```
/// use kakehi_server::{Access, Peer};
///
/// let access = Access::default().uid(1234).gid(27);
/// assert!(access.allows(&Peer { uid: 1234, gid: 0, pid: None }));
/// assert!(access.allows(&Peer { uid: 99, gid: 27, pid: None }));
/// assert!(!access.allows(&Peer { uid: 99, gid: 99, pid: None }));
/// ```
#[derive(Clone, Debug)]
pub struct Access {
    everybody: bool,
    uids: HashSet<u32>,
    gids: HashSet<u32>,
}

impl Access {
    /// Whoever can open the socket: its mode, owner and group decide alone.
    ///
    /// ```
    /// use kakehi_server::{Access, Peer};
    ///
    /// assert!(Access::everybody().allows(&Peer { uid: 99, gid: 99, pid: None }));
    /// ```
    #[must_use]
    pub fn everybody() -> Self {
        Self { everybody: true, ..Self::default() }
    }

    /// Admits this user too.
    #[must_use]
    pub fn uid(mut self, uid: u32) -> Self {
        self.uids.insert(uid);
        self
    }

    /// Admits those of this primary group too.
    #[must_use]
    pub fn gid(mut self, gid: u32) -> Self {
        self.gids.insert(gid);
        self
    }

    /// Whether `peer` may connect.
    #[must_use]
    pub fn allows(&self, peer: &Peer) -> bool {
        self.everybody || self.uids.contains(&peer.uid) || self.gids.contains(&peer.gid)
    }
}

impl Default for Access {
    fn default() -> Self {
        let uids = HashSet::from([0, rustix::process::geteuid().as_raw()]);
        Self { everybody: false, uids, gids: HashSet::new() }
    }
}
