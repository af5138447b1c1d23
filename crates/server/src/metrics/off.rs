//! Without the feature `metrics`: nothing, at no cost.

use kakehi_channel::Refusal;

use crate::shared::End;

pub(crate) fn describe() {}

pub(crate) fn refused_connection(_: Refusal) {}

#[derive(Clone, Debug)]
pub(crate) struct Command;

#[derive(Debug)]
pub(crate) struct Running;

#[allow(clippy::unused_self, reason = "the feature needs it")]
impl Command {
    pub(crate) fn other() -> Self {
        Self
    }

    pub(crate) fn named(_: Option<&str>) -> Self {
        Self
    }

    pub(crate) fn received(&self, _: u64) {}

    pub(crate) fn sent(&self, _: u64) {}

    pub(crate) fn start(&self) -> Running {
        Running
    }

    pub(crate) fn count(&self, _: End) {}
}

#[allow(clippy::unused_self, reason = "the feature needs it")]
impl Running {
    pub(crate) fn end(&self, _: End, _: Option<&'static str>) {}
}
