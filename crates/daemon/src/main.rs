//! The program `kakehid`: named jobs for local users.

use std::process::ExitCode;

/// Unlike the allocator of the C library, it returns memory after thousands of clients left.
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    #[cfg(feature = "jemalloc")]
    memory::give_back_soon();
    kakehid::run(|| {
        #[cfg(feature = "jemalloc")]
        memory::share();
    })
}

/// Settings of the allocator. If one fails, the daemon only uses more memory.
#[cfg(feature = "jemalloc")]
mod memory {
    use tikv_jemalloc_ctl::{Access, AsName, background_thread};

    /// Returns free memory to the system after 0.5 s instead of 10 s, also while the daemon is
    /// idle. Call it before the first thread starts: a thread copies the settings at its start.
    pub(crate) fn give_back_soon() {
        const MILLISECONDS: isize = 500;
        for name in ["arenas.dirty_decay_ms\0", "arena.0.dirty_decay_ms\0"] {
            let _ = name.name().write(MILLISECONDS);
        }
        let _ = background_thread::write(true);
    }

    /// Lets the calling thread share the arena of the first thread. Memory that one thread frees
    /// is then available to all.
    pub(crate) fn share() {
        const FIRST: u32 = 0;
        let _ = "thread.arena\0".name().write(FIRST);
    }
}
