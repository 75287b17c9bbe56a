//! The hypercalls of direct calls.

use core::arch::asm;

use handover_abi::{Call, Error, MessageWord, Port, SHORT_WORDS};

use super::hvc;

/// Makes a call that sends a message and comes back with one. What comes back in `x1`, and in `data`, is the answer's, or of a failed call the region's that came back.
macro_rules! exchange {
    ($call:expr, $word:expr, $data:expr) => {{
        let answer: u64;
        let mut data = [0u64; SHORT_WORDS];
        let result = hvc!(
            $call,
            inlateout("x1") $word.to_register() => answer,
            inlateout("x2") $data[0] => data[0], inlateout("x3") $data[1] => data[1], inlateout("x4") $data[2] => data[2],
            inlateout("x5") $data[3] => data[3], inlateout("x6") $data[4] => data[4], inlateout("x7") $data[5] => data[5],
            inlateout("x8") $data[6] => data[6], inlateout("x9") $data[7] => data[7], inlateout("x10") $data[8] => data[8],
            inlateout("x11") $data[9] => data[9], inlateout("x12") $data[10] => data[10], inlateout("x13") $data[11] => data[11],
            inlateout("x14") $data[12] => data[12], inlateout("x15") $data[13] => data[13], inlateout("x16") $data[14] => data[14],
            inlateout("x17") $data[15] => data[15]
        );
        (result, MessageWord::from_register(answer), data)
    }};
}

/// A direct call that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallFailure {
    /// Why.
    pub error: Error,
    /// Of one that has waited ([`Error::PeerClosed`], [`Error::TimedOut`], [`Error::Deadlock`]): a word with the region that has come back, if one had gone along.
    pub word: MessageWord,
}

/// [`Call::Call`]: the reply, its bytes in `data`.
///
/// # Safety
///
/// No reference may point into the region that `word` names.
#[inline]
pub unsafe fn call(word: MessageWord, data: &mut [u64; SHORT_WORDS]) -> Result<MessageWord, CallFailure> {
    // SAFETY: the caller's promise; a region that comes is mapped where nothing was mapped before.
    let (result, answer, received) = unsafe { exchange!(Call::Call, word, data) };
    match result {
        Ok(()) => {
            *data = received;
            Ok(answer)
        }
        Err(error) => Err(CallFailure { error, word: answer }),
    }
}

/// [`Call::CallWait`]; `None`: there is an interrupt, and no call.
#[inline]
pub fn call_wait(data: &mut [u64; SHORT_WORDS]) -> Result<Option<MessageWord>, Error> {
    // SAFETY: a region that comes is mapped where nothing was mapped before.
    let (result, word, received) =
        unsafe { exchange!(Call::CallWait, MessageWord::from_register(0), [0u64; SHORT_WORDS]) };
    result?;
    Ok(taken(word, received, data))
}

#[inline]
fn taken(
    word: MessageWord,
    received: [u64; SHORT_WORDS],
    data: &mut [u64; SHORT_WORDS],
) -> Option<MessageWord> {
    (word.port() != Port::CONTROL).then(|| {
        *data = received;
        word
    })
}

/// [`Call::Reply`].
///
/// # Safety
///
/// No reference may point into the region that `word` names.
#[inline]
pub unsafe fn reply(word: MessageWord, data: &[u64; SHORT_WORDS]) -> Result<(), Error> {
    // SAFETY: the caller's promise.
    let (result, ..) = unsafe { exchange!(Call::Reply, word, data) };
    result
}

/// [`Call::ReplyAndWait`]: the next call, its bytes in `data`; `None`: there is an interrupt, and no call.
///
/// # Safety
///
/// No reference may point into the region that `word` names.
#[inline]
pub unsafe fn reply_and_wait(
    word: MessageWord,
    data: &mut [u64; SHORT_WORDS],
) -> Result<Option<MessageWord>, Error> {
    // SAFETY: the caller's promise; a region that comes is mapped where nothing was mapped before.
    let (result, word, received) = unsafe { exchange!(Call::ReplyAndWait, word, data) };
    result?;
    Ok(taken(word, received, data))
}

/// [`Call::Forward`].
///
/// # Safety
///
/// No reference may point into the region that `word` names.
#[inline]
pub unsafe fn forward(word: MessageWord, data: &[u64; SHORT_WORDS]) -> Result<(), Error> {
    // SAFETY: the caller's promise.
    let (result, ..) = unsafe { exchange!(Call::Forward, word, data) };
    result
}

/// [`Call::ForwardAndWait`]: as for [`reply_and_wait`].
///
/// # Safety
///
/// No reference may point into the region that `word` names.
#[inline]
pub unsafe fn forward_and_wait(
    word: MessageWord,
    data: &mut [u64; SHORT_WORDS],
) -> Result<Option<MessageWord>, Error> {
    // SAFETY: the caller's promise; a region that comes is mapped where nothing was mapped before.
    let (result, word, received) = unsafe { exchange!(Call::ForwardAndWait, word, data) };
    result?;
    Ok(taken(word, received, data))
}

/// [`Call::CallSetup`]: `landing` is where regions that come by calls are mapped, or 0; `patience` how many nanoseconds a call waits, 0: for ever.
#[inline]
pub fn call_setup(port: Port, landing: u64, patience: u64) -> Result<(), Error> {
    // SAFETY: changes no memory.
    unsafe {
        hvc!(Call::CallSetup, inlateout("x1") u64::from(port.get()) => _, in("x2") landing, in("x3") patience)
    }
}
