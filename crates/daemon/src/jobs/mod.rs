//! Named jobs: declared in a file, run by those whom the file allows, watched as they run.

mod caller;
mod cgroups;
mod child;
mod chunk;
mod command;
mod commands;
mod content;
mod control;
mod descendants;
mod file;
mod follow;
mod history;
mod ids;
mod job;
mod leftovers;
mod lines;
mod output;
mod places;
mod processes;
mod progress;
mod registry;
mod requests;
mod run;
mod runs;
mod service;
mod slots;
mod submit;

pub(crate) use file::{FleetFile, load, load_fleet, parse};
pub(crate) use job::Job;
pub(crate) use places::Bounds;
pub(crate) use run::KILL_AFTER;
pub(crate) use service::{Service, Settings, StartError};
