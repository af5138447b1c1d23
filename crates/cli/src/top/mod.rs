//! `kakehi top`: a live screen of a server.
//!
//! The server is asked at a fixed interval, one request after the other. Memory is bounded: the newest
//! state of the server, 256 samples for each sparkline, and the durations of 64 jobs.

mod draw;
mod history;
mod keys;
mod model;
pub(crate) mod screen;
mod signals;
mod source;
mod status;

use std::{
    env,
    io::{self, IsTerminal},
    process::ExitStatus,
    time::{Duration, Instant},
};

use clap::Args;
use crossterm::event::{Event as Input, EventStream, KeyEventKind};
use futures::StreamExt;
use tokio::{
    process::{Child, Command},
    sync::mpsc,
    time::sleep,
};

use self::{
    draw::Look,
    keys::Action,
    screen::Screen,
    signals::{Event, Signals},
    source::Source,
};
pub(crate) use self::{
    model::Model,
    source::{Update, WAITING},
};
#[cfg(feature = "fleet")]
pub(crate) use self::{
    source::Snapshot,
    status::{Request, Status, clean},
};
use super::{
    args::Options,
    exit,
    failure::Failure,
    output::{Output, Paint, Pipe, is_dumb},
    suspend::{has_job_control, stop_group},
    view::Format,
};

/// How often the screen is drawn without any event, so that times go on.
const TICK: Duration = Duration::from_millis(500);

/// The options of `top`.
#[derive(Debug, Args)]
pub(crate) struct TopFlags {
    /// How often the server is asked, at least 100ms [default: 1s]
    #[arg(short = 'n', long, value_name = "DURATION", value_parser = interval)]
    #[arg(default_value = "1s", hide_default_value = true)]
    pub(crate) interval: Duration,
}

fn interval(text: &str) -> Result<Duration, &'static str> {
    let parsed = humantime::parse_duration(text).ok();
    let parsed = parsed.filter(|interval| *interval >= Duration::from_millis(100));
    parsed.ok_or("expected a duration of at least 100ms, such as 2s")
}

/// Shows the screen until the user quits. Returns the exit status.
///
/// # Errors
/// There is no terminal, or no server answers at the start.
pub(crate) async fn run(flags: TopFlags, options: &Options) -> Result<u8, Failure> {
    check(options)?;
    super::one_host_only(options, "top")?;
    let mut source = Source::find(options)?;
    let (place, arguments) = source.place(options);
    let first = source.status().await?;
    let (updates, received) = mpsc::channel(WAITING);
    let (orders, ordered) = mpsc::channel(WAITING);
    let model = Model::new(&place, options.is_local());
    let asking = async {
        tokio::join!(
            source::poll(source, flags.interval, updates.clone(), first),
            source::cancel(options, ordered, updates.clone())
        );
    };
    show(model, options, (orders, received), arguments, asking).await
}

/// Shows `model` until the user quits. `asking` sends the updates and obeys the orders.
///
/// # Errors
/// The terminal cannot be used.
pub(crate) async fn show(
    model: Model,
    options: &Options,
    (orders, updates): (mpsc::Sender<String>, mpsc::Receiver<Update>),
    arguments: Vec<std::ffi::OsString>,
    asking: impl Future<Output = ()>,
) -> Result<u8, Failure> {
    let gone =
        |error: io::Error| Failure::usage("cannot use the terminal", &error.to_string(), TRY);
    let mut signals = Signals::new().map_err(|error| Failure::system(&error))?;
    let mut screen = Screen::enter().map_err(gone)?;
    let look = Look::new(Paint::new(options.color, true) != Paint::NONE);
    let top = Top { model, look, page: 1, orders, arguments };
    let code = tokio::select! {
        code = top.show(&mut screen, &mut signals, updates) => code,
        () = asking => Ok(exit::OK),
    };
    screen.leave();
    code.map_err(gone)
}

const TRY: &str = "see `kakehi runs` or `kakehi status`";

/// Whether a screen can be drawn.
///
/// # Errors
/// Standard output is no terminal, or JSON is asked for.
pub(crate) fn check(options: &Options) -> Result<(), Failure> {
    let what = "`top` needs a terminal";
    if !io::stdout().is_terminal() {
        return Err(Failure::usage(what, "standard output is not a terminal", TRY));
    }
    if is_dumb() {
        return Err(Failure::usage(what, "TERM is `dumb`: the cursor cannot be moved", TRY));
    }
    if options.json || options.output != Format::Table {
        let why = "--json and -o do not apply to a screen";
        return Err(Failure::usage("`top` draws a screen", why, TRY));
    }
    Ok(())
}

/// The screen and what belongs to it.
struct Top {
    model: Model,
    look: Look,
    /// How many rows the table has room for.
    page: usize,
    /// The runs to cancel.
    orders: mpsc::Sender<String>,
    /// The options that name the same server, for `attach`.
    arguments: Vec<std::ffi::OsString>,
}

