//! The commands about runs, also those that are over: `runs`, `attach`, `logs`, `wait`, `rerun`.

use std::sync::Arc;

use kakehi_channel::Refusal;
use kakehi_server::{Answer, Context, Failure};
use kakehi_time::duration;

use super::{
    caller::Caller,
    content::{Content, Reason},
    follow::{Follower, Lost, Selection},
    requests::{Attach, Logs, Rerun, Run, Runs, Wait},
    runs::{Live, Outcome, Reader, Record, Stored},
    service::{Known, Reply, Service, cut, refusal},
    submit::reply,
};

/// The largest number of runs in one response, and in one request.
const MAX_RUNS: usize = 1000;
/// How many runs a message about an ambiguous id names.
const MAX_NAMED: usize = 10;

/// A run that a caller named.
struct Named {
    stored: Arc<Stored>,
    /// Its output while it goes on.
    live: Option<Arc<Live>>,
}

impl Service {
    /// Lists the runs that concern the caller, the newest last.
    pub(super) fn runs(&self, filter: &Runs, caller: &Caller, known: &Known) -> Answer<Content> {
        let all = self.0.store.all();
        let is_wanted = |record: &&Record| {
            is_shown(record, caller, known)
                && filter.job.as_ref().is_none_or(|job| *job == record.job)
                && filter.uid.is_none_or(|uid| uid == record.uid)
                && (!filter.failed || matches!(record.outcome, Outcome::Failed | Outcome::Unknown))
                && record.queued_ms >= filter.since_ms
        };
        let runs: Vec<_> = all.iter().map(|stored| &stored.record).filter(is_wanted).collect();
        let newest = runs.iter().skip(runs.len().saturating_sub(MAX_RUNS));
        let newest: Vec<_> = newest.map(|record| (*record).clone()).collect();
        let message = match newest.len() {
            1 => "1 run".to_owned(),
            count => format!("{count} runs"),
        };
        Answer::new(message).with_content(Content::Runs(newest))
    }

    /// Sends the kept output of a run, then the output as it comes, and answers with its result.
    pub(super) async fn attach(
        &self,
        Attach { run, output }: &Attach,
        caller: &Caller,
        known: &Known,
        context: &Context,
    ) -> Reply {
        let named = self.readable(run, caller, known)?;
        let _place = self.0.places.take(caller, false).map_err(busy)?;
        let mut reader = self.reader(&named);
        let selection = Selection { form: *output, ..Selection::default() };
        let sent = Follower::new(context, selection).follow(&mut reader, None).await;
        sent.map_err(lost)?;
        self.result(&named).await
    }

    /// Sends the kept output of a run, and with `follow` the output up to its end.
    pub(super) async fn logs(
        &self,
        logs: &Logs,
        caller: &Caller,
        known: &Known,
        context: &Context,
    ) -> Reply {
        let named = self.readable(&logs.run, caller, known)?;
        let _place = self.0.places.take(caller, false).map_err(busy)?;
        let selection = Selection {
            form: logs.output,
            timestamps: logs.timestamps,
            since_ms: logs.since_ms,
            tail: logs.tail,
            patience: None,
        };
        let mut follower = Follower::new(context, selection);
        follower.skip_to_tail(self.reader(&named)).await.map_err(lost)?;
        let mut reader = self.reader(&named);
        if logs.follow {
            follower.follow(&mut reader, None).await.map_err(lost)?;
        } else {
            follower.catch_up(&mut reader).await.map_err(lost)?;
        }
        let record = self.record(&named.stored.record.run).unwrap_or_else(|| named.stored.clone());
        let message = format!("the output of run {} of `{}`", record.record.run, record.record.job);
        Ok(Answer::new(message).with_content(Content::Runs(vec![record.record.clone()])))
    }

    /// Waits until all named runs are over, and reports each when it is.
    pub(super) async fn wait(
        &self,
        Wait { runs }: &Wait,
        caller: &Caller,
        known: &Known,
        context: &Context,
    ) -> Reply {
        if runs.len() > MAX_RUNS {
            let why = format!("{} runs in one request, more than {MAX_RUNS}", runs.len());
            return Err(refusal(Refusal::Other, why));
        }
        let _place = self.0.places.take(caller, false).map_err(busy)?;
        let named = runs.iter().map(|run| self.readable(run, caller, known));
        let named: Result<Vec<_>, _> = named.collect();
        let mut ended = vec![];
        for named in named? {
            let record = self.over(&named).await;
            let message = format!("{}: {}", record.run, record.message);
            let told = context.progress_with(message, &record).await;
            told.map_err(|error| lost(Lost::Unsendable(error)))?;
            ended.push(record);
        }
        let bad = ended.iter().filter(|record| record.outcome != Outcome::Ok).count();
        let count = ended.len();
        let records = Some(Content::Runs(ended));
        if bad == 0 {
            return Ok(Answer {
                message: format!("{count} of {count} runs succeeded"),
                content: records,
            });
        }
        let message = format!("{bad} of {count} runs failed");
        Err(Failure { message, content: records, refused: None })
    }

