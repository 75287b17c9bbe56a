//! Memory taken and given back: at wrong places, twice, and while other processors use it.

use core::{
    ptr,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

use handover_guest::{
    Boot, Error,
    abi::{
        Account, Call,
        layout::{
            ARCHIVE_BASE, GICD_BASE, MEMORY_BASE, MEMORY_CALL_MAX, MEMORY_END, MEMORY_GRANULE, WINDOW_BASE,
        },
    },
    fault::{self, Fault},
    hvc, memory, processor,
};

use crate::{
    calls::{granted, make, refused},
    failure::{Failure, ensure},
    processors,
};

/// Where a test partition has no memory, but could have.
pub(crate) const AT: u64 = MEMORY_BASE + (512 << 20);

fn word(at: u64) -> *mut u64 {
    ptr::with_exposed_provenance_mut(at as usize)
}

fn read(at: u64) -> Result<u64, Fault> {
    // SAFETY: nothing refers to this memory; a fault is caught.
    fault::catch(|| unsafe { word(at).read_volatile() })
}

/// Places and sizes that cannot be; nothing comes of any.
pub(crate) fn wrong(boot: &Boot) -> Result<(), Failure> {
    for call in [Call::MemoryAdd, Call::MemoryRemove] {
        for (at, size) in [
            (AT + 4096, MEMORY_GRANULE),
            (AT, 4096),
            (AT, 0),
            (AT, u64::MAX),
            (AT, MEMORY_CALL_MAX + MEMORY_GRANULE),
            (u64::MAX, MEMORY_GRANULE),
        ] {
            refused(call, &[at, size], &[Error::InvalidArgument])?;
        }
        for at in [
            0,
            GICD_BASE,
            MEMORY_BASE - MEMORY_GRANULE,
            MEMORY_END,
            ARCHIVE_BASE + MEMORY_GRANULE,
            WINDOW_BASE,
            1 << 39 | AT,
            0u64.wrapping_sub(MEMORY_GRANULE),
        ] {
            refused(call, &[at, MEMORY_GRANULE], &[Error::BadAddress])?;
        }
        refused(call, &[MEMORY_END - MEMORY_GRANULE, 2 * MEMORY_GRANULE], &[Error::BadAddress])?;
    }
    for at in [0, GICD_BASE, MEMORY_BASE - 1, MEMORY_END, WINDOW_BASE, u64::MAX] {
        refused(Call::MemoryInfo, &[at], &[Error::BadAddress])?;
    }
    refused(Call::MemoryAdd, &[MEMORY_BASE, MEMORY_GRANULE], &[Error::InUse])?;
    // The last granule it has, and the one behind it.
    let end = MEMORY_BASE + boot.memory_size();
    for call in [Call::MemoryAdd, Call::MemoryRemove] {
        let error = if call == Call::MemoryAdd { Error::InUse } else { Error::BadAddress };
        refused(call, &[end - MEMORY_GRANULE, 2 * MEMORY_GRANULE], &[error])?;
    }
    ensure!(memory::find(0) == Some((MEMORY_BASE, end - MEMORY_BASE)), "memory: {:x?}", memory::find(0));
    ensure!(memory::find(end).is_none(), "memory behind the end: {:x?}", memory::find(end));
    Ok(())
}

/// As much as there may be, twice, and what one gives back another gets zeroed.
pub(crate) fn all_there_is(_: &Boot) -> Result<(), Failure> {
    let charge = hvc::account_read(None, Account::Memory)?;
    let room = (charge.limit - charge.used) / MEMORY_GRANULE * MEMORY_GRANULE;
    ensure!(room > 0, "{charge:?}: the case needs room for memory");
    for round in 0..2 {
        memory::add(AT, room)?;
        let [x0, x1, ..] = make(Call::MemoryAdd, &[AT + room, MEMORY_GRANULE]);
        ensure!(
            (Error::from_x0(x0), x1) == (Some(Error::Limit), Account::Memory as u64),
            "more than the limit: x0={x0:#x} x1={x1:#x}"
        );
        for at in (AT..AT + room).step_by(4096) {
            ensure!(read(at) == Ok(0), "round {round}: {at:#x} is {:x?}", read(at));
            // SAFETY: just added, and nothing refers to it.
            unsafe { word(at).write_volatile(at) };
        }
        ensure!(memory::find(AT) == Some((AT, room)), "memory: {:x?}", memory::find(AT));
        // A hole in the middle.
        granted(Call::MemoryRemove, &[AT + MEMORY_GRANULE, MEMORY_GRANULE])?;
        ensure!(read(AT + MEMORY_GRANULE).is_err(), "what was removed can be read");
        ensure!(read(AT) == Ok(AT), "what was not removed cannot be read");
        refused(Call::MemoryRemove, &[AT, 2 * MEMORY_GRANULE], &[Error::BadAddress])?;
        ensure!(read(AT) == Ok(AT), "a refused call has taken memory");
        granted(Call::MemoryAdd, &[AT + MEMORY_GRANULE, MEMORY_GRANULE])?;
        // SAFETY: nothing refers to it.
        unsafe { memory::remove(AT, room) }?;
        ensure!(memory::find(AT).is_none(), "memory after all was removed: {:x?}", memory::find(AT));
    }
    Ok(())
}

static STOP: AtomicBool = AtomicBool::new(false);
/// Accesses of the others that went through, and that did not.
static REACHED: AtomicUsize = AtomicUsize::new(0);
static FAULTED: AtomicUsize = AtomicUsize::new(0);
/// Odd while the memory is gone: nothing may reach it between two looks at the same odd number.
static EPOCH: AtomicUsize = AtomicUsize::new(0);
static SEEN_GONE: AtomicUsize = AtomicUsize::new(0);

/// Uses the memory as fast as it can, while it comes and goes.
fn use_it(_: usize) {
    while !STOP.load(Ordering::Acquire) {
        let before = EPOCH.load(Ordering::Acquire);
        // SAFETY: nothing refers to it; a fault is caught.
        let result = fault::catch(|| unsafe { word(AT).write_volatile(0xa5a5) });
        let after = EPOCH.load(Ordering::Acquire);
        if before % 2 == 1 && before == after && result.is_ok() {
            SEEN_GONE.fetch_add(1, Ordering::Relaxed);
        }
        match result {
            Ok(()) => &REACHED,
            Err(_) => &FAULTED,
        }
        .fetch_add(1, Ordering::Relaxed);
    }
}

/// Memory goes while other processors write to it: once it has gone they fault, and what comes back is zero.
pub(crate) fn under_use(boot: &Boot) -> Result<(), Failure> {
    STOP.store(false, Ordering::Release);
    for counter in [&REACHED, &FAULTED, &SEEN_GONE] {
        counter.store(0, Ordering::Relaxed);
    }
    for index in 1..boot.processors() {
        processor::start(index, use_it, 0)?;
    }
    // Until the others have got on: with processors that run by turns they may sleep through a whole round.
    let meets = |counter: &AtomicUsize| {
        let before = counter.load(Ordering::Relaxed);
        while boot.processors() > 1 && counter.load(Ordering::Relaxed) == before {
            processor::yield_now();
        }
    };
    for _ in 0..50 {
        granted(Call::MemoryAdd, &[AT, MEMORY_GRANULE])?;
        // The others write its first word; the next one nobody.
        let (first, next) = (read(AT), read(AT + 8));
        ensure!(matches!(first, Ok(0 | 0xa5a5)) && next == Ok(0), "fresh memory: {first:x?}, {next:x?}");
        // SAFETY: just added, and nothing refers to it.
        unsafe { word(AT + 8).write_volatile(1) };
        meets(&REACHED);
        granted(Call::MemoryRemove, &[AT, MEMORY_GRANULE])?;
        EPOCH.fetch_add(1, Ordering::AcqRel);
        ensure!(read(AT).is_err(), "what was removed can be read");
        meets(&FAULTED);
        EPOCH.fetch_add(1, Ordering::AcqRel);
    }
    STOP.store(true, Ordering::Release);
    for index in 1..boot.processors() {
        processors::wait_until_off(index)?;
    }
    let seen = SEEN_GONE.load(Ordering::Relaxed);
    ensure!(seen == 0, "{seen} writes reached memory after it had gone");
    Ok(())
}
