//! The side that takes calls.

use core::ops::ControlFlow;

use handover_abi::{Call, Error, MessageWord, Port};

use super::{CallError, Called, Landing, left, place};
use crate::{
    Channel, Region, Short,
    hvc::{self, CallFailure},
};

/// What becomes of a call that [`serve`] has taken.
#[derive(Debug)]
pub enum Answer {
    /// A reply: the short message, and a region.
    Reply(Option<Region>),
    /// It is passed on to the peer of the channel with that port, whose reply goes to the caller: the short message, and a region.
    Forward(Port, Option<Region>),
}

/// Waits for a call by any of the channels, as this partition's only user of direct calls on this processor. `None`: there may be an interrupt to see to
/// ([`interrupts::take`](crate::interrupts::take)); not to be waited for by WFI, since calls do not end that.
///
/// # Errors
///
/// [`Error::WrongState`] when a reply is due; [`Error::Limit`] and [`Error::NoMemory`] when there is no room for the region of the next call.
#[inline]
pub fn wait<'c>(channels: &'c mut [Channel], short: &mut Short) -> Result<Option<Called<'c>>, Error> {
    let came = first(channels, short)?;
    Ok(taken(channels, came, short, true)?.map(|arrival| arrival.called))
}

/// Takes calls by any of the channels, as this partition's only user of direct calls on this processor, and has each answered: the call's bytes are in `short`, and
/// so are the answer's. An answer and the wait for the next call are one call of the control OS. Returns what `answer` breaks with, which leaves its call unanswered;
/// or goes on when there may be an interrupt to see to, as [`wait`] does.
///
/// # Errors
///
/// Those of [`wait`], and of [`reply`](super::reply) and [`forward`](super::forward); the region that was to go along comes back.
#[inline(always)]
pub fn serve<B>(
    channels: &mut [Channel],
    short: &mut Short,
    mut answer: impl FnMut(Called<'_>, &mut Short) -> ControlFlow<B, Answer>,
) -> Result<ControlFlow<B>, CallError> {
    let failed = |error| CallError { error, region: None };
    let mut came = first(channels, short).map_err(failed)?;
    loop {
        // There is room now for what comes next, and there still is after what brings no region: one question for all of those.
        if came.is_short() {
            loop {
                let Some((index, channel)) = find(channels, came) else {
                    return no_call(came.word()).map_err(failed);
                };
                short.received(came.length());
                let reply = channel.server.number;
                let called = Called { channel: index, region: None, lent: None };
                let (number, port, region) = match answer(called, short) {
                    ControlFlow::Break(value) => return Ok(ControlFlow::Break(value)),
                    ControlFlow::Continue(answer) => answer.call(reply),
                };
                came = send_and_wait(number, port, region, short)?;
                if !came.is_short() {
                    came = came.checked().map_err(|CallFailure { error, .. }| failed(error))?;
                    break;
                }
            }
        }
        let Some(Arrival { called, landed }) = taken(channels, came, short, false).map_err(failed)? else {
            return Ok(ControlFlow::Continue(()));
        };
        let index = called.channel;
        let (number, port, region) = match answer(called, short) {
            ControlFlow::Break(value) => {
                mark(channels, index, landed);
                return Ok(ControlFlow::Break(value));
            }
            ControlFlow::Continue(answer) => answer.call(Call::ReplyAndWait as u64),
        };
        came = match region {
            // There is room again when this one has left.
            Some(region) if region.address() == landed => {
                let word = Region::word(Some(&region), port.get().into(), short);
                // SAFETY: as in `send_and_wait`.
                let came = unsafe { hvc::exchange(number, word, short.register(), short.words_mut()) };
                match came.checked() {
                    Ok(came) => {
                        _ = region.left();
                        came
                    }
                    Err(CallFailure { error, .. }) => {
                        mark(channels, index, landed);
                        return Err(CallError { error, region: Some(region) });
                    }
                }
            }
            region if landed == 0 => {
                let came = send_and_wait(number, port, region, short)?;
                came.checked().map_err(|CallFailure { error, .. }| failed(error))?
            }
            region => {
                mark(channels, index, landed);
                // By registers, so that no region has to be in memory for it.
                let (part, address, word) = Region::into_registers(region);
                // SAFETY: nobody else uses what they were made of.
                let came = unsafe { arm_send_and_wait(number, port, channels, part, address, word, short) }?;
                came.checked().map_err(|CallFailure { error, .. }| failed(error))?
            }
        };
    }
}

impl Answer {
    /// The number of the call that gives it, the port in its message word, and the region.
    #[inline(always)]
    fn call(self, reply: u64) -> (u64, Port, Option<Region>) {
        match self {
            Answer::Reply(region) => (reply, Port::CONTROL, region),
            Answer::Forward(port, region) => (Call::ForwardAndWait as u64, port, region),
        }
    }
}

/// Replies, or forwards to `port`, as the call with that number does, and waits. An error without a region to go back is left to who looks at what has come.
#[inline(always)]
fn send_and_wait(
    number: u64,
    port: Port,
    region: Option<Region>,
    short: &mut Short,
) -> Result<hvc::Answer, CallError> {
    let word = Region::word(region.as_ref(), port.get().into(), short);
    // SAFETY: `region` is owned here, so nothing refers into it, and it is forgotten when it has gone.
    let came = unsafe { hvc::exchange(number, word, short.register(), short.words_mut()) };
    if let Some(region) = region {
        if let Err(CallFailure { error, .. }) = came.arrived() {
            return Err(CallError { error, region: Some(region) });
        }
        region.gone();
    }
    Ok(came)
}

/// What has come.
struct Arrival<'c> {
    called: Called<'c>,
    /// The address of the channel's landing, if its region is there and that has not been [marked](mark); [`Landing::LENT`] if something is lent; else 0.
    landed: u64,
}

