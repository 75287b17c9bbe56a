//! Direct calls: the caller waits, the server runs at once on the caller's processor and time, and the reply comes straight back.
//!
//! ```ignore
//! let mut short = Short::from(b"17 plus 25");
//! channel.call(None, &mut short)?; // the client
//!
//! // The server.
//! calls::serve(&mut channels, &mut short, |call, short| {
//!     let answer: Option<Region> = work(short, call.region);
//!     ControlFlow::<()>::Continue(Answer::Reply(answer))
//! })?;
//! ```
//!
//! A region goes along for good, or is lent until the reply: `channel.call_lending(&mut region, &mut short)?` takes it out of reach here meanwhile, which
//! the borrow says, and the server reads it: `call.lent`. It comes back whatever happens.
//!
//! A processor takes one call at a time. A server that knows somebody better passes it on ([`Answer::Forward`], [`forward`]), and the reply goes past it. What is
//! not answered at once, [`wait`] takes, and [`reply`] answers.

use core::{fmt, ops::ControlFlow};

use handover_abi::{Call, Error, MessageWord, Port};

use crate::{
    Channel, Lent, Region, Short,
    hvc::{self, Arrival, CallFailure},
    window::{SLOT_ORDER, WINDOW},
};

/// A call, reply or forward that came to nothing.
#[derive(Debug)]
pub struct CallError {
    /// Why.
    pub error: Error,
    /// The region that was to go along, if nobody has taken it.
    pub region: Option<Region>,
}

impl From<CallError> for Error {
    fn from(error: CallError) -> Error {
        error.error
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no answer: {}", self.error)
    }
}

impl core::error::Error for CallError {}

/// A call that this processor has taken; its bytes are where [`wait`] was told to put them.
#[derive(Debug)]
pub struct Called<'c> {
    /// Which of the channels it came by.
    pub channel: usize,
    /// Its region.
    pub region: Option<Region>,
    /// What it lends.
    pub lent: Option<Lent<'c>>,
}

#[inline(always)]
fn word(port: Port, region: Option<&Region>, short: &Short) -> MessageWord {
    MessageWord::new(port, region.map(Region::handle), short.length())
}

impl Channel {
    /// Calls the peer: `short` is the message and then the reply, `region` goes along, the reply's is returned.
    ///
    /// # Errors
    ///
    /// [`Error::Deadlock`] when nobody could answer, [`Error::TimedOut`], [`Error::PeerClosed`], [`Error::QueueFull`] when the peer has no room for the region. The region comes
    /// back unless a server has taken it; one that a server has forwarded is given back to free memory.
    #[inline(always)]
    pub fn call(&mut self, region: Option<Region>, short: &mut Short) -> Result<Option<Region>, CallError> {
        if let Err(error) = self.arm(&mut place(region.as_ref())) {
            return Err(CallError { error, region });
        }
        let word = word(self.port(), region.as_ref(), short);
        // SAFETY: `region` is owned here, so nothing refers into it; what becomes of it is seen to below.
        match unsafe { hvc::call_into(word, short.register(), short.words_mut()) } {
            Ok((answer, length)) => {
                if let Some(region) = region {
                    left(core::slice::from_mut(self), region);
                }
                short.received(length);
                if answer.region().is_none() {
                    return Ok(None);
                }
                self.arrived(answer).map_err(|error| CallError { error, region: None })
            }
            Err(failure) => Err(failed(failure, region)),
        }
    }

    /// Calls the peer and lends it a region until it replies: the peer reads, and nobody here can touch it meanwhile. It comes back whatever happens, as
    /// it was and where it was. What the reply brings is returned.
    ///
    /// # Errors
    ///
    /// As for [`call`](Channel::call); [`Error::Limit`] when there is no control memory to lend it by.
    pub fn call_lending(
        &mut self,
        region: &mut Region,
        short: &mut Short,
    ) -> Result<Option<Region>, CallError> {
        self.call_with(word(self.port(), Some(region), short).lent(), short)
    }

    /// The same; this partition goes on reading it.
    ///
    /// # Errors
    ///
    /// As for [`call_lending`](Channel::call_lending).
    pub fn call_showing(&mut self, region: &Region, short: &mut Short) -> Result<Option<Region>, CallError> {
        self.call_with(word(self.port(), Some(region), short).lent().kept(), short)
    }

