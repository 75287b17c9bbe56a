//! The terminal as a guest's console: keys go through unchanged, and it is as before when we leave.

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use std::{
    io::{self, IsTerminal},
    panic,
    sync::{Mutex, PoisonError},
};

/// How the terminal was before it became raw; whoever takes this out restores it.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// The terminal is raw while this lives, and no longer than this process, even if that panics.
pub(crate) struct RawMode(());

impl RawMode {
    /// Makes the terminal raw, if standard input is one.
    pub(crate) fn enter() -> io::Result<Option<Self>> {
        if !io::stdin().is_terminal() {
            return Ok(None);
        }
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        *BEFORE.lock().unwrap_or_else(PoisonError::into_inner) = Some(before);
        let hook = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            restore();
            hook(info);
        }));
        tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        Ok(Some(Self(())))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        restore();
    }
}

fn restore() {
    if let Some(before) = BEFORE.lock().unwrap_or_else(PoisonError::into_inner).take() {
        // It fails only if the terminal is gone.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &before);
    }
}

/// Whether names may be coloured: on a terminal, unless NO_COLOR says no (https://no-color.org).
pub(crate) fn coloured() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