    /// Runs the job of an earlier run again, with the same arguments.
    pub(super) async fn rerun(
        &self,
        id: String,
        rerun: Rerun,
        caller: &Caller,
        known: &Known,
        context: &Context,
    ) -> Reply {
        let named = self.readable(&rerun.run, caller, known)?;
        let Stored { record, given } = &*named.stored;
        let Some(args) = given.clone() else {
            let why =
                "its arguments were not kept: it had secret ones, over 16 KiB, or a standard input";
            let run = &record.run;
            return Err(refusal(Refusal::Other, format!("cannot repeat run {run}: {why}")));
        };
        let Rerun { output, detach, no_wait, confirmed, .. } = rerun;
        let job = record.job.clone();
        let run = Run { job, args, output, detach, no_wait, confirmed, ..Run::default() };
        self.run(id, run, caller, known, context).await
    }

    /// Finds a run by its id or a unique prefix, whose output the caller may read. A run that the
    /// caller may not see does not exist for it.
    fn readable(
        &self,
        id: &str,
        caller: &Caller,
        known: &Known,
    ) -> Result<Named, Failure<Content>> {
        let mine = |stored: &Stored| is_reader(caller, &stored.record);
        let readable = self.0.store.find(id, MAX_NAMED, mine);
        let shown = |stored: &Stored| is_shown(&stored.record, caller, known);
        let exists = !readable.is_empty() || !self.0.store.find(id, 1, shown).is_empty();
        let id = cut(id);
        match readable.as_slice() {
            [stored] => {
                let live = self.0.registry.live(&stored.record.run);
                Ok(Named { stored: Arc::clone(stored), live })
            }
            [] if !exists => {
                let failure = refusal(Refusal::Other, format!("no run has the id {id:?}"));
                Err(failure.with_content(Reason::NoSuchRun.into()))
            }
            [] => Err(refusal(
                Refusal::Denied,
                format!("only root, the daemon's user and the user who started {id:?} may use it"),
            )),
            _ => {
                let runs: Vec<_> = readable.iter().map(|run| run.record.run.as_str()).collect();
                let runs = runs.join(", ");
                let more = if readable.len() == MAX_NAMED { " and maybe more" } else { "" };
                let why = format!("{id:?} is ambiguous: it stands for {runs}{more}");
                Err(refusal(Refusal::Other, why))
            }
        }
    }

    fn reader(&self, named: &Named) -> Reader {
        let kept = || Reader::kept(self.0.store.output(&named.stored.record.run));
        named.live.as_ref().map_or_else(kept, Reader::of)
    }

    /// Waits until a run is over, and returns its record.
    async fn over(&self, named: &Named) -> Record {
        if let Some(live) = &named.live {
            live.ended().await;
            // The store may have removed it since.
            if let Some(record) = live.record() {
                return record.clone();
            }
        }
        let stored = self.record(&named.stored.record.run);
        stored.unwrap_or_else(|| Arc::clone(&named.stored)).record.clone()
    }

    async fn result(&self, named: &Named) -> Reply {
        reply(&self.over(named).await)
    }

    fn record(&self, run: &str) -> Option<Arc<Stored>> {
        self.0.store.get(run)
    }
}

/// Whether the caller may read the output of a run.
fn is_reader(caller: &Caller, record: &Record) -> bool {
    caller.owns_server() || caller.has_started(record.uid, record.caller.as_deref())
}

/// Whether `runs` shows the run: also one of another user, if the caller may run the job.
fn is_shown(record: &Record, caller: &Caller, known: &Known) -> bool {
    let job = known.jobs.get(&record.job);
    is_reader(caller, record) || job.is_some_and(|job| caller.may_run(job))
}

fn busy(why: String) -> Failure<Content> {
    refusal(Refusal::Busy, why)
}

fn lost(why: Lost) -> Failure<Content> {
    let message = match why {
        Lost::Unsendable(error) => format!("a line cannot be sent: {error}"),
        Lost::Unreadable(error) => format!("the kept output cannot be read: {error}"),
        Lost::Stalled(limit) => format!("the client read no output for {}", duration(limit)),
    };
    Failure { message, content: None, refused: None }
}
