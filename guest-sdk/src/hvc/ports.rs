//! Requests with flags and timeouts, port sets, event ports.

use core::{arch::asm, time::Duration};

use handover_abi::{Call, Error, Event, PartitionId, Port, RequestFlags, RequestWord};

use super::hvc;

/// [`Call::Connect`], for whatever the word says, given up after `timeout`.
pub fn request(
    partition: PartitionId,
    mut word: RequestWord,
    timeout: Option<Duration>,
) -> Result<Port, Error> {
    word.flags.set(RequestFlags::TIMEOUT, timeout.is_some());
    let timeout = timeout.map_or(0, |timeout| u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX).max(1));
    let port: u64;
    // SAFETY: changes no memory.
    unsafe {
        hvc!(
            Call::Connect,
            inlateout("x1") u64::from(partition.get()) => port,
            in("x2") word.to_register(),
            in("x3") timeout
        )
    }?;
    Ok(Port::new(port as u32))
}

/// [`Call::PortSetCreate`]; `intid` 0: the event interrupt.
pub fn port_set_create(intid: u32, processor: usize) -> Result<Port, Error> {
    let set: u64;
    // SAFETY: changes no memory.
    unsafe { hvc!(Call::PortSetCreate, inlateout("x1") u64::from(intid) => set, in("x2") processor as u64) }?;
    Ok(Port::new(set as u32))
}

/// [`Call::PortSetDestroy`].
pub fn port_set_destroy(set: Port) -> Result<(), Error> {
    // SAFETY: changes no memory.
    unsafe { hvc!(Call::PortSetDestroy, inlateout("x1") u64::from(set.get()) => _) }
}

/// [`Call::PortSetAdd`].
pub fn port_set_add(set: Port, port: Port) -> Result<(), Error> {
    // SAFETY: changes no memory.
    unsafe {
        hvc!(Call::PortSetAdd, inlateout("x1") u64::from(set.get()) => _, in("x2") u64::from(port.get()))
    }
}

/// [`Call::PortSetRemove`].
pub fn port_set_remove(port: Port) -> Result<(), Error> {
    // SAFETY: changes no memory.
    unsafe { hvc!(Call::PortSetRemove, inlateout("x1") u64::from(port.get()) => _) }
}

/// [`Call::PortSetNext`]; `None` when no event is pending.
#[inline]
pub fn port_set_next(set: Port) -> Result<Option<Event>, Error> {
    let event: u64;
    // SAFETY: changes no memory.
    match unsafe { hvc!(Call::PortSetNext, inlateout("x1") u64::from(set.get()) => event) } {
        Ok(()) => Ok(Some(Event::from_register(event))),
        Err(Error::WouldBlock) => Ok(None),
        Err(error) => Err(error),
    }
}

/// [`Call::EventMask`].
pub fn event_mask(port: Port) -> Result<(), Error> {
    // SAFETY: changes no memory.
    unsafe { hvc!(Call::EventMask, inlateout("x1") u64::from(port.get()) => _) }
}

/// [`Call::EventUnmask`].
pub fn event_unmask(port: Port) -> Result<(), Error> {
    // SAFETY: changes no memory.
    unsafe { hvc!(Call::EventUnmask, inlateout("x1") u64::from(port.get()) => _) }
}

/// [`Call::EventBind`]; `intid` 0: none.
pub fn event_bind(port: Port, intid: u32, processor: usize) -> Result<(), Error> {
    // SAFETY: changes no memory.
    unsafe {
        hvc!(
            Call::EventBind,
            inlateout("x1") u64::from(port.get()) => _,
            in("x2") u64::from(intid),
            in("x3") processor as u64
        )
    }
}
