//! The hypercalls of direct calls.

use core::arch::asm;

use handover_abi::{Call, Error, MessageWord, Port, SHORT_WORDS};

use super::{Arrival, hvc, load_words, result, store_words};

/// Makes a call that sends a message and comes back with one: `x0`, and what has come. Of what is sent, `data` holds the bytes, if `length` and
/// the word say that there are any; so it does of what comes, with zeroes behind them, and stays as it was if the call fails or brings none.
///
/// # Safety
///
/// No reference may point into the region that `word` names.
#[inline(always)]
unsafe fn exchange(
    call: Call,
    word: MessageWord,
    mut length: u64,
    data: &mut [u64; SHORT_WORDS],
) -> (u64, Arrival) {
    let (x0, answer): (u64, u64);
    // SAFETY: the caller's promise; a region that comes is mapped where nothing was mapped before; `data` is read and written, no more than there is of it.
    unsafe {
        asm!(
            "cbz {length}, 2f",
            load_words!(),
            "2: hvc #0",
            store_words!(),
            data = in(reg) data,
            length = inout(reg) length,
            inlateout("x0") call as u64 => x0, inlateout("x1") word.to_register() => answer,
            out("x2") _, out("x3") _, out("x4") _, out("x5") _, out("x6") _, out("x7") _, out("x8") _, out("x9") _,
            out("x10") _, out("x11") _, out("x12") _, out("x13") _, out("x14") _, out("x15") _, out("x16") _,
            out("x17") _,
            options(nostack, preserves_flags)
        );
    }
    (x0, (MessageWord::from_register(answer), length))
}

/// Makes a call that sends a message and comes back without one.
///
/// # Safety
///
/// No reference may point into the region that `word` names.
#[inline]
unsafe fn give(call: Call, word: MessageWord, data: &[u64; SHORT_WORDS]) -> Result<(), Error> {
    let x0: u64;
    // SAFETY: the caller's promise; `data` is read, no more than there is of it.
    unsafe {
        asm!(
            load_words!(),
            "hvc #0",
            data = in(reg) data,
            inlateout("x0") call as u64 => x0, inlateout("x1") word.to_register() => _,
            out("x2") _, out("x3") _, out("x4") _, out("x5") _, out("x6") _, out("x7") _, out("x8") _, out("x9") _,
            out("x10") _, out("x11") _, out("x12") _, out("x13") _, out("x14") _, out("x15") _, out("x16") _,
            out("x17") _,
            options(nostack, preserves_flags)
        );
    }
    result(x0)
}

/// A direct call that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallFailure {
    /// Why.
    pub error: Error,
    /// Of one that has waited ([`Error::PeerClosed`], [`Error::TimedOut`], [`Error::Deadlock`]): a word with the region that has come back, if one had gone along.
    pub word: MessageWord,
}

/// [`Call::Call`]: the reply, its bytes in `data`, which stays as it was if there are none.
///
/// # Safety
///
/// No reference may point into the region that `word` names.
#[inline(always)]
pub unsafe fn call(word: MessageWord, data: &mut [u64; SHORT_WORDS]) -> Result<MessageWord, CallFailure> {
    // SAFETY: the caller's promise.
    unsafe { call_into(word, word.length().into(), data) }.map(|(answer, _)| answer)
}

/// [`call`], with the number of bytes: `length` is how many the word says.
///
/// # Safety
///
/// As for [`call`].
#[inline(always)]
pub(crate) unsafe fn call_into(
    word: MessageWord,
    length: u64,
    data: &mut [u64; SHORT_WORDS],
) -> Result<Arrival, CallFailure> {
    // SAFETY: the caller's promise.
    let (x0, answer) = unsafe { exchange(Call::Call, word, length, data) };
    match result(x0) {
        Ok(()) => Ok(answer),
        Err(error) => Err(CallFailure { error, word: answer.0 }),
    }
}

/// What a wait has brought: a word without a port, and then without bytes, if that is an interrupt.
#[inline(always)]
fn waited((x0, arrival): (u64, Arrival)) -> Result<Arrival, Error> {
    result(x0).map(|()| arrival)
}

/// The call in it.
#[inline(always)]
fn taken((word, _): Arrival) -> Option<MessageWord> {
    (word.port() != Port::CONTROL).then_some(word)
}

/// [`Call::CallWait`]: the next call, its bytes in `data`, which stays as it was if there are none; `None`: there is an interrupt, and no call.
#[inline(always)]
pub fn call_wait(data: &mut [u64; SHORT_WORDS]) -> Result<Option<MessageWord>, Error> {
    call_wait_into(data).map(taken)
}

/// [`call_wait`], with the number of bytes; a word without a port: there is an interrupt.
#[inline(always)]
pub(crate) fn call_wait_into(data: &mut [u64; SHORT_WORDS]) -> Result<Arrival, Error> {
    // SAFETY: names no region.
    waited(unsafe { exchange(Call::CallWait, MessageWord::from_register(0), 0, data) })
}

/// [`Call::Reply`].
///
/// # Safety
///
/// No reference may point into the region that `word` names.
#[inline]
pub unsafe fn reply(word: MessageWord, data: &[u64; SHORT_WORDS]) -> Result<(), Error> {
    // SAFETY: the caller's promise.
    unsafe { give(Call::Reply, word, data) }
}

/// [`Call::ReplyAndWait`]: as for [`call_wait`].
///
/// # Safety
///
/// No reference may point into the region that `word` names.
#[inline(always)]
pub unsafe fn reply_and_wait(
    word: MessageWord,
    data: &mut [u64; SHORT_WORDS],
) -> Result<Option<MessageWord>, Error> {
    // SAFETY: the caller's promise.
    unsafe { send_and_wait(Call::ReplyAndWait, word, word.length().into(), data) }.map(taken)
}

/// [`Call::Forward`].
///
/// # Safety
///
/// No reference may point into the region that `word` names.
#[inline]
pub unsafe fn forward(word: MessageWord, data: &[u64; SHORT_WORDS]) -> Result<(), Error> {
    // SAFETY: the caller's promise.
    unsafe { give(Call::Forward, word, data) }
}

/// [`Call::ForwardAndWait`]: as for [`call_wait`].
///
/// # Safety
///
/// No reference may point into the region that `word` names.
#[inline(always)]
pub unsafe fn forward_and_wait(
    word: MessageWord,
    data: &mut [u64; SHORT_WORDS],
) -> Result<Option<MessageWord>, Error> {
    // SAFETY: the caller's promise.
    unsafe { send_and_wait(Call::ForwardAndWait, word, word.length().into(), data) }.map(taken)
}

/// [`reply_and_wait`] or [`forward_and_wait`], as `call` says, with the number of bytes: `length` is how many the word says.
///
/// # Safety
///
/// As for [`reply_and_wait`].
#[inline(always)]
pub(crate) unsafe fn send_and_wait(
    call: Call,
    word: MessageWord,
    length: u64,
    data: &mut [u64; SHORT_WORDS],
) -> Result<Arrival, Error> {
    // SAFETY: the caller's promise.
    waited(unsafe { exchange(call, word, length, data) })
}

/// [`Call::CallSetup`]: `landing` is where regions that come by calls are mapped, or 0; `patience` how many nanoseconds a call waits, 0: for ever.
#[inline]
pub fn call_setup(port: Port, landing: u64, patience: u64) -> Result<(), Error> {
    // SAFETY: changes no memory.
    unsafe {
        hvc!(Call::CallSetup, inlateout("x1") u64::from(port.get()) => _, in("x2") landing, in("x3") patience)
    }
}
