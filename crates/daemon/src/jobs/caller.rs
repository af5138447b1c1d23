//! Callers, and the jobs that they may run.

use std::{collections::BTreeSet, fmt, sync::Arc, time::Duration};

use kakehi_server::{Identity, Peer};
use rustix::process::geteuid;
use tokio::{sync::Semaphore, task::spawn_blocking, time::timeout};
use tracing::warn;

use super::{file::Jobs, job::Job};

/// Limits the threads that look up groups. A lookup can block on a directory server, and cannot be
/// cancelled.
static LOOKUPS: Semaphore = Semaphore::const_new(8);

/// Users and groups that may run a job, by number. Root may run every job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Allow {
    uids: BTreeSet<u32>,
    gids: BTreeSet<u32>,
    /// Names of remote callers, and `group:NAME`.
    remote: BTreeSet<String>,
}

/// The daemon's own user.
impl Default for Allow {
    fn default() -> Self {
        let uids = [0, geteuid().as_raw()].into();
        Self { uids, gids: BTreeSet::new(), remote: BTreeSet::new() }
    }
}

impl Allow {
    pub(crate) fn root() -> Self {
        Self { uids: [0].into(), gids: BTreeSet::new(), remote: BTreeSet::new() }
    }

    /// Returns `false` for an unknown user.
    #[must_use]
    pub(crate) fn add_user(&mut self, name: &str) -> bool {
        let user = uzers::get_user_by_name(name);
        user.map(|user| self.uids.insert(user.uid())).is_some()
    }

    /// Adds a remote caller, or `group:NAME`.
    pub(crate) fn add_remote(&mut self, name: &str) {
        self.remote.insert(name.to_owned());
    }

    fn allows_remote(&self, identity: &Identity) -> bool {
        self.remote.contains(&identity.name)
            || identity.groups.iter().any(|group| self.remote.contains(&format!("group:{group}")))
    }

    /// Returns `false` for an unknown group.
    #[must_use]
    pub(crate) fn add_group(&mut self, name: &str) -> bool {
        let group = uzers::get_group_by_name(name);
        group.map(|group| self.gids.insert(group.gid())).is_some()
    }
}

/// A peer and its groups.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) uid: u32,
    gids: Vec<u32>,
    /// Of a caller on another machine, which has no uid.
    remote: Option<Arc<Identity>>,
}

impl Caller {
    /// The socket only reports the primary group. The others are looked up if a job allows any
    /// group.
    pub(crate) async fn of(peer: Peer, jobs: &Jobs) -> Self {
        /// A lookup may ask a directory server.
        const PATIENCE: Duration = Duration::from_secs(5);
        let Peer { uid, gid, identity: remote, .. } = peer;
        if remote.is_some() {
            return Self { uid, gids: vec![], remote };
        }
        let mut gids = vec![gid];
        if uid != 0 && jobs.values().any(|job| !job.allow.gids.is_empty()) {
            let found = async {
                let lookup = LOOKUPS.acquire().await.ok()?;
                let look = move || (groups_of(uid), drop(lookup)).0;
                spawn_blocking(look).await.ok()
            };
            if let Ok(Some(found)) = timeout(PATIENCE, found).await {
                gids.extend(found);
            } else {
                warn!(
                    uid,
                    "cannot look up the groups of a caller in time: only its primary group counts"
                );
            }
        }
        Self { uid, gids, remote }
    }

    /// Whether this is root or the daemon's own user.
    pub(crate) fn owns_server(&self) -> bool {
        !self.is_remote() && (self.uid == 0 || self.uid == geteuid().as_raw())
    }

    /// Whether the caller is on another machine.
    pub(crate) fn is_remote(&self) -> bool {
        self.remote.is_some()
    }

    /// The name of a remote caller.
    pub(crate) fn remote_name(&self) -> Option<String> {
        self.remote.as_ref().map(|identity| identity.name.clone())
    }

    /// Whether this caller started the run with this `uid`, or with this name of a `remote` caller.
    pub(crate) fn has_started(&self, uid: u32, remote: Option<&str>) -> bool {
        match &self.remote {
            Some(identity) => remote == Some(identity.name.as_str()),
            None => remote.is_none() && self.uid == uid,
        }
    }

    pub(crate) fn may_run(&self, job: &Job) -> bool {
        if let Some(identity) = &self.remote {
            return job.allow.allows_remote(identity);
        }
        self.uid == 0
            || job.allow.uids.contains(&self.uid)
            || self.gids.iter().any(|gid| job.allow.gids.contains(gid))
    }

    /// Whether the caller may use this daemon at all.
    pub(crate) fn may_ask(&self, jobs: &Jobs) -> bool {
        self.owns_server() || jobs.values().any(|job| self.may_run(job))
    }
}

/// As in messages: `uid 1000`, or the quoted name of a remote caller.
impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.remote {
            Some(identity) => write!(f, "{:?}", identity.name),
            None => write!(f, "uid {}", self.uid),
        }
    }
}

fn groups_of(uid: u32) -> Vec<u32> {
    let Some(user) = uzers::get_user_by_uid(uid) else { return vec![] };
    let groups = uzers::get_user_groups(user.name(), user.primary_group_id()).unwrap_or_default();
    groups.iter().map(uzers::Group::gid).collect()
}
