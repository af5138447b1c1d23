//! Named jobs: declared in a file, run by those whom the file allows, watched as they run.

mod caller;
mod child;
mod command;
mod content;
mod control;
mod family;
mod file;
mod job;
mod lines;
mod output;
mod processes;
mod registry;
mod run;
mod service;
mod slots;

pub(crate) use file::{load, parse};
pub(crate) use job::Job;
pub(crate) use service::Service;
