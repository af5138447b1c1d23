//! The `server` binary: named jobs for local users.

use std::process::ExitCode;

/// The C library's allocator keeps what thousands of clients took, held by whatever lies behind it.
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    #[cfg(feature = "jemalloc")]
    give_back_soon();
    kakehi_server::binary::run()
}

/// Free memory goes back to the system after half a second rather than ten, also while nothing
/// else happens. To be called before there are threads: each takes its settings when it starts.
#[cfg(feature = "jemalloc")]
fn give_back_soon() {
    use tikv_jemalloc_ctl::{Access, AsName};

    const MILLISECONDS: isize = 500;
    for name in ["arenas.dirty_decay_ms\0", "arena.0.dirty_decay_ms\0"] {
        // It only costs memory if this cannot be set.
        let _ = name.name().write(MILLISECONDS);
    }
    let _ = tikv_jemalloc_ctl::background_thread::write(true);
}
