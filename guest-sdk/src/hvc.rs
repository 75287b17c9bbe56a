//! The hypercalls, one function for each [`Call`].
//!
//! Arguments and results stay in registers; only the registers that a call changes are told to the compiler, because all
//! others are preserved. A function is `unsafe` when the call can take away memory that a reference may point into.

use core::{arch::asm, hint::cold_path};

use handover_abi::{
    Account, COUNTERS_AT_ONCE, Call, CounterNumber, Error, Event, Features, MessageWord, PartitionId, Port,
    RegionHandle, SHORT_WORDS, ServiceId, Signal, SignalKind,
};

mod direct;
mod ports;
#[cfg(feature = "privileged")]
mod privileged;
mod shared;
pub use direct::*;
pub use ports::*;
#[cfg(feature = "privileged")]
pub use privileged::*;
pub use shared::*;

/// `x0` of an answer.
#[inline(always)]
fn result(x0: u64) -> Result<(), Error> {
    if x0 == 0 {
        return Ok(());
    }
    cold_path();
    Err(Error::from_x0(x0).unwrap_or(Error::NotSupported))
}

/// `hvc!(call, operands…)` makes a call. Operands are those of `asm!`, for `x1` to `x17`; every call must name `x1`, which
/// a failed call may change.
macro_rules! hvc {
    ($call:expr, $($operands:tt)*) => {{
        let x0: u64;
        asm!(
            "hvc #0",
            inlateout("x0") $call as u64 => x0,
            $($operands)*,
            options(nostack, preserves_flags)
        );
        $crate::hvc::result(x0)
    }};
}
use hvc;