    fn call_with(&mut self, word: MessageWord, short: &mut Short) -> Result<Option<Region>, CallError> {
        self.arm(&mut 0).map_err(|error| CallError { error, region: None })?;
        // SAFETY: what is lent is borrowed here until it is back: alone where it goes out of reach, to read where it does not.
        match unsafe { hvc::call_into(word, short.register(), short.words_mut()) } {
            Ok((answer, length)) => {
                short.received(length);
                self.arrived(answer).map_err(|error| CallError { error, region: None })
            }
            Err(CallFailure { error, word }) if word.is_lent() => Err(CallError { error, region: None }),
            Err(failure) => Err(failed(failure, None)),
        }
    }

    /// How long calls wait for their replies, in nanoseconds; 0: for ever.
    ///
    /// # Errors
    ///
    /// Those of the call.
    pub fn set_patience(&mut self, patience: u64) -> Result<(), Error> {
        hvc::call_setup(self.port(), self.landing.address, patience)?;
        self.patience = patience;
        Ok(())
    }

    /// Makes sure that regions which come by calls are mapped where this channel has room. That may be where `leaving` is, the address of a region that goes
    /// first, or 0. It is 0 afterwards if that is so; the place becomes the channel's when the region has [left].
    #[inline(always)]
    fn arm(&mut self, leaving: &mut u64) -> Result<(), Error> {
        if self.landing.is_ready(leaving) { Ok(()) } else { self.arm_anew() }
    }

    #[cold]
    fn arm_anew(&mut self) -> Result<(), Error> {
        // What is lent is there until the reply, and no longer.
        if self.landing.taken == Landing::LENT
            || self.loan.as_ref().is_some_and(|loan| loan.is_at(self.landing.address))
        {
            return Ok(());
        }
        let address = WINDOW.claim(SLOT_ORDER).ok_or(Error::InUse)?.get();
        if address != self.landing.address {
            hvc::call_setup(self.port(), address, self.patience).inspect_err(|_| WINDOW.release(address))?;
        }
        let taken = if self.loan.is_some() { Landing::LENT } else { 0 };
        self.landing = Landing { address, taken };
        Ok(())
    }

    /// The region that has come with a call or reply.
    #[inline(always)]
    fn arrived(&mut self, word: MessageWord) -> Result<Option<Region>, Error> {
        if word.region().is_none() {
            return Ok(None);
        }
        if !word.is_landed() {
            return Region::map(word);
        }
        self.landing.taken = self.landing.address;
        if self.loan.is_some() {
            self.landed_on_loan();
        }
        // SAFETY: the control OS has mapped it at the landing, where there was room for it.
        Ok(Some(unsafe { Region::from_word(word, self.landing.address) }))
    }

    /// A region has landed, and something was lent: there, so that it is no more, or elsewhere.
    #[cold]
    fn landed_on_loan(&mut self) {
        if self.loan.take_if(|loan| loan.is_at(self.landing.address)).is_none() {
            self.landing.taken |= Landing::LENT;
        }
    }
}

/// Where regions are mapped that come by a channel's direct calls: a slot of the message window, which the control OS knows.
#[derive(Debug)]
pub(crate) struct Landing {
    /// The slot, or 0.
    pub(crate) address: u64,
    /// 0 if there is room, and the channel is lent nothing. Otherwise the address of what is there, with [`LENT`](Landing::LENT) if something else is lent, or
    /// [`NOWHERE`](Landing::NOWHERE).
    pub(crate) taken: u64,
}

impl Landing {
    /// None yet.
    pub(crate) const NONE: Landing = Landing { address: 0, taken: Landing::NOWHERE };
    /// There is no slot.
    const NOWHERE: u64 = 1;
    /// The channel is lent something that is mapped elsewhere.
    pub(crate) const LENT: u64 = 2;

    /// Whether a region can come, once one has left that is at `leaving`, which is 0 afterwards if it is this place that it leaves.
    #[inline(always)]
    fn is_ready(&self, leaving: &mut u64) -> bool {
        if self.taken == *leaving {
            *leaving = 0;
            return true;
        }
        self.taken == 0
    }

    /// The slot, if nothing is there.
    pub(crate) fn free(&self) -> Option<u64> {
        (self.taken == 0).then_some(self.address)
    }
}

/// Where a region is that goes, or 0.
#[inline(always)]
fn place(region: Option<&Region>) -> u64 {
    region.map_or(0, Region::address)
}

/// A region has gone by one of the `channels`: its place is that channel's for which it was [armed](Channel::arm), or free.
#[inline(always)]
fn left(channels: &mut [Channel], region: Region) {
    let address = region.left();
    match channels.iter_mut().find(|channel| channel.landing.taken == address) {
        Some(channel) => channel.landing.taken = 0,
        None => WINDOW.release(address),
    }
}

