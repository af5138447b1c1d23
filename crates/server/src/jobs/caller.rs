//! Who asks, and what they may run.

use std::{collections::BTreeSet, time::Duration};

use kakehi_server::Peer;
use rustix::process::geteuid;
use tokio::{sync::Semaphore, task::spawn_blocking, time::timeout};
use tracing::warn;

use super::{file::Jobs, job::Job};

/// How many threads may look for groups at once: nothing ends one that has to wait for a server
/// far away.
static LOOKUPS: Semaphore = Semaphore::const_new(8);

/// Users and groups that may run a job, by number. Root always may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Allow {
    uids: BTreeSet<u32>,
    gids: BTreeSet<u32>,
}

/// The server's own user.
impl Default for Allow {
    fn default() -> Self {
        Self { uids: [0, geteuid().as_raw()].into(), gids: BTreeSet::new() }
    }
}

impl Allow {
    pub(crate) fn root() -> Self {
        Self { uids: [0].into(), gids: BTreeSet::new() }
    }

    /// `false`: there is no such user.
    #[must_use]
    pub(crate) fn add_user(&mut self, name: &str) -> bool {
        let user = uzers::get_user_by_name(name);
        user.map(|user| self.uids.insert(user.uid())).is_some()
    }

    /// `false`: there is no such group.
    #[must_use]
    pub(crate) fn add_group(&mut self, name: &str) -> bool {
        let group = uzers::get_group_by_name(name);
        group.map(|group| self.gids.insert(group.gid())).is_some()
    }
}

/// A peer and the groups that it is in.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) uid: u32,
    gids: Vec<u32>,
}

impl Caller {
    /// The socket tells the primary group only; the others are looked up if a job asks for any.
    pub(crate) async fn of(peer: Peer, jobs: &Jobs) -> Self {
        /// Names may come from a server far away.
        const PATIENCE: Duration = Duration::from_secs(5);
        let Peer { uid, gid, .. } = peer;
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
                warn!(uid, "the groups of a caller cannot be told in time: its primary one counts");
            }
        }
        Self { uid, gids }
    }

    /// Root, and the server's own user.
    pub(crate) fn owns_server(&self) -> bool {
        self.uid == 0 || self.uid == geteuid().as_raw()
    }

    pub(crate) fn may_run(&self, job: &Job) -> bool {
        self.uid == 0
            || job.allow.uids.contains(&self.uid)
            || self.gids.iter().any(|gid| job.allow.gids.contains(gid))
    }

    /// Whether this server has anything to do with them.
    pub(crate) fn may_ask(&self, jobs: &Jobs) -> bool {
        self.owns_server() || jobs.values().any(|job| self.may_run(job))
    }
}

fn groups_of(uid: u32) -> Vec<u32> {
    let Some(user) = uzers::get_user_by_uid(uid) else { return vec![] };
    let groups = uzers::get_user_groups(user.name(), user.primary_group_id()).unwrap_or_default();
    groups.iter().map(uzers::Group::gid).collect()
}
