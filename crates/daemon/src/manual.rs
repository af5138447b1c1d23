//! The manual page.

use std::io;

use clap::CommandFactory;
use clap_mangen::{
    Man,
    roff::{Roff, bold, roman},
};

use crate::arguments::Arguments;

/// The manual page, which `kakehid --man` prints.
pub(crate) fn page() -> Vec<u8> {
    let mut page = vec![];
    // Writing into memory cannot fail.
    let _ = write(&mut page);
    page
}

fn write(page: &mut dyn io::Write) -> io::Result<()> {
    let man = Man::new(Arguments::command().after_long_help(""))
        .title("KAKEHID")
        .section("8")
        .date(DATE)
        .manual("System Administration");
    man.render_title(page)?;
    man.render_name_section(page)?;
    man.render_synopsis_section(page)?;
    man.render_description_section(page)?;
    man.render_options_section(page)?;
    for (title, rows) in SECTIONS {
        table(title, rows).to_writer(page)?;
    }
    let mut roff = Roff::new();
    roff.control("SH", ["NOTES"]);
    for (index, note) in NOTES.into_iter().enumerate() {
        if index > 0 {
            roff.control("PP", []);
        }
        roff.text([roman(note)]);
    }
    roff.control("SH", ["SEE ALSO"]).text([bold("kakehi"), roman("(1), systemd.exec(5)")]);
    roff.to_writer(page)
}

/// The date of the page.
const DATE: &str = "2026-11-29";

type Rows = &'static [(&'static str, &'static str)];

const SECTIONS: [(&str, Rows); 4] = [
    (
        "SIGNALS",
        &[
            (
                "TERM, INT",
                "Shut down. New and queued runs are refused. Running ones may continue for --drain, \
                 then they get SIGTERM, and SIGKILL 5 s later. A second signal kills all at once.",
            ),
            ("HUP", "Reload the jobs. If a file has an error, the previous jobs stay in use."),
        ],
    ),
    (
        "ENVIRONMENT",
        &[
            (
                "RUST_LOG",
                "The levels and targets to log to standard error. Default: `info,async_nats=warn`.",
            ),
            ("KAKEHI_SOCKET", "The socket to listen on, if --socket is absent."),
            ("XDG_RUNTIME_DIR", "The folder of the user's own socket: see FILES."),
            ("STATE_DIRECTORY", "The folder of records and output, if --state is absent."),
            ("LISTEN_FDS, LISTEN_PID", "A socket that systemd passes. It replaces --socket."),
            (
                "NOTIFY_SOCKET, WATCHDOG_USEC",
                "The socket and the interval of the notifications to systemd.",
            ),
        ],
    ),
    (
        "FILES",
        &[
            ("/etc/kakehi/jobs.d/*.toml", "The jobs of the packaged service."),
            ("/run/kakehi/kakehi.sock", "The socket of the packaged service, and of root."),
            ("$XDG_RUNTIME_DIR/kakehi/kakehi.sock", "The socket of another user."),
            ("/var/lib/kakehid", "Records and output of runs of the packaged service."),
        ],
    ),
    (
        "EXIT STATUS",
        &[
            ("0", "A request or a signal stopped the daemon, or --check found no problem."),
            ("1", "The daemon could not start, or the jobs file has an error."),
            ("2", "Wrong usage."),
            ("130, 143", "A second SIGINT or SIGTERM ended the daemon at once."),
        ],
    ),
];

const NOTES: [&str; 3] = [
    "A TIME is written as 500ms, 10s or 1m30s; 0 means no limit. A size is in bytes.",
    "Jobs run as the user of the daemon, under the same restrictions. The packaged service has no \
     capabilities and a read-only file system. `systemctl edit kakehid` grants more.",
    "The group `kakehi` may connect to the packaged service. Each job declares the users and groups \
     that may run it.",
];

fn table(title: &str, rows: Rows) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", [title]);
    for (name, meaning) in rows {
        roff.control("TP", []).text([bold(*name)]).text([roman(*meaning)]);
    }
    roff
}
