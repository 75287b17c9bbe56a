//! The hypercalls of direct calls.

use core::arch::asm;

use handover_abi::{Call, Error, MessageWord, Port, SHORT_WORDS};

use super::{hvc, load_words, result, store_words};

/// What has come back from a call that sends a message and comes back with one.
#[derive(Clone, Copy)]
pub(crate) struct Answer {
    x0: u64,
    word: MessageWord,
    length: u64,
}

impl Answer {
    /// Whether it is a message without a region: one question instead of two.
    #[inline(always)]
    pub(crate) fn is_short(&self) -> bool {
        // Above the length there is the region's order, which no region has 0 of.
        self.x0 | self.word.to_register() >> 56 == 0
    }

    /// Number of its bytes.
    #[inline(always)]
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// The word, whatever it means.
    #[inline(always)]
    pub(crate) fn word(&self) -> MessageWord {
        self.word
    }

    /// The same, if the call has not failed.
    #[inline(always)]
    pub(crate) fn checked(self) -> Result<Answer, CallFailure> {
        // Known to be 0 from here on, so that nothing asks again.
        self.arrived().map(|word| Answer { x0: 0, word, length: self.length })
    }

    /// Its message word.
    #[inline(always)]
    pub(crate) fn arrived(self) -> Result<MessageWord, CallFailure> {
        result(self.x0).map(|()| self.word).map_err(|error| CallFailure { error, word: self.word })
    }
}

/// Makes the call with that number, which sends a message and comes back with one. Of what is sent, `data` holds the bytes, if `length` and
/// the word say that there are any; so it does of what comes, with zeroes behind them, and stays as it was if the call fails or brings none.
///
/// # Safety
///
/// No reference may point into the region that `word` names.
#[inline(always)]
pub(crate) unsafe fn exchange(
    number: u64,
    word: MessageWord,
    length: u64,
    data: &mut [u64; SHORT_WORDS],
) -> Answer {
    let (x0, answer, received): (u64, u64, u64);
    // SAFETY: the caller's promise; a region that comes is mapped where nothing was mapped before; `data` is read and written, no more than there is of it.
    unsafe {
        // Two, because a caller may know by now which.
        if length == 0 {
            asm!(
                "hvc #0",
                store_words!(),
                data = in(reg) data,
                length = out(reg) received,
                inlateout("x0") number => x0, inlateout("x1") word.to_register() => answer,
                out("x2") _, out("x3") _, out("x4") _, out("x5") _, out("x6") _, out("x7") _, out("x8") _, out("x9") _,
                out("x10") _, out("x11") _, out("x12") _, out("x13") _, out("x14") _, out("x15") _, out("x16") _,
                out("x17") _,
                options(nostack, preserves_flags)
            );
        } else {
            asm!(
                load_words!(),
                "hvc #0",
                store_words!(),
                data = in(reg) data,
                length = out(reg) received,
                inlateout("x0") number => x0, inlateout("x1") word.to_register() => answer,
                out("x2") _, out("x3") _, out("x4") _, out("x5") _, out("x6") _, out("x7") _, out("x8") _, out("x9") _,
                out("x10") _, out("x11") _, out("x12") _, out("x13") _, out("x14") _, out("x15") _, out("x16") _,
                out("x17") _,
                options(nostack, preserves_flags)
            );
        }
    }
    Answer { x0, word: MessageWord::from_register(answer), length: received }
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
    unsafe { exchange(Call::Call as u64, word, word.length().into(), data) }.arrived()
}

/// What a wait has brought; `None` for a word without a port: there is an interrupt, and no call.
#[inline(always)]
fn waited(answer: Answer) -> Result<Option<MessageWord>, Error> {
    let word = answer.arrived().map_err(|failure| failure.error)?;
    Ok((word.port() != Port::CONTROL).then_some(word))
}

/// [`Call::CallWait`]: the next call, its bytes in `data`, which stays as it was if there are none; `None`: there is an interrupt, and no call.
#[inline(always)]
pub fn call_wait(data: &mut [u64; SHORT_WORDS]) -> Result<Option<MessageWord>, Error> {
    waited(call_wait_into(data))
}

/// The same, whatever has come.
#[inline(always)]
pub(crate) fn call_wait_into(data: &mut [u64; SHORT_WORDS]) -> Answer {
    // SAFETY: names no region.
    unsafe { exchange(Call::CallWait as u64, MessageWord::from_register(0), 0, data) }
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
    waited(unsafe { exchange(Call::ReplyAndWait as u64, word, word.length().into(), data) })
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
    waited(unsafe { exchange(Call::ForwardAndWait as u64, word, word.length().into(), data) })
}

/// [`Call::CallSetup`]: `landing` is where regions that come by calls are mapped, or 0; `patience` how many nanoseconds a call waits, 0: for ever.
#[inline]
pub fn call_setup(port: Port, landing: u64, patience: u64) -> Result<(), Error> {
    // SAFETY: changes no memory.
    unsafe {
        hvc!(Call::CallSetup, inlateout("x1") u64::from(port.get()) => _, in("x2") landing, in("x3") patience)
    }
}