impl Top {
    /// Returns the exit status, once the user quits.
    async fn show(
        mut self,
        screen: &mut Screen,
        signals: &mut Signals,
        mut updates: mpsc::Receiver<Update>,
    ) -> io::Result<u8> {
        let mut inputs = EventStream::new();
        loop {
            screen.draw(|frame| {
                self.page = draw::draw(frame, &mut self.model, self.look, Instant::now());
            })?;
            let action = tokio::select! {
                biased;
                event = signals.next() => match event {
                    Event::End(code) => return Ok(code),
                    Event::Interrupt => Action::Interrupt,
                    Event::Stop => Action::Stop,
                    Event::Continue => {
                        screen.resume()?;
                        Action::Nothing
                    }
                },
                // Inputs count before the terminal takes the frame.
                action = self.next(screen, &mut inputs, &mut updates) => action?,
            };
            match action {
                Action::Nothing => {}
                Action::Redraw => screen.redraw()?,
                Action::Quit => return Ok(exit::OK),
                Action::Interrupt => return Ok(exit::INTERRUPTED),
                Action::Stop => suspend(screen, signals).await?,
                Action::Cancel(id) => self.cancel(id),
                Action::Attach(id) => {
                    drop(inputs);
                    if let Some(code) = self.attach(&id, screen, signals).await? {
                        return Ok(code);
                    }
                    inputs = EventStream::new();
                }
            }
        }
    }

    /// Writes the frame, and waits for an input, an update or the next tick.
    async fn next(
        &mut self,
        screen: &mut Screen,
        inputs: &mut EventStream,
        updates: &mut mpsc::Receiver<Update>,
    ) -> io::Result<Action> {
        screen.flush().await?;
        tokio::select! {
            input = inputs.next() => match input {
                Some(Ok(Input::Key(key))) => Ok(keys::press(&mut self.model, key, self.page)),
                Some(Ok(_)) => Ok(Action::Nothing),
                Some(Err(error)) => Err(error),
                // The terminal is gone.
                None => Err(io::ErrorKind::UnexpectedEof.into()),
            },
            Some(update) = updates.recv() => {
                match update {
                    Update::Status(snapshot) => self.model.update(*snapshot),
                    Update::Failed(failure) => self.model.fail(&failure, Instant::now()),
                    Update::Said(text) => self.model.say(&text, Instant::now()),
                }
                Ok(Action::Nothing)
            }
            () = sleep(TICK) => Ok(Action::Nothing),
        }
    }

    fn cancel(&mut self, id: String) {
        let now = Instant::now();
        let text = format!("cancelling {id}");
        match self.orders.try_send(id) {
            Ok(()) => self.model.say(&text, now),
            Err(_) => self.model.say("other cancellations go on: try again", now),
        }
    }

    /// Lends the screen to `kakehi attach`. Returns the exit status, if a signal ends this program.
    async fn attach(
        &mut self,
        id: &str,
        screen: &mut Screen,
        signals: &mut Signals,
    ) -> io::Result<Option<u8>> {
        Screen::lend()?;
        let mut command = Command::new(env::current_exe()?);
        command.args(&self.arguments).args(["attach", "--", id]).kill_on_drop(true);
        let ended = match command.spawn() {
            Ok(child) => watch(child, signals).await?,
            Err(error) => {
                self.model.say(&format!("cannot attach: {error}"), Instant::now());
                screen.resume()?;
                return Ok(None);
            }
        };
        let code = match ended {
            Ended::By(code) => return Ok(Some(code)),
            Ended::Left => None,
            Ended::Itself(status) => pause(status, signals).await?,
        };
        screen.resume()?;
        Ok(code)
    }
}

/// How a program that uses the terminal ended.
enum Ended {
    Itself(ExitStatus),
    /// After Ctrl-C or Ctrl-\.
    Left,
    /// By a signal that ends this program too, with this exit status.
    By(u8),
}

/// Waits for the end of a program that uses the terminal.
async fn watch(mut child: Child, signals: &mut Signals) -> io::Result<Ended> {
    let mut is_left = false;
    loop {
        tokio::select! {
            biased;
            event = signals.next() => match event {
                Event::End(code) => return Ok(Ended::By(code)),
                // The terminal sends it to the child too, which leaves the run.
                Event::Interrupt => is_left = true,
                Event::Continue | Event::Stop => {}
            },
            status = child.wait() => {
                let status = status?;
                return Ok(if is_left { Ended::Left } else { Ended::Itself(status) });
            }
        }
    }
}

/// Waits for a key, so that the last output can be read. Returns the exit status for a signal.
async fn pause(status: ExitStatus, signals: &mut Signals) -> io::Result<Option<u8>> {
    let code = status.code().map_or_else(String::new, |code| format!(", status {code}"));
    let text = format!("\r\n-- attach has ended{code}: press a key to return to top --");
    Pipe::stdout().try_write(text.as_bytes());
    screen::take_keys()?;
    let mut inputs = EventStream::new();
    loop {
        tokio::select! {
            input = inputs.next() => match input {
                Some(Ok(Input::Key(key))) if key.kind != KeyEventKind::Release => return Ok(None),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error),
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            },
            event = signals.next() => match event {
                Event::End(code) => return Ok(Some(code)),
                Event::Interrupt => return Ok(None),
                Event::Stop | Event::Continue => {}
            },
        }
    }
}

/// Gives the terminal back to the shell until the process is continued.
async fn suspend(screen: &mut Screen, signals: &mut Signals) -> io::Result<()> {
    if !has_job_control() {
        return Ok(());
    }
    screen.leave();
    stop_group();
    signals.continued().await;
    screen.resume()
}

/// Shows the screen, or reports the failure. Returns the exit status.
pub(crate) async fn main(flags: TopFlags, options: &Options, output: &mut Output) -> u8 {
    run(flags, options).await.unwrap_or_else(|failure| output.end(&failure))
}
