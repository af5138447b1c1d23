//! The `server` binary: named jobs for local users.

use std::process::ExitCode;

/// The C library's allocator keeps what thousands of clients took, held by whatever lies behind it.
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    #[cfg(feature = "jemalloc")]
    memory::give_back_soon();
    kakehi_server::binary::run(|| {
        #[cfg(feature = "jemalloc")]
        memory::share();
    })
}

/// What the allocator is told. It only costs memory if that fails.
#[cfg(feature = "jemalloc")]
mod memory {
    use tikv_jemalloc_ctl::{Access, AsName, background_thread};

    /// Free memory goes back to the system after half a second rather than ten, also while nothing
    /// else happens. To be called before there are threads: each takes its settings when it starts.
    pub(crate) fn give_back_soon() {
        const MILLISECONDS: isize = 500;
        for name in ["arenas.dirty_decay_ms\0", "arena.0.dirty_decay_ms\0"] {
            let _ = name.name().write(MILLISECONDS);
        }
        let _ = background_thread::write(true);
    }

    /// The calling thread takes memory from where the first one does. What a large request grew
    /// out of is free for any other then, rather than for those of the same thread.
    pub(crate) fn share() {
        const FIRST: u32 = 0;
        let _ = "thread.arena\0".name().write(FIRST);
    }
}
