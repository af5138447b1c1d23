//! The state of one request, from its plan to the end of its handler.

use std::{sync::Arc, time::Duration};

use kakehi_channel::Request;
use kakehi_server::Limits;
use tokio::time::Instant;

use crate::{
    link::{Link, Side},
    plan::{Command, End, Plan},
};

pub(crate) struct Run {
    pub(crate) plan: Arc<Plan>,
    pub(crate) stage: Stage,
    /// The link on which the server read it.
    pub(crate) link: Option<usize>,
    pub(crate) started: Option<Instant>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) deadline: Option<Duration>,
    pub(crate) ended: Option<Instant>,
    /// How many messages the handler has sent, and their bytes.
    pub(crate) said: u64,
    pub(crate) sent: usize,
    /// Whether its final response was written.
    pub(crate) is_answered: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The server has not read the whole request.
    Unread,
    Read,
    Started,
    Returned(End),
    /// The handler was dropped.
    Cancelled,
}

impl Run {
    pub(crate) fn new(plan: Plan) -> Self {
        Self {
            plan: Arc::new(plan),
            stage: Stage::Unread,
            link: None,
            started: None,
            timeout: None,
            deadline: None,
            ended: None,
            said: 0,
            sent: 0,
            is_answered: false,
        }
    }

    /// Records that the server has read the whole request.
    pub(crate) fn read(&mut self, link: usize, request: &Request<Command>) -> Result<(), String> {
        if self.stage != Stage::Unread {
            return Err("a request was read twice".into());
        }
        self.stage = Stage::Read;
        self.link = Some(link);
        self.timeout = request.timeout();
        self.deadline = request.deadline();
        Ok(())
    }

    pub(crate) fn waits(&self) -> bool {
        matches!(self.stage, Stage::Read | Stage::Started)
    }

    /// Records that its handler is called.
    pub(crate) fn start(&mut self) -> Result<(), String> {
        if self.stage != Stage::Read {
            return Err(format!("a handler starts for a request in the stage {:?}", self.stage));
        }
        if self.plan.is_denied {
            return Err("a handler starts for a request that was denied".into());
        }
        self.stage = Stage::Started;
        self.started = Some(Instant::now());
        Ok(())
    }

    /// Records that its handler has returned or was dropped.
    pub(crate) fn end(&mut self, stage: Stage) {
        self.stage = stage;
        self.ended = Some(Instant::now());
    }

    /// Checks that the handler ended soon after the disconnect of its client or its deadline.
    pub(crate) fn has_ended_in_time(&self, link: &Link, limits: &Limits) -> Result<(), String> {
        let cleanup = self.plan.listens().map_or(Duration::ZERO, |_| limits.cleanup_time);
        if let Some(left) = link.left(Side::Client)
            && !self.plan.outlives()
            && left.elapsed() > Duration::from_secs(1) + cleanup
        {
            return Err(format!("it ran {:?} after its client's disconnect", left.elapsed()));
        }
        let deadline = self.deadline.into_iter().chain(limits.max_deadline).min();
        if let (Some(started), Some(deadline)) = (self.started, deadline)
            && started.elapsed() > deadline.saturating_add(cleanup + Duration::from_millis(5))
        {
            return Err(format!("it ran {:?}; its deadline was {deadline:?}", started.elapsed()));
        }
        Ok(())
    }

    /// Checks that `outcome`, which the caller received, is true. `None` is success.
    pub(crate) fn end_as(&self, outcome: Option<kakehi_client::Outcome>) -> Result<(), String> {
        use kakehi_client::Outcome::{Done, Failed, NotSent, Refused, Unknown};
        let stage = self.stage;
        let is_true = match outcome {
            None | Some(Done) => stage == Stage::Returned(End::Ok),
            Some(NotSent) => stage == Stage::Unread,
            Some(Refused) => match stage {
                Stage::Unread | Stage::Read => true,
                other => other == Stage::Returned(End::Refuse),
            },
            // A handler with a token can return OK although the server has cancelled it.
            Some(Failed) if stage == Stage::Returned(End::Ok) => self.plan.listens().is_some(),
            Some(Failed) => !matches!(stage, Stage::Unread | Stage::Read),
            Some(Unknown) => true,
        };
        if is_true {
            return Ok(());
        }
        Err(format!("a client received {outcome:?} for a request in the stage {stage:?}"))
    }
}