#[cold]
fn failed(CallFailure { error, word }: CallFailure, region: Option<Region>) -> CallError {
    // Errors of other kinds come at once, and `x1` may be a detail of theirs.
    let waits = matches!(error, Error::TimedOut | Error::PeerClosed | Error::Deadlock);
    // The word is as it was in a call that has not waited, and names no port in one that has.
    if !waits || word.port() != Port::CONTROL {
        return CallError { error, region };
    }
    let back = word.region();
    let region = match region {
        // By that name and as large: it may be used as this one, whichever it is.
        Some(region) if back == Some(region.handle()) && has_size(&region) => region.remap(),
        left => {
            // A server has it, or had.
            left.into_iter().for_each(Region::gone);
            if let Some(handle) = back {
                // SAFETY: it was a server's, which forwarded the call with it, and is mapped nowhere.
                let _freed: Result<(), Error> = unsafe { hvc::region_destroy(handle) };
            }
            None
        }
    };
    CallError { error, region }
}

fn has_size(region: &Region) -> bool {
    hvc::region_info(region.handle()).is_ok_and(|(size, _)| size == region.size() as u64)
}

/// Waits for a call by any of the channels, as this partition's only user of direct calls on this processor. `None`: there may be an interrupt to see to
/// ([`interrupts::take`](crate::interrupts::take)); not to be waited for by WFI, since calls do not end that.
///
/// # Errors
///
/// [`Error::WrongState`] when a reply is due; [`Error::Limit`] and [`Error::NoMemory`] when there is no room for the region of the next call.
#[inline]
pub fn wait<'c>(channels: &'c mut [Channel], short: &mut Short) -> Result<Option<Called<'c>>, Error> {
    let arrival = first(channels, short)?;
    taken(channels, arrival, short)
}

/// Replies to the call that was taken last: with `short`, and a region.
///
/// # Errors
///
/// [`Error::BadHandle`] when the caller waits no more, [`Error::QueueFull`] when it has no room for the region, which comes back.
pub fn reply(region: Option<Region>, short: &Short) -> Result<(), CallError> {
    let word = word(Port::CONTROL, region.as_ref(), short);
    // SAFETY: `region` is owned here, so nothing refers into it, and it is forgotten when it has gone.
    sent(unsafe { hvc::reply(word, short.registers()) }, region)
}

/// Passes the call that was taken last on to the peer of `channel`, whose reply goes to the caller.
///
/// # Errors
///
/// Those of [`reply`], and of [`Channel::call`] as far as it does not wait.
pub fn forward(channel: &Channel, region: Option<Region>, short: &Short) -> Result<(), CallError> {
    let word = word(channel.port(), region.as_ref(), short);
    // SAFETY: as for `reply`.
    sent(unsafe { hvc::forward(word, short.registers()) }, region)
}

/// [`forward`] with what the caller has lent: who is behind `channel` reads it then, until its reply.
///
/// # Errors
///
/// Those of [`forward`]; the loan stays.
pub fn forward_lent(channel: &Channel, lent: &Lent<'_>, short: &Short) -> Result<(), Error> {
    let word = MessageWord::new(channel.port(), Some(lent.handle()), short.length());
    // SAFETY: what goes is not this partition's, and is reached by atomics alone, which find nothing any more.
    unsafe { hvc::forward(word, short.registers()) }
}

/// What becomes of a call that [`serve`] has taken.
#[derive(Debug)]
pub enum Answer {
    /// A reply: the short message, and a region.
    Reply(Option<Region>),
    /// It is passed on to the peer of the channel with that port, whose reply goes to the caller: the short message, and a region.
    Forward(Port, Option<Region>),
}

