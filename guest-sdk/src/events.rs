//! Events: which channels have something to say.
//!
//! A program with several channels has a loop:
//!
//! ```ignore
//! loop {
//!     let event = events::wait()?;
//!     if event.port == Port::CONTROL {
//!         while let Some(signal) = signals::next()? { /* accept or refuse */ }
//!     } else {
//!         // receive from that port's channel until it has nothing left
//!     }
//! }
//! ```

use core::sync::atomic::{AtomicBool, Ordering};

use arrayvec::ArrayVec;
use handover_abi::{Causes, Error, Event, Port};

use crate::{
    hvc,
    interrupts::{self, Masked},
    processor::Lock,
};

/// Events of other ports that [`wait_for`] took, at most one for each port, for [`next`].
static KEPT: Lock<ArrayVec<Event, 64>> = Lock::new(ArrayVec::new_const());
/// Whether there are any.
static ANY_KEPT: AtomicBool = AtomicBool::new(false);

/// Takes the next pending event, if there is one.
///
/// # Errors
///
/// Those of the call.
#[inline]
pub fn next() -> Result<Option<Event>, Error> {
    if ANY_KEPT.load(Ordering::Relaxed)
        && let Some(event) = take_kept(|_| true)
    {
        return Ok(Some(event));
    }
    hvc::event_next()
}

/// Waits for an event and takes it.
///
/// # Errors
///
/// Those of the call.
pub fn wait() -> Result<Event, Error> {
    let _masked = Masked::new();
    loop {
        if let Some(event) = next()? {
            return Ok(event);
        }
        // Masked: an event since `next` has left its interrupt pending, and WFI does not wait.
        interrupts::wait();
    }
}

/// Waits for an event of `port` and takes it. Events of other ports are kept for [`next`].
///
/// # Errors
///
/// Those of the call; [`Error::QueueFull`] when 64 other ports have events that nobody takes.
pub fn wait_for(port: Port) -> Result<Causes, Error> {
    let _masked = Masked::new();
    if ANY_KEPT.load(Ordering::Relaxed)
        && let Some(event) = take_kept(|event| event.port == port)
    {
        return Ok(event.causes);
    }
    loop {
        if KEPT.lock().is_full() {
            return Err(Error::QueueFull);
        }
        match hvc::event_next()? {
            Some(event) if event.port == port => return Ok(event.causes),
            Some(event) => keep(event),
            None => interrupts::wait(),
        }
    }
}

fn take_kept(wanted: impl Fn(&Event) -> bool) -> Option<Event> {
    let _masked = Masked::new();
    let mut kept = KEPT.lock();
    let position = kept.iter().position(wanted)?;
    let event = kept.remove(position);
    ANY_KEPT.store(!kept.is_empty(), Ordering::Relaxed);
    Some(event)
}

/// Forgets the events of a port that is gone: its number may come back.
pub(crate) fn forget(port: Port) {
    if ANY_KEPT.load(Ordering::Relaxed) {
        take_kept(|event| event.port == port);
    }
}

/// There must be room for it.
fn keep(event: Event) {
    let mut kept = KEPT.lock();
    match kept.iter_mut().find(|other| other.port == event.port) {
        Some(other) => other.causes |= event.causes,
        None => kept.push(event),
    }
    ANY_KEPT.store(true, Ordering::Relaxed);
}