/// Waits for a call with no reply due. There is room then for what comes, and nothing is lent.
#[inline]
fn first(channels: &mut [Channel], short: &mut Short) -> Result<hvc::Answer, Error> {
    channels.iter_mut().for_each(Channel::settle);
    arm(channels, None)?;
    hvc::call_wait_into(short.words_mut()).checked().map_err(|failure| failure.error)
}

/// Replies, or forwards to `port`, as the call with that number does, and waits, where something is lent, or there is no room yet for the region of the next call.
///
/// # Safety
///
/// As for [`Region::from_registers`] with `part`, `address` and `word`, if `part` is not 0.
#[cold]
#[inline(never)]
unsafe fn arm_send_and_wait(
    number: u64,
    port: Port,
    channels: &mut [Channel],
    part: u64,
    address: u64,
    word: u64,
    short: &mut Short,
) -> Result<hvc::Answer, CallError> {
    // SAFETY: the caller's promise.
    let region = (part != 0).then(|| unsafe { Region::from_registers(part, address, word) });
    if let Err(error) = arm(channels, region.as_ref()) {
        return Err(CallError { error, region });
    }
    let word = Region::word(region.as_ref(), port.get().into(), short);
    // SAFETY: as in `serve`.
    let came = unsafe { hvc::exchange(number, word, short.register(), short.words_mut()) };
    if let Err(CallFailure { error, .. }) = came.arrived() {
        return Err(CallError { error, region });
    }
    if let Some(region) = region {
        left(channels, region);
    }
    channels.iter_mut().for_each(Channel::returned);
    Ok(came)
}

/// [Arms](Channel::arm) all channels, one of them perhaps with the place of the region that leaves.
#[inline(always)]
fn arm(channels: &mut [Channel], region: Option<&Region>) -> Result<(), Error> {
    let mut leaving = place(region);
    channels.iter_mut().try_for_each(|channel| channel.arm(&mut leaving))
}

/// What has landed at a channel stays there.
#[inline(always)]
fn mark(channels: &mut [Channel], channel: usize, landed: u64) {
    if landed > Landing::LENT
        && let Some(channel) = channels.get_mut(channel)
    {
        channel.landing.taken = landed;
    }
}

/// What has come, by which of the channels. A region that has landed is marked at once if `stays`.
#[inline(always)]
fn taken<'c>(
    channels: &'c mut [Channel],
    came: hvc::Answer,
    short: &mut Short,
    stays: bool,
) -> Result<Option<Arrival<'c>>, Error> {
    let word = came.arrived().map_err(|failure| failure.error)?;
    let Some((index, channel)) = find(channels, came) else {
        return no_call(word).map(|_: ControlFlow<()>| None);
    };
    short.received(came.length());
    let arrival =
        |region, lent, landed| Ok(Some(Arrival { called: Called { channel: index, region, lent }, landed }));
    if word.is_lent() {
        return arrival(None, channel.borrowed(word)?, Landing::LENT);
    }
    if stays || !word.is_landed() {
        return arrival(channel.arrived(word)?, None, 0);
    }
    let address = channel.landing.address;
    // SAFETY: the control OS has mapped it at the landing, where there was room for it.
    arrival(Some(unsafe { Region::from_word(word, address) }), None, address)
}

/// The channel that a call has come by, and its index.
#[inline(always)]
fn find(channels: &mut [Channel], came: hvc::Answer) -> Option<(usize, &mut Channel)> {
    channels.iter_mut().enumerate().find(|(_, channel)| channel.server.is(came.word()))
}

/// What comes by none of the channels: an interrupt, or by one that the caller of [`wait`] keeps elsewhere.
#[cold]
fn no_call<B>(word: MessageWord) -> Result<ControlFlow<B>, Error> {
    if word.port() == Port::CONTROL {
        return Ok(ControlFlow::Continue(()));
    }
    if let Some(handle) = word.region().filter(|_| !word.is_lent()) {
        // SAFETY: nothing refers into what has just come.
        let _freed: Result<(), Error> = unsafe { hvc::region_destroy(handle) };
    }
    Err(Error::BadHandle)
}