/// The instructions that load `x2` to `x17` from where `{data}` points to: the compiler would load them one by one where it has 128 bytes at a far
/// offset from the stack pointer.
macro_rules! load_words {
    () => {
        "ldp x2, x3, [{data}]
         ldp x4, x5, [{data}, #16]
         ldp x6, x7, [{data}, #32]
         ldp x8, x9, [{data}, #48]
         ldp x10, x11, [{data}, #64]
         ldp x12, x13, [{data}, #80]
         ldp x14, x15, [{data}, #96]
         ldp x16, x17, [{data}, #112]"
    };
}
use load_words;

/// The instructions that store a message that has come, unless the message word in `x1` says that it has no bytes; `{length}` is how many it says. A call that
/// fails has left `x1` to `x17` as they were, and stores at most what they were loaded with; or `x1` holds an account, a size, or a word without bytes. `$then` comes behind
/// the stores.
macro_rules! store_words {
    ($($then:literal)?) => {
      concat!(
        "ubfx {length}, x1, #48, #8
         cbz {length}, 3f
         stp x2, x3, [{data}]
         stp x4, x5, [{data}, #16]
         stp x6, x7, [{data}, #32]
         stp x8, x9, [{data}, #48]
         stp x10, x11, [{data}, #64]
         stp x12, x13, [{data}, #80]
         stp x14, x15, [{data}, #96]
         stp x16, x17, [{data}, #112]
         ", $($then,)? "
         3:"
      )
    };
}
use store_words;

/// Makes the call that `registers[0]` names with `x0` to `x17` as they are, and returns them as the call left them.
///
/// # Safety
///
/// The call must not take memory away that a reference points into.
pub unsafe fn raw(mut registers: [u64; 18]) -> [u64; 18] {
    let [x0, x1, x2, x3, x4, x5, x6, x7, x8, x9, x10, x11, x12, x13, x14, x15, x16, x17] = &mut registers;
    // SAFETY: the control OS changes x0 to x17 at most, and memory only as the caller has promised for.
    unsafe {
        asm!(
            "hvc #0",
            inlateout("x0") * x0,
            inlateout("x1") * x1,
            inlateout("x2") * x2,
            inlateout("x3") * x3,
            inlateout("x4") * x4,
            inlateout("x5") * x5,
            inlateout("x6") * x6,
            inlateout("x7") * x7,
            inlateout("x8") * x8,
            inlateout("x9") * x9,
            inlateout("x10") * x10,
            inlateout("x11") * x11,
            inlateout("x12") * x12,
            inlateout("x13") * x13,
            inlateout("x14") * x14,
            inlateout("x15") * x15,
            inlateout("x16") * x16,
            inlateout("x17") * x17,
            options(nostack, preserves_flags)
        );
    }
    registers
}

/// [`Call::Version`]: version and features.
#[inline]
pub fn version() -> Result<(u32, Features), Error> {
    let (version, features): (u64, u64);
    // SAFETY: changes no memory.
    unsafe { hvc!(Call::Version, lateout("x1") version, lateout("x2") features) }?;
    Ok((version as u32, Features::from_bits_retain(features)))
}

/// [`Call::WatchdogKick`]: → the watchdog's timeout in nanoseconds, 0 if none is set.
pub fn watchdog_kick() -> Result<u64, Error> {
    let nanoseconds: u64;
    // SAFETY: changes no memory.
    unsafe { hvc!(Call::WatchdogKick, lateout("x1") nanoseconds) }?;
    Ok(nanoseconds)
}

/// [`Call::CountersRead`]: counters from the one numbered `first` on, of a partition (`None`: this one) and a logical processor of it
/// (`None`: the sum over all).
pub fn counters_read(
    partition: Option<PartitionId>,
    processor: Option<u32>,
    first: CounterNumber,
) -> Result<[u64; COUNTERS_AT_ONCE], Error> {
    let mut registers = [0; 18];
    registers[0] = u64::from(Call::CountersRead as u32);
    registers[1] = partition.map_or(0, |partition| u64::from(partition.get()));
    registers[2] = processor.map_or(u64::MAX, u64::from);
    registers[3] = first.get();
    // SAFETY: changes no memory.
    let [status, counters @ .., _] = unsafe { raw(registers) };
    match Error::from_x0(status) {
        None => Ok(counters),
        Some(error) => Err(error),
    }
}

/// What [`identify`] returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// This partition.
    pub partition: PartitionId,
    /// Whether it may make the privileged calls.
    pub privileged: bool,
    /// INTID of the event interrupt.
    pub event_interrupt: u32,
}

/// [`Call::Identify`]: who am I?
#[inline]
pub fn identify() -> Result<Identity, Error> {
    let (partition, privileged, interrupt): (u64, u64, u64);
    // SAFETY: changes no memory.
    unsafe {
        hvc!(Call::Identify, lateout("x1") partition, lateout("x2") privileged, lateout("x3") interrupt)
    }?;
    Ok(Identity {
        partition: PartitionId::new(partition as u32),
        privileged: privileged != 0,
        event_interrupt: interrupt as u32,
    })
}

/// [`Call::End`]: ends this partition. Returns only if nobody answers.
pub fn end(status: u64) {
    // SAFETY: does not return; where it does, nobody took the call.
    let _unanswered = unsafe { hvc!(Call::End, inlateout("x1") status => _) };
}

/// Use and limit of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Charge {
    /// What is used now.
    pub used: u64,
    /// What may be used at most.
    pub limit: u64,
}

/// [`Call::AccountRead`]: an account of `partition`, of the caller's own if `None`.
pub fn account_read(partition: Option<PartitionId>, account: Account) -> Result<Charge, Error> {
    let partition = u64::from(partition.map_or(0, PartitionId::get));
    let (used, limit): (u64, u64);
    // SAFETY: changes no memory.
    unsafe {
        hvc!(Call::AccountRead, inlateout("x1") partition => used, inlateout("x2") account as u64 => limit)
    }?;
    Ok(Charge { used, limit })
}

/// [`Call::RegionCreate`]: a region of `size` bytes of zeroes, mapped at `address` unless that is 0.
#[inline]
pub fn region_create(size: u64, address: u64) -> Result<RegionHandle, Error> {
    let handle: u64;
    // SAFETY: maps memory that nothing was mapped at before.
    unsafe { hvc!(Call::RegionCreate, inlateout("x1") size => handle, in("x2") address) }?;
    Ok(RegionHandle::new(handle as u32))
}

/// [`Call::RegionCreate`] for the channel of `port`: of the cache colours declared for it, if any are.
#[inline]
pub fn region_create_for(port: Port, size: u64, address: u64) -> Result<RegionHandle, Error> {
    // A size that does not fit is none that a region has.
    let size = if size >> 32 == 0 { size } else { 0 };
    region_create(u64::from(port.get()) << 32 | size, address)
}

/// [`Call::RegionDestroy`].
///
/// # Safety
///
/// No reference may point into the region.
#[inline]
pub unsafe fn region_destroy(region: RegionHandle) -> Result<(), Error> {
    // SAFETY: the caller's promise.
    unsafe { hvc!(Call::RegionDestroy, inlateout("x1") u64::from(region.get()) => _) }
}

/// [`Call::RegionMap`]: maps a region at `address`.
#[inline]
pub fn region_map(region: RegionHandle, address: u64) -> Result<(), Error> {
    // SAFETY: maps memory that nothing was mapped at before.
    unsafe { hvc!(Call::RegionMap, inlateout("x1") u64::from(region.get()) => _, in("x2") address) }
}

/// [`Call::RegionUnmap`].
///
/// # Safety
///
/// No reference may point into the region.
#[inline]
pub unsafe fn region_unmap(region: RegionHandle) -> Result<(), Error> {
    // SAFETY: the caller's promise.
    unsafe { hvc!(Call::RegionUnmap, inlateout("x1") u64::from(region.get()) => _) }
}

/// [`Call::RegionInfo`]: size in bytes, and address or 0.
pub fn region_info(region: RegionHandle) -> Result<(u64, u64), Error> {
    let (size, address): (u64, u64);
    // SAFETY: changes no memory.
    unsafe {
        hvc!(Call::RegionInfo, inlateout("x1") u64::from(region.get()) => size, lateout("x2") address)
    }?;
    Ok((size, address))
}

/// [`Call::MemoryAdd`]: `size` bytes of zeroes at `address`, both multiples of 2 MiB, at most 32 MiB.
pub fn memory_add(address: u64, size: u64) -> Result<(), Error> {
    // SAFETY: maps memory that nothing was mapped at before.
    unsafe { hvc!(Call::MemoryAdd, inlateout("x1") address => _, in("x2") size) }
}

/// [`Call::MemoryRemove`]: gives memory back, as [`memory_add`] takes it.
///
/// # Safety
///
/// Nothing uses that memory: no reference, no stack, no code, no translation table.
pub unsafe fn memory_remove(address: u64, size: u64) -> Result<(), Error> {
    // SAFETY: the caller's promise.
    unsafe { hvc!(Call::MemoryRemove, inlateout("x1") address => _, in("x2") size) }
}

/// [`Call::MemoryInfo`]: whether there is memory at `address`, and where that changes.
pub fn memory_info(address: u64) -> Result<(bool, u64), Error> {
    let (there, end): (u64, u64);
    // SAFETY: changes no memory.
    unsafe { hvc!(Call::MemoryInfo, inlateout("x1") address => there, lateout("x2") end) }?;
    Ok((there != 0, end))
}

/// [`Call::Connect`], for a channel on which both ends send, with all the time there is.
pub fn connect(partition: PartitionId, service: ServiceId) -> Result<Port, Error> {
    let port: u64;
    // SAFETY: changes no memory.
    unsafe {
        hvc!(
            Call::Connect,
            inlateout("x1") u64::from(partition.get()) => port,
            in("x2") u64::from(service.get())
        )
    }?;
    Ok(Port::new(port as u32))
}

/// [`Call::Accept`].
pub fn accept(token: u64) -> Result<Port, Error> {
    let port: u64;
    // SAFETY: changes no memory.
    unsafe { hvc!(Call::Accept, inlateout("x1") token => port) }?;
    Ok(Port::new(port as u32))
}

/// [`Call::Refuse`].
pub fn refuse(token: u64, reason: u32) -> Result<(), Error> {
    // SAFETY: changes no memory.
    unsafe { hvc!(Call::Refuse, inlateout("x1") token => _, in("x2") u64::from(reason)) }
}

/// [`Call::Disconnect`].
pub fn disconnect(port: Port) -> Result<(), Error> {
    // SAFETY: frees what is queued, which is mapped nowhere.
    unsafe { hvc!(Call::Disconnect, inlateout("x1") u64::from(port.get()) => _) }
}

/// [`Call::Send`] with a short message.
///
/// # Safety
///
/// No reference may point into the region that `word` names.
#[inline(always)]
pub unsafe fn send(word: MessageWord, data: &[u64; SHORT_WORDS]) -> Result<(), Error> {
    // SAFETY: the caller's promise.
    unsafe { send_by(Call::Send as u64, word, data) }
}

/// [`send`] by the number of the call.
///
/// # Safety
///
/// As for [`send`].
#[inline(always)]
pub(crate) unsafe fn send_by(number: u64, word: MessageWord, data: &[u64; SHORT_WORDS]) -> Result<(), Error> {
    let x0: u64;
    // SAFETY: the caller's promise; `data` is read, no more than there is of it.
    unsafe {
        asm!(
            load_words!(),
            "hvc #0",
            data = in(reg) data,
            inlateout("x0") number => x0, inlateout("x1") word.to_register() => _,
            out("x2") _, out("x3") _, out("x4") _, out("x5") _, out("x6") _, out("x7") _, out("x8") _, out("x9") _,
            out("x10") _, out("x11") _, out("x12") _, out("x13") _, out("x14") _, out("x15") _, out("x16") _,
            out("x17") _,
            options(nostack, preserves_flags)
        );
    }
    result(x0)
}

/// [`Call::Send`] of a region alone: `word`'s length must be 0, so that nothing of `x2` to `x17` is sent.
///
/// # Safety
///
/// No reference may point into the region that `word` names.
#[inline(always)]
pub unsafe fn send_word(word: MessageWord) -> Result<(), Error> {
    // SAFETY: the caller's promise.
    unsafe { send_word_by(Call::Send as u64, word) }
}

/// [`send_word`] by the number of the call.
///
/// # Safety
///
/// As for [`send_word`].
#[inline(always)]
pub(crate) unsafe fn send_word_by(number: u64, word: MessageWord) -> Result<(), Error> {
    debug_assert_eq!(word.length(), 0);
    // SAFETY: the caller's promise.
    unsafe { hvc!(number, inlateout("x1") word.to_register() => _) }
}

/// A call that did not succeed, and what `x1` told of it: for [`Error::Limit`] the account, for [`Error::TooLarge`] the
/// region's size in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Why.
    pub error: Error,
    /// `x1`.
    pub detail: u64,
}

/// A message that has come: its word, and the number of its bytes as the word says it.
pub(crate) type Arrival = (MessageWord, u64);

/// [`Call::Receive`]: the next message, its bytes in `data`, with zeroes behind them, which stays as it was if there are none; its region, if it has one,
/// is mapped at `address` unless that is 0.
#[inline(always)]
pub fn receive(port: Port, address: u64, data: &mut [u64; SHORT_WORDS]) -> Result<MessageWord, Failure> {
    receive_into(port, address, data).map(|(word, _)| word)
}

/// [`receive`], with the number of bytes.
#[inline(always)]
pub(crate) fn receive_into(
    port: Port,
    address: u64,
    data: &mut [u64; SHORT_WORDS],
) -> Result<Arrival, Failure> {
    receive_by(Call::Receive as u64, port.get().into(), address, &address, data).map(|(arrival, _)| arrival)
}

/// [`receive_into`] by the number of the call, and the address again, which has not taken a register meanwhile: a message without bytes leaves it in `x2`, and
/// after others it comes from where it is `kept`.
#[inline(always)]
pub(crate) fn receive_by(
    number: u64,
    port: u64,
    address: u64,
    kept: &u64,
    data: &mut [u64; SHORT_WORDS],
) -> Result<(Arrival, u64), Failure> {
    let (x0, word, length, mapped): (u64, u64, u64, u64);
    // SAFETY: maps memory that nothing was mapped at before; `data` is written, no more than there is of it, and `kept` read.
    unsafe {
        asm!(
            "hvc #0",
            store_words!("ldr x2, [{kept}]"),
            data = in(reg) data,
            kept = in(reg) kept,
            length = out(reg) length,
            inlateout("x0") number => x0, inlateout("x1") port => word,
            inlateout("x2") address => mapped, out("x3") _, out("x4") _, out("x5") _, out("x6") _, out("x7") _,
            out("x8") _, out("x9") _, out("x10") _, out("x11") _, out("x12") _, out("x13") _, out("x14") _,
            out("x15") _, out("x16") _, out("x17") _,
            options(nostack, preserves_flags)
        );
    }
    match result(x0) {
        Ok(()) => Ok(((MessageWord::from_register(word), length), mapped)),
        Err(error) => Err(Failure { error, detail: word }),
    }
}

/// What [`port_status`] returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortStatus {
    /// The causes that hold now.
    pub causes: handover_abi::Causes,
    /// Who has the other end.
    pub peer: PartitionId,
    /// Why the request was refused, if it was.
    pub reason: u32,
}

/// [`Call::PortStatus`].
pub fn port_status(port: Port) -> Result<PortStatus, Error> {
    let (causes, peer, reason): (u64, u64, u64);
    // SAFETY: changes no memory.
    unsafe {
        hvc!(
            Call::PortStatus,
            inlateout("x1") u64::from(port.get()) => causes,
            lateout("x2") peer,
            lateout("x3") reason
        )
    }?;
    Ok(PortStatus {
        causes: handover_abi::Causes::from_bits_retain(causes as u32),
        peer: PartitionId::new(peer as u32),
        reason: reason as u32,
    })
}

/// [`Call::EventNext`]; `None` when no event is pending.
#[inline]
pub fn event_next() -> Result<Option<Event>, Error> {
    let event: u64;
    // SAFETY: changes no memory.
    match unsafe { hvc!(Call::EventNext, lateout("x1") event) } {
        Ok(()) => Ok(Some(Event::from_register(event))),
        Err(Error::WouldBlock) => Ok(None),
        Err(error) => Err(error),
    }
}

/// [`Call::EventSend`].
#[inline]
pub fn event_send(port: Port) -> Result<(), Error> {
    event_send_by(Call::EventSend as u64, port.get().into())
}

/// [`event_send`] by the number of the call.
#[inline(always)]
pub(crate) fn event_send_by(number: u64, port: u64) -> Result<(), Error> {
    // SAFETY: changes no memory.
    unsafe { hvc!(number, inlateout("x1") port => _) }
}

/// [`Call::SignalNext`]; `None` when there is none.
pub fn signal_next() -> Result<Option<Signal>, Error> {
    let (kind, token, partition, argument): (u64, u64, u64, u64);
    // SAFETY: changes no memory.
    let result = unsafe {
        hvc!(
            Call::SignalNext,
            lateout("x1") kind,
            lateout("x2") token,
            lateout("x3") partition,
            lateout("x4") argument
        )
    };
    match result {
        Ok(()) => Ok(Some(Signal {
            kind: SignalKind::try_from(kind)?,
            token,
            partition: PartitionId::new(partition as u32),
            argument,
        })),
        Err(Error::WouldBlock) => Ok(None),
        Err(error) => Err(error),
    }
}
