//! The terminal while `top` uses it: raw mode and the alternate screen. Whatever ends the program,
//! the terminal is as before.

use std::{
    cell::RefCell,
    fs::File,
    io,
    os::fd::{AsFd, BorrowedFd},
    panic,
    rc::Rc,
    sync::{
        Mutex, Once, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use crossterm::{
    cursor::{Hide, MoveTo, Show},
    queue,
    style::ResetColor,
    terminal::{
        Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode,
        enable_raw_mode,
    },
};
use ratatui::{Frame, Terminal, backend::CrosstermBackend};
use rustix::{
    io::Errno,
    stdio::stdin,
    termios::{OptionalActions, SpecialCodeIndex, Termios, isatty, tcgetattr, tcsetattr},
};

use crate::output::Pipe;

/// Whether the terminal is in use.
static IS_ENTERED: AtomicBool = AtomicBool::new(false);

/// The modes of the terminal while another program uses it.
static LENT: Mutex<Option<Termios>> = Mutex::new(None);

/// The screen. The terminal is restored when it is left, dropped, or when the program panics.
pub(crate) struct Screen {
    terminal: Terminal<CrosstermBackend<Bytes>>,
    bytes: Bytes,
}

/// The bytes of one frame, before the terminal takes them.
#[derive(Clone, Default)]
struct Bytes(Rc<RefCell<Vec<u8>>>);

impl io::Write for Bytes {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Screen {
    /// Enters the screen.
    ///
    /// # Errors
    /// There is no terminal.
    pub(crate) fn enter() -> io::Result<Self> {
        restore_on_panic();
        let bytes = Bytes::default();
        let terminal = Terminal::new(CrosstermBackend::new(bytes.clone()))?;
        let mut screen = Self { terminal, bytes };
        screen.resume()?;
        Ok(screen)
    }

    /// Uses the terminal again, after [`leave`](Self::leave) or [`lend`](Self::lend).
    ///
    /// # Errors
    /// The terminal is gone.
    pub(crate) fn resume(&mut self) -> io::Result<()> {
        // First, because the kernel stops a process in the background here.
        take_keys()?;
        IS_ENTERED.store(true, Ordering::SeqCst);
        queue!(self.bytes, EnterAlternateScreen, Hide)?;
        self.redraw()
    }

    /// Leaves an empty screen to another program, with the usual modes. Ctrl-Z does nothing: once
    /// continued, the other program could write before this one has its screen again.
    ///
    /// # Errors
    /// The terminal is gone.
    pub(crate) fn lend() -> io::Result<()> {
        disable_raw_mode()?;
        with_terminal(|terminal| {
            let mut modes = tcgetattr(terminal)?;
            *LENT.lock().unwrap_or_else(PoisonError::into_inner) = Some(modes.clone());
            // 0 disables the character.
            modes.special_codes[SpecialCodeIndex::VSUSP] = 0;
            tcsetattr(terminal, OptionalActions::Now, &modes)
        })?;
        let mut text = vec![];
        queue!(text, ResetColor, Clear(ClearType::All), MoveTo(0, 0), Show)?;
        Pipe::stdout().try_write(&text);
        Ok(())
    }

    /// Restores the terminal.
    pub(crate) fn leave(&mut self) {
        self.bytes.0.borrow_mut().clear();
        restore();
    }

    /// Draws everything anew at the next frame.
    ///
    /// # Errors
    /// The terminal is gone.
    pub(crate) fn redraw(&mut self) -> io::Result<()> {
        queue!(self.bytes, Clear(ClearType::All))?;
        // Its own way to clear asks the terminal for the cursor, and would read the user's keys.
        self.terminal = Terminal::new(CrosstermBackend::new(self.bytes.clone()))?;
        Ok(())
    }

    /// Makes the next frame. [`flush`](Self::flush) writes it.
    ///
    /// # Errors
    /// The terminal is gone.
    pub(crate) fn draw(&mut self, draw: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        self.terminal.draw(draw).map(|_| ())
    }

    /// Writes the frame, in a way that a stopped terminal does not block. Cancel safe.
    ///
    /// # Errors
    /// The terminal is gone.
    pub(crate) async fn flush(&mut self) -> io::Result<()> {
        loop {
            let bytes = self.bytes.0.borrow().clone();
            if bytes.is_empty() {
                return Ok(());
            }
            let written = Pipe::stdout().write(&bytes).await?;
            self.bytes.0.borrow_mut().drain(..written.min(bytes.len()));
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore();
    }
}

/// Restores the terminal, once.
fn restore() {
    if !IS_ENTERED.swap(false, Ordering::SeqCst) {
        return;
    }
    let mut text = vec![];
    // Writing into memory cannot fail.
    let _ = queue!(text, ResetColor, Show, LeaveAlternateScreen);
    Pipe::stdout().try_write(&text);
    // A terminal that is gone needs no modes.
    let _ = disable_raw_mode();
    reclaim();
}

/// Takes the keys back from another program.
///
/// # Errors
/// The terminal is gone.
pub(crate) fn take_keys() -> io::Result<()> {
    reclaim();
    enable_raw_mode()
}

/// Undoes what [`Screen::lend`] did to the modes.
fn reclaim() {
    let lent = LENT.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(modes) = lent {
        let _ = with_terminal(|terminal| tcsetattr(terminal, OptionalActions::Now, &modes));
    }
}

/// The terminal that keys come from.
fn with_terminal(act: impl FnOnce(BorrowedFd<'_>) -> Result<(), Errno>) -> io::Result<()> {
    if isatty(stdin()) {
        return Ok(act(stdin())?);
    }
    Ok(act(File::open("/dev/tty")?.as_fd())?)
}

/// The message of a panic belongs on the usual screen.
fn restore_on_panic() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let next = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            restore();
            next(info);
        }));
    });
}
