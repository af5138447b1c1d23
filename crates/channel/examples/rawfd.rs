//! A lesson in file descriptors: what stands behind a file, a listening socket and a channel.
//!
//! `cargo run -p kakehi-channel --example rawfd`

use std::{
    env,
    error::Error,
    fs::{self, File},
    os::{
        fd::{AsFd, AsRawFd},
        unix::net::UnixListener,
    },
    process,
};

use kakehi_channel::Channel;

fn main() -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let _guard = runtime.enter();

    let file = File::open(env::current_exe()?)?;
    show("a file (this program)", &file)?;

    let path = env::temp_dir().join(format!("kakehi-rawfd-{}.sock", process::id()));
    let listener = UnixListener::bind(&path)?;
    fs::remove_file(&path)?;
    show("a listening socket", &listener)?;

    let (left, right) = Channel::<(), ()>::pair()?;
    show("one end of a channel", &left)?;
    show("its other end", &right)?;
    Ok(())
}

/// Prints the number that the kernel knows it by, and what the kernel has behind that number.
/// The descriptor is only borrowed: it stays open, and is closed by its owner alone.
#[expect(clippy::print_stdout, reason = "what a program prints is its result")]
fn show(what: &str, owner: &impl AsFd) -> Result<(), Box<dyn Error>> {
    let raw = owner.as_fd().as_raw_fd();
    let behind = fs::read_link(format!("/proc/self/fd/{raw}"))?;
    println!("{what:<22} descriptor {raw:>2}  {}", behind.display());
    Ok(())
}
