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

use core::fmt;

use handover_abi::{Call, Error, MessageWord, Port};

use crate::{
    Channel, Lent, Region, Short,
    hvc::{self, CallFailure},
    window::{SLOT_ORDER, WINDOW},
};

mod serve;
pub use serve::{Answer, serve, wait};

/// The number of a call, and the port as the call wants it: two words that one load fetches.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Caller {
    pub(crate) number: u64,
    pub(crate) port: u64,
}

impl Caller {
    pub(crate) fn new(call: Call, port: Port) -> Caller {
        Caller { number: call as u64, port: port.get().into() }
    }
}

/// The same of a reply, with the port where it is after a message word's other fields have been shifted out.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Server {
    number: u64,
    port: u64,
}

impl Server {
    pub(crate) fn new(port: Port) -> Server {
        Server { number: Call::ReplyAndWait as u64, port: Server::port(port.get().into()) }
    }

    /// The port of a message word.
    #[inline(always)]
    fn port(word: u64) -> u64 {
        word << 40
    }

    /// Whether a message word has come by this port.
    #[inline(always)]
    fn is(&self, word: MessageWord) -> bool {
        self.port == Server::port(word.to_register())
    }
}

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

impl Channel {
    /// Calls the peer: `short` is the message and then the reply, `region` goes along, the reply's is returned.
    ///
    /// # Errors
    ///
    /// [`Error::Deadlock`] when nobody could answer, [`Error::TimedOut`], [`Error::PeerClosed`], [`Error::QueueFull`] when the peer has no room for the region. The region comes
    /// back unless a server has taken it; one that a server has forwarded is given back to free memory.
    #[inline(always)]
    pub fn call(&mut self, region: Option<Region>, short: &mut Short) -> Result<Option<Region>, CallError> {
        let leaving = place(region.as_ref());
        if self.landing.taken == leaving {
            self.call_ready(region, true, short)
        } else if self.landing.taken == 0 {
            self.call_ready(region, false, short)
        } else {
            self.call_unready(region, short)
        }
    }

    /// The same where a region may come to the landing: from which `region` goes, if `leaves` and there is one. Nothing is lent then.
    #[inline(always)]
    fn call_ready(
        &mut self,
        region: Option<Region>,
        leaves: bool,
        short: &mut Short,
    ) -> Result<Option<Region>, CallError> {
        let word = Region::word(region.as_ref(), self.caller.port, short);
        // SAFETY: `region` is owned here, so nothing refers into it; what becomes of it is seen to below.
        let answer = unsafe { hvc::exchange(self.caller.number, word, short.register(), short.words_mut()) };
        if answer.is_short() {
            short.received(answer.length());
            match region.map(Region::left) {
                Some(_) if leaves => self.landing.taken = 0,
                Some(address) => WINDOW.release(address),
                None => {}
            }
            return Ok(None);
        }
        let word = match answer.arrived() {
            Ok(word) => word,
            Err(failure) => return Err(failed(failure, region)),
        };
        short.received(answer.length());
        match region.map(Region::left) {
            // Where there was one, the next one is.
            Some(address) if leaves && word.is_landed() => {
                // SAFETY: the control OS has mapped it at the landing, which the other has left.
                return Ok(Some(unsafe { Region::from_word(word, address) }));
            }
            Some(_) if leaves => self.landing.taken = 0,
            Some(address) => WINDOW.release(address),
            None => {}
        }
        self.arrived(word).map_err(|error| CallError { error, region: None })
    }

    /// The same where there is something at the landing, or lent.
    #[cold]
    #[inline(never)]
    fn call_unready(
        &mut self,
        region: Option<Region>,
        short: &mut Short,
    ) -> Result<Option<Region>, CallError> {
        let mut leaving = place(region.as_ref());
        if let Err(error) = self.arm(&mut leaving) {
            return Err(CallError { error, region });
        }
        let word = Region::word(region.as_ref(), self.caller.port, short);
        // SAFETY: as in `call_ready`.
        let answer = unsafe { hvc::exchange(self.caller.number, word, short.register(), short.words_mut()) };
        let word = match answer.arrived() {
            Ok(word) => word,
            Err(failure) => return Err(failed(failure, region)),
        };
        if let Some(region) = region {
            left(core::slice::from_mut(self), region);
        }
        short.received(answer.length());
        self.arrived_beside_loan(word)
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
        self.call_with(Region::word(Some(region), self.caller.port, short).lent(), short)
    }

    /// The same; this partition goes on reading it.
    ///
    /// # Errors
    ///
    /// As for [`call_lending`](Channel::call_lending).
    pub fn call_showing(&mut self, region: &Region, short: &mut Short) -> Result<Option<Region>, CallError> {
        self.call_with(Region::word(Some(region), self.caller.port, short).lent().kept(), short)
    }

    fn call_with(&mut self, word: MessageWord, short: &mut Short) -> Result<Option<Region>, CallError> {
        self.arm(&mut 0).map_err(|error| CallError { error, region: None })?;
        // SAFETY: what is lent is borrowed here until it is back: alone where it goes out of reach, to read where it does not.
        let answer = unsafe { hvc::exchange(self.caller.number, word, short.register(), short.words_mut()) };
        match answer.arrived() {
            Ok(word) => {
                short.received(answer.length());
                self.arrived_beside_loan(word)
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

    /// The region that has come with a call or reply, where nothing is lent.
    #[inline(always)]
    fn arrived(&mut self, word: MessageWord) -> Result<Option<Region>, Error> {
        if !word.is_landed() {
            // Also if there is none.
            return Region::map(word);
        }
        self.landing.taken = self.landing.address;
        // SAFETY: the control OS has mapped it at the landing, where there was room for it.
        Ok(Some(unsafe { Region::from_word(word, self.landing.address) }))
    }

    /// The same where something may be lent.
    fn arrived_beside_loan(&mut self, word: MessageWord) -> Result<Option<Region>, CallError> {
        let region = self.arrived(word).map_err(|error| CallError { error, region: None })?;
        if word.is_landed() && self.loan.is_some() {
            self.landed_on_loan();
        }
        Ok(region)
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

/// Replies to the call that was taken last: with `short`, and a region.
///
/// # Errors
///
/// [`Error::BadHandle`] when the caller waits no more, [`Error::QueueFull`] when it has no room for the region, which comes back.
pub fn reply(region: Option<Region>, short: &Short) -> Result<(), CallError> {
    let word = Region::word(region.as_ref(), 0, short);
    // SAFETY: `region` is owned here, so nothing refers into it, and it is forgotten when it has gone.
    sent(unsafe { hvc::reply(word, short.registers()) }, region)
}

/// Passes the call that was taken last on to the peer of `channel`, whose reply goes to the caller.
///
/// # Errors
///
/// Those of [`reply`], and of [`Channel::call`] as far as it does not wait.
pub fn forward(channel: &Channel, region: Option<Region>, short: &Short) -> Result<(), CallError> {
    let word = Region::word(region.as_ref(), channel.caller.port, short);
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