/// Takes calls by any of the channels, as this partition's only user of direct calls on this processor, and has each answered: the call's bytes are in `short`, and
/// so are the answer's. An answer and the wait for the next call are one call of the control OS. Returns what `answer` breaks with, which leaves its call unanswered;
/// or goes on when there may be an interrupt to see to, as [`wait`] does.
///
/// # Errors
///
/// Those of [`wait`], and of [`reply`] and [`forward`]; the region that was to go along comes back.
#[inline(always)]
pub fn serve<B>(
    channels: &mut [Channel],
    short: &mut Short,
    mut answer: impl FnMut(Called<'_>, &mut Short) -> ControlFlow<B, Answer>,
) -> Result<ControlFlow<B>, CallError> {
    let failed = |error| CallError { error, region: None };
    let mut arrival = first(channels, short).map_err(failed)?;
    loop {
        let Some(called) = taken(channels, arrival, short).map_err(failed)? else {
            return Ok(ControlFlow::Continue(()));
        };
        let (call, port, region) = match answer(called, short) {
            ControlFlow::Break(value) => return Ok(ControlFlow::Break(value)),
            ControlFlow::Continue(Answer::Reply(region)) => (Call::ReplyAndWait, Port::CONTROL, region),
            ControlFlow::Continue(Answer::Forward(port, region)) => (Call::ForwardAndWait, port, region),
        };
        arrival = send_and_wait(call, port, channels, region, short)?;
    }
}

/// Waits for a call with no reply due.
#[inline]
fn first(channels: &mut [Channel], short: &mut Short) -> Result<Arrival, Error> {
    channels.iter_mut().for_each(Channel::settle);
    arm(channels, None)?;
    hvc::call_wait_into(short.words_mut())
}

/// Replies, or forwards to `port`, as `call` says, and waits.
#[inline(always)]
fn send_and_wait(
    call: Call,
    port: Port,
    channels: &mut [Channel],
    region: Option<Region>,
    short: &mut Short,
) -> Result<Arrival, CallError> {
    let mut leaving = place(region.as_ref());
    if !channels.iter().all(|channel| channel.landing.is_ready(&mut leaving)) {
        return arm_send_and_wait(call, port, channels, region, short);
    }
    send_and_wait_armed(call, port, channels, region, short)
}

/// The same where something is lent, or there is no room yet for the region of the next call.
#[cold]
#[inline(never)]
fn arm_send_and_wait(
    call: Call,
    port: Port,
    channels: &mut [Channel],
    region: Option<Region>,
    short: &mut Short,
) -> Result<Arrival, CallError> {
    if let Err(error) = arm(channels, region.as_ref()) {
        return Err(CallError { error, region });
    }
    let arrival = send_and_wait_armed(call, port, channels, region, short)?;
    channels.iter_mut().for_each(Channel::returned);
    Ok(arrival)
}

#[inline(always)]
fn send_and_wait_armed(
    call: Call,
    port: Port,
    channels: &mut [Channel],
    region: Option<Region>,
    short: &mut Short,
) -> Result<Arrival, CallError> {
    let word = word(port, region.as_ref(), short);
    // SAFETY: `region` is owned here, so nothing refers into it, and it is forgotten when it has gone.
    match unsafe { hvc::send_and_wait(call, word, short.register(), short.words_mut()) } {
        Ok(arrival) => {
            if let Some(region) = region {
                left(channels, region);
            }
            Ok(arrival)
        }
        Err(error) => Err(CallError { error, region }),
    }
}

/// [Arms](Channel::arm) all channels, one of them perhaps with the place of the region that leaves.
#[inline(always)]
fn arm(channels: &mut [Channel], region: Option<&Region>) -> Result<(), Error> {
    let mut leaving = place(region);
    channels.iter_mut().try_for_each(|channel| channel.arm(&mut leaving))
}

#[inline]
fn sent(result: Result<(), Error>, region: Option<Region>) -> Result<(), CallError> {
    match result {
        Ok(()) => {
            if let Some(region) = region {
                region.gone();
            }
            Ok(())
        }
        Err(error) => Err(CallError { error, region }),
    }
}

#[inline(always)]
fn taken<'c>(
    channels: &'c mut [Channel],
    (word, length): Arrival,
    short: &mut Short,
) -> Result<Option<Called<'c>>, Error> {
    let found = channels.iter_mut().enumerate().find(|(_, channel)| channel.port() == word.port());
    let Some((index, channel)) = found else { return elsewhere(word) };
    short.received(length);
    if word.region().is_none() {
        return Ok(Some(Called { channel: index, region: None, lent: None }));
    }
    if word.is_lent() {
        return Ok(Some(Called { channel: index, region: None, lent: channel.borrowed(word)? }));
    }
    Ok(Some(Called { channel: index, region: channel.arrived(word)?, lent: None }))
}

/// What comes by none of the channels: an interrupt, or by one that the caller of [`wait`] keeps elsewhere.
#[cold]
fn elsewhere<'c>(word: MessageWord) -> Result<Option<Called<'c>>, Error> {
    if word.port() == Port::CONTROL {
        return Ok(None);
    }
    if let Some(handle) = word.region().filter(|_| !word.is_lent()) {
        // SAFETY: nothing refers into what has just come.
        let _freed: Result<(), Error> = unsafe { hvc::region_destroy(handle) };
    }
    Err(Error::BadHandle)
}
