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

use core::{
    future::{Future, poll_fn},
    sync::atomic::{AtomicBool, Ordering},
    task::Poll,
};

use arrayvec::ArrayVec;
use handover_abi::{Causes, Error, Event, Port, layout::EVENT_INTID};

use crate::{
    hvc,
    interrupts::{self, Masked},
    processor::Lock,
    waiters::{self, ATTENTION, ATTENTION_KEPT, ATTENTION_WAITERS, Waiter},
};

/// Events of other ports that [`wait_for`] took, at most one for each port, for [`next`].
static KEPT: Lock<ArrayVec<Event, 64>> = Lock::new(ArrayVec::new_const());
/// Whether the event interrupt was taken since the executor has last taken all events.
static INTERRUPTED: AtomicBool = AtomicBool::new(true);

/// Takes the next pending event, if there is one.
///
/// # Errors
///
/// Those of the call.
#[inline]
pub fn next() -> Result<Option<Event>, Error> {
    if ATTENTION.load(Ordering::Relaxed) == 0 { hvc::event_next() } else { next_attentively() }
}

#[cold]
fn next_attentively() -> Result<Option<Event>, Error> {
    if let Some(event) = take_kept(|_| true) {
        return Ok(Some(event));
    }
    let event = hvc::event_next()?;
    if let Some(event) = event {
        waiters::deliver(event);
    }
    Ok(event)
}

/// Takes the next pending event from the control OS and wakes the futures that wait for it.
fn take() -> Result<Option<Event>, Error> {
    let event = hvc::event_next()?;
    if let Some(event) = event
        && ATTENTION.load(Ordering::Relaxed) & ATTENTION_WAITERS != 0
    {
        waiters::deliver(event);
    }
    Ok(event)
}

/// Has the event interrupt noted for [`dispatch`].
pub(crate) fn note_interrupts() {
    interrupts::offer(EVENT_INTID, note_interrupt);
    INTERRUPTED.store(true, Ordering::Relaxed);
}

fn note_interrupt(_: u32) {
    INTERRUPTED.store(true, Ordering::Relaxed);
}

/// Takes all events, and wakes the futures that wait for them; what nobody waits for is kept while there is room.
pub(crate) fn dispatch() {
    // A program that has a handler of its own has to be asked for by a call each time.
    if !INTERRUPTED.swap(false, Ordering::Relaxed) && interrupts::offer(EVENT_INTID, note_interrupt) {
        return;
    }
    // An error means that there is no control OS, and no events.
    while let Ok(Some(mut event)) = hvc::event_next() {
        event.causes = waiters::deliver(event);
        if !event.causes.is_empty() {
            keep(event);
        }
    }
}

/// Waits for an event of `port` and takes it: [`wait_for`] for asynchronous programs.
///
/// Cancel-safe: it takes an event only when it ends. Events that came before it was polled are kept as the
/// [executor](crate::task) keeps them.
///
/// # Errors
///
/// [`Error::Limit`] when 256 futures wait for events already.
pub fn wait_for_async(port: Port) -> impl Future<Output = Result<Causes, Error>> + Unpin {
    let mut waiter = Waiter::new();
    poll_fn(move |context| {
        if let Err(error) = waiter.watch(port, context.waker()) {
            return Poll::Ready(Err(error));
        }
        match take_kept(|event| event.port == port) {
            Some(event) => Poll::Ready(Ok(event.causes)),
            None => Poll::Pending,
        }
    })
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
    if let Some(event) = take_kept(|event| event.port == port) {
        return Ok(event.causes);
    }
    loop {
        if KEPT.lock().is_full() {
            return Err(Error::QueueFull);
        }
        match take()? {
            Some(event) if event.port == port => return Ok(event.causes),
            Some(event) => keep(event),
            None => interrupts::wait(),
        }
    }
}

fn take_kept(wanted: impl Fn(&Event) -> bool) -> Option<Event> {
    if ATTENTION.load(Ordering::Relaxed) & ATTENTION_KEPT == 0 {
        return None;
    }
    let _masked = Masked::new();
    let mut kept = KEPT.lock();
    let position = kept.iter().position(wanted)?;
    let event = kept.remove(position);
    if kept.is_empty() {
        ATTENTION.fetch_and(!ATTENTION_KEPT, Ordering::Relaxed);
    }
    Some(event)
}

/// Forgets the events of a port that is gone: its number may come back.
pub(crate) fn forget(port: Port) {
    take_kept(|event| event.port == port);
}

/// Keeps an event, if there is room for it.
fn keep(event: Event) {
    let mut kept = KEPT.lock();
    if let Some(other) = kept.iter_mut().find(|other| other.port == event.port) {
        other.causes |= event.causes;
    } else if kept.try_push(event).is_err() {
        return;
    }
    ATTENTION.fetch_or(ATTENTION_KEPT, Ordering::Relaxed);
}
