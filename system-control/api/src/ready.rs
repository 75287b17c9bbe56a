//! Telling init that a program is ready.

use std::{
    env,
    fs::File,
    io::{self, Write},
    os::fd::{FromRawFd, RawFd},
    sync::atomic::{AtomicBool, Ordering},
};

/// The environment variable with the number of a descriptor: a byte written there says that the program serves.
pub const READY: &str = "HANDOVER_READY";

/// Says that this program listens on the services that it provides: init starts the partitions when all programs that provide
/// services have said so. Nothing happens where init does not wait, or the second time.
///
/// # Errors
///
/// Those of writing: init has ended.
pub fn ready() -> io::Result<()> {
    let given = env::var(READY).ok().and_then(|number| number.parse::<RawFd>().ok());
    let Some(descriptor) = given.filter(|&number| number > 2) else { return Ok(()) };
    static TOLD: AtomicBool = AtomicBool::new(false);
    if TOLD.swap(true, Ordering::Relaxed) {
        return Ok(());
    }
    // SAFETY: init has opened it for this program, nothing else in it knows it, and it is taken once.
    let mut init = unsafe { File::from_raw_fd(descriptor) };
    init.write_all(b"\n")
}
