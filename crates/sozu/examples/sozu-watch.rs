//! Status of a Sōzu's workers, then what happens to it as it happens: until Ctrl-C.
//!
//! ```sh
//! cargo run --example sozu-watch -- /etc/sozu/config.toml
//! ```
//! A file ending in `.toml` is Sōzu's configuration, any other path its command socket.

use std::{
    io::{self, Write},
    path::Path,
    time::SystemTime,
};

use kakehi_sozu::{
    Notice, Reconnect, Sozu, SozuBuilder,
    command::{self, Event, request::RequestType, response_content::ContentType},
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("usage: sozu-watch CONFIG.toml|SOCKET")?;
    let settings = if Path::new(&path).extension().is_some_and(|extension| extension == "toml") {
        Sozu::from_config(path).await?
    } else {
        SozuBuilder::new(path)
    };
    let sozu = settings.reconnect(Reconnect::default()).build();
    let mut events = sozu.events();
    loop {
        match events.next().await {
            Notice::Subscribed => show_workers(&sozu).await?,
            Notice::Gap(time) => {
                say(&format!("back after {time:.1?}: what happened meanwhile is not known"))?;
                show_workers(&sozu).await?;
            }
            Notice::Event(event) => say(&describe(&event))?,
            Notice::Lost(error) => say(&format!("no events until it is back: {error}"))?,
            Notice::Ended(response) => say(&format!("ended by Sōzu: {}", response.message))?,
            Notice::Malformed(error) => say(&format!("not understood: {error}"))?,
            _ => {}
        }
    }
}

async fn show_workers(sozu: &Sozu) -> io::Result<()> {
    let answer = match sozu.request(RequestType::Status(command::Status {})).await {
        Ok(answer) => answer,
        Err(error) => return say(&format!("no status: {error} (outcome: {})", error.outcome())),
    };
    let Some(ContentType::Workers(workers)) = answer.content else {
        return say("a status without workers");
    };
    for worker in workers.vec {
        let state = worker.run_state().as_str_name();
        say(&format!("worker {} has pid {} and is {state}", worker.id, worker.pid))?;
    }
    Ok(())
}

fn describe(event: &Event) -> String {
    // Names are untrusted input, so they are escaped for the terminal.
    let named = |what, name: &Option<String>| name.as_ref().map(|name| format!("{what} {name:?}"));
    [
        Some(event.kind().as_str_name().to_owned()),
        named("cluster", &event.cluster_id),
        named("backend", &event.backend_id),
        event.address.map(|address| format!("at {address}")),
    ]
    .into_iter()
    .flatten()
    .collect::<Vec<_>>()
    .join(" ")
}

/// One line with the time of day, UTC.
fn say(text: &str) -> io::Result<()> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let second = now.as_secs() % 86_400;
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    writeln!(io::stdout(), "{hour:02}:{minute:02}:{second:02} {text}")
}
