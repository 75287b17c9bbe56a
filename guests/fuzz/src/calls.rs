//! Direct calls, as a caller and as a server. The partner is at the other end; it calls when it is told to, and serves when it is told to.

use handover_guest::{
    Error,
    abi::{
        Call, Causes, MessageWord, Port, RegionHandle, RequestFlags, SHORT_WORDS,
        layout::{MEMORY_BASE, WINDOW_SLOT},
    },
    processor,
};

use crate::{
    connections::{self, word},
    content,
    coverage::Outcome,
    limits,
    partner::Partner,
    stream::{Answer, Stream},
    window,
};

const PAGE: u64 = 4096;
/// Nanoseconds that a call waits that nobody may take.
const PATIENCE: u64 = 200_000;
/// Tries until a server is found waiting.
const TRIES: usize = 4096;
/// Where what comes by calls lands, in a GiB of its own.
const LANDING_GIB: u64 = window::FRESH_GIBS - 1;

/// How a region goes with a call.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Goes {
    Moved,
    Lent,
    Shown,
}

fn message(port: u64, region: u64, length: u8) -> MessageWord {
    let port = if port >> 24 == 0 { port as u32 } else { 0xff_ffff };
    MessageWord::new(Port::new(port), (region != 0).then(|| RegionHandle::new(region as u32)), length)
}

fn region_of(word: u64) -> u64 {
    word >> 24 & 0xff_ffff
}

impl Stream {
    /// A call that carries a message in its registers.
    fn pass(&mut self, call: Call, word: MessageWord) -> Answer {
        let data: [u64; SHORT_WORDS] = content::message(self.random.next());
        let mut arguments = [0; 1 + SHORT_WORDS];
        arguments[0] = word.to_register();
        arguments[1..].copy_from_slice(&data);
        self.call(call, &arguments)
    }

    /// Calls; what the reply brings goes.
    pub(crate) fn direct(&mut self, port: u64, region: u64, length: u8, how: Goes) -> Outcome {
        let word = message(port, region, length);
        let word = match how {
            Goes::Moved => word,
            Goes::Lent => word.lent(),
            Goes::Shown => word.lent().kept(),
        };
        let answer = self.pass(Call::Call, word);
        if answer.done() && region_of(answer.x[1]) != 0 {
            self.call(Call::RegionDestroy, &[region_of(answer.x[1])]);
        }
        answer.outcome
    }

    /// A call about direct calls that does not wait for ever: nobody takes calls at its own ports but in the scenarios.
    pub(crate) fn direct_step(&mut self) {
        let (port, length) = (self.port(), self.random.below(130) as u8);
        match self.random.below(6) {
            0 | 1 => {
                let landing = self.random.one_of(&[0, window::fresh(LANDING_GIB), PAGE, MEMORY_BASE]);
                let patience = 1 + self.random.below(PATIENCE);
                let prepared = self.call(Call::CallSetup, &[port, landing, patience]).done();
                // Elsewhere another processor may make a port of that number anew, whose calls wait for ever.
                if prepared && self.exact() {
                    let region = self.random.one_of(&[0, 0, 0, 0xff_fffe]);
                    self.direct(port, region, length, Goes::Lent);
                }
            }
            2 => _ = self.pass(Call::Reply, message(port & 1, 0, length)),
            3 => _ = self.pass(Call::ReplyAndWait, message(port & 1, 0, length)),
            4 => _ = self.pass(Call::Forward, message(port, 0, length)),
            _ => _ = self.pass(Call::ForwardAndWait, message(port, 0, length)),
        }
    }

    /// Waits for a call by that port; strangers are answered. What stands in the way, or its message word.
    fn take(&mut self, port: u64) -> Result<u64, Outcome> {
        loop {
            let taken = self.pass(Call::CallWait, message(0, 0, 0));
            if !taken.done() {
                return Err(taken.outcome);
            }
            match taken.x[1] & 0xff_ffff {
                0 => processor::yield_now(),
                found if found == port => return Ok(taken.x[1]),
                _ => self.answer(taken.x[1]),
            }
        }
    }

    /// Replies with nothing, to a call with that word.
    fn answer(&mut self, taken: u64) {
        if region_of(taken) != 0 && !MessageWord::from_register(taken).is_lent() {
            self.call(Call::RegionDestroy, &[region_of(taken)]);
        }
        self.pass(Call::Reply, message(0, 0, 8));
    }
}

/// Ports that no call goes through, and one to itself.
struct Ports {
    unanswered: u64,
    severed: u64,
    timed_out: u64,
    one_way: [u64; 2],
    own: [u64; 2],
}

impl Ports {
    fn new(stream: &mut Stream) -> Option<Ports> {
        let own = limits::channel(stream, RequestFlags::empty())?;
        let one_way = limits::channel(stream, RequestFlags::RECEIVE_ONLY)?;
        let (severed, peer) = limits::channel(stream, RequestFlags::empty())?;
        stream.call(Call::Disconnect, &[peer]);
        let timed_out = connections::timed_out(stream)?;
        let unanswered =
            stream.call(Call::Connect, &[stream.setting.own, word(1, RequestFlags::empty())]).x[1];
        let [own, one_way] = [own, one_way].map(|(client, server)| [client, server]);
        Some(Ports { unanswered, severed, timed_out, one_way, own })
    }

    fn close(self, stream: &mut Stream) {
        let Ports { unanswered, severed, timed_out, one_way: [a, b], own: [c, d] } = self;
        for port in [unanswered, severed, timed_out, a, b, c, d] {
            stream.call(Call::Disconnect, &[port]);
        }
    }
}

/// What of a short run's results chance alone would not make certain, before other processors take part.
pub(crate) fn edges(stream: &mut Stream, partner: &mut Partner) {
    let Some(ports) = Ports::new(stream) else {
        return stream.fail(format_args!("no ports for direct calls"));
    };
    as_a_caller(stream, partner, &ports);
    as_a_server(stream, partner, &ports);
    partner.hoard(stream);
    without_room(stream, partner, &ports);
    partner.release(stream);
    ports.close(stream);
    while stream.call(Call::EventNext, &[]).done() {}
}

fn region(stream: &mut Stream, order: u8) -> u64 {
    let at = stream.slots.base() + 2 * WINDOW_SLOT;
    let at = if order > 21 { 0 } else { at };
    stream.call(Call::RegionCreate, &[1 << order, at]).x[1]
}

fn as_a_caller(stream: &mut Stream, partner: &mut Partner, ports: &Ports) {
    let (port, wild) = (partner.port, stream.wild());
    let landing = window::fresh(LANDING_GIB);
    for (port, at) in [(wild, 0), (port, PAGE), (port, MEMORY_BASE), (port, landing)] {
        stream.call(Call::CallSetup, &[port, at, PATIENCE]);
    }
    for (port, length) in [
        (port, 129),
        (wild, 8),
        (ports.unanswered, 8),
        (ports.severed, 8),
        (ports.timed_out, 8),
        (ports.one_way[0], 8),
        (ports.own[0], 8),
        // Nobody serves.
        (port, 8),
    ] {
        stream.direct(port, 0, length, Goes::Moved);
    }
    stream.direct(port, 0xff_fffe, 8, Goes::Moved);
    partner.serve(stream);
    stream.call(Call::CallSetup, &[port, landing, 0]);
    for order in [12, 16, 21, 22] {
        for how in [Goes::Lent, Goes::Shown, Goes::Moved] {
            let region = region(stream, order);
            let outcome = stream.direct(port, region, 128, how);
            if outcome != Outcome::Done {
                stream.fail(format_args!("a call of the partner comes to {outcome:?}"));
            }
            if how != Goes::Moved && !stream.call(Call::RegionDestroy, &[region]).done() {
                stream.fail(format_args!("what was lent has not come back"));
            }
        }
    }
    partner.leave(stream);
}

/// Replies and forwards that come to nothing, each by both calls there are for it.
fn as_a_server(stream: &mut Stream, partner: &mut Partner, ports: &Ports) {
    let wild = stream.wild();
    let replies = [Call::Reply, Call::ReplyAndWait];
    let forwards = [Call::Forward, Call::ForwardAndWait];
    for call in replies.into_iter().chain(forwards) {
        // Nothing is owed.
        stream.pass(call, message(0, 0, 8));
    }
    for round in [0, 1] {
        partner.call(stream, true);
        let Ok(taken) = stream.take(partner.port) else {
            return stream.fail(format_args!("the partner's call cannot be taken"));
        };
        let lent = region_of(taken);
        if !MessageWord::from_register(taken).is_lent() || lent == 0 {
            stream.fail(format_args!("the partner's call lends nothing: {taken:#x}"));
        }
        // It is not this partition's to do with what it likes.
        for call in [Call::RegionDestroy, Call::RegionInfo] {
            stream.call(call, &[lent]);
        }
        stream.send_message(partner.port, lent, 8);
        stream.direct(partner.port, lent, 8, Goes::Moved);
        stream.pass(Call::CallWait, message(0, 0, 0));
        for call in replies {
            for word in [message(0, 0, 129), message(1, 0, 8), message(0, 0xff_fffe, 8), message(0, lent, 8)]
            {
                stream.pass(call, word);
            }
        }
        for call in forwards {
            let own = ports.own[0];
            for port in
                [wild, ports.unanswered, ports.severed, ports.timed_out, ports.one_way[0], partner.port]
            {
                stream.pass(call, message(port, 0, 8));
            }
            stream.pass(call, message(own, 0, 129));
            stream.pass(call, message(own, 0xff_fffe, 8));
        }
        // To itself, with what is lent; then nobody has it.
        stream.pass(Call::Forward, message(ports.own[0], lent, 8));
        if stream.take(ports.own[1]).is_err() {
            stream.fail(format_args!("its own call cannot be taken"));
        }
        let mut taken = stream.pass(Call::ForwardAndWait, message(ports.own[0], 0, 8)).x[1];
        if taken & 0xff_ffff == 0 {
            taken = stream.take(ports.own[1]).unwrap_or(0);
        }
        if round == 0 {
            stream.answer(taken);
            continue;
        }
        // The next call is there already, or comes.
        partner.call_after(stream);
        let taken = stream.pass(Call::ReplyAndWait, message(0, 0, 8));
        let taken = if taken.x[1] & 0xff_ffff == 0 { stream.take(partner.port) } else { Ok(taken.x[1]) };
        stream.answer(taken.unwrap_or(0));
    }
}

/// The partner may have no more memory.
fn without_room(stream: &mut Stream, partner: &mut Partner, ports: &Ports) {
    let region = region(stream, 12);
    partner.call(stream, false);
    if stream.take(partner.port).is_err() {
        return stream.fail(format_args!("the partner's call cannot be taken"));
    }
    for call in [Call::Reply, Call::ReplyAndWait] {
        stream.pass(call, message(0, region, 8));
    }
    for call in [Call::Forward, Call::ForwardAndWait] {
        stream.pass(call, message(ports.own[0], region, 8));
    }
    stream.answer(0);
    partner.serve(stream);
    stream.call(Call::CallSetup, &[partner.port, 0, PATIENCE]);
    // Where it does not wait yet, the call waits for it in vain.
    let full = (0..TRIES)
        .any(|_| stream.direct(partner.port, region, 8, Goes::Moved) == Outcome::Fails(Error::QueueFull));
    if !full {
        stream.fail(format_args!("the partner always has room"));
    }
    stream.call(Call::CallSetup, &[partner.port, 0, 0]);
    partner.leave(stream);
    stream.call(Call::RegionDestroy, &[region]);
}

/// A call of the partner's that this partition has taken, while it uses up what there is.
pub(crate) struct Claim {
    partner: u64,
    own: [u64; 2],
    stands: Stands,
}

/// How it stands with the call.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stands {
    Owed,
    /// In this partition's own queue.
    Queued,
    Answered,
}

impl Claim {
    /// Has the partner call, and takes the call. What its reply brings is to land where there is no table yet.
    pub(crate) fn new(stream: &mut Stream, partner: &mut Partner) -> Option<Claim> {
        let (client, server) = limits::channel(stream, RequestFlags::empty())?;
        partner.call_from_afar(stream);
        if stream.take(partner.port).is_err() {
            stream.fail(format_args!("the partner's call cannot be taken"));
            return None;
        }
        Some(Claim { partner: partner.port, own: [client, server], stands: Stands::Owed })
    }

    /// There is no room: a reply cannot bring `region` to the partner, and once that has gone to a queue it does not come out again. `hoard` takes what
    /// becomes free by that.
    pub(crate) fn tries(
        &mut self,
        stream: &mut Stream,
        region: u64,
        lands: bool,
        hoard: impl FnOnce(&mut Stream),
    ) {
        for call in [Call::Reply, Call::ReplyAndWait].into_iter().filter(|_| lands) {
            let answer = stream.pass(call, message(0, region, 8));
            if answer.done() {
                // Others are at work, and there was room.
                self.stands = Stands::Answered;
                if call == Call::ReplyAndWait && answer.x[1] & 0xff_ffff != 0 {
                    stream.answer(answer.x[1]);
                }
                return;
            }
        }
        let landing = if lands { window::fresh(LANDING_GIB - 1) } else { 0 };
        stream.call(Call::CallSetup, &[self.own[1], landing, 0]);
        if !stream.pass(Call::Forward, message(self.own[0], region, 8)).done() {
            stream.call(Call::RegionDestroy, &[region]);
            return;
        }
        self.stands = Stands::Queued;
        hoard(stream);
        if let Ok(taken) = stream.take(self.own[1]) {
            // The same.
            stream.call(Call::RegionDestroy, &[region_of(taken)]);
            self.stands = Stands::Owed;
        }
    }

    /// There is room again: takes what waits in the queue, and replies.
    pub(crate) fn finish(self, stream: &mut Stream) {
        match self.stands {
            Stands::Answered => {}
            Stands::Owed => stream.answer(0),
            Stands::Queued => match stream.take(self.own[1]) {
                Ok(taken) => stream.answer(taken),
                Err(outcome) => stream.fail(format_args!("its own call cannot be taken: {outcome:?}")),
            },
        }
        let status = stream.call(Call::PortStatus, &[self.partner]);
        if Causes::from_bits_retain(status.x[1] as u32).contains(Causes::PEER_CLOSED) {
            stream.fail(format_args!("the partner has gone"));
        }
        for port in self.own {
            stream.call(Call::Disconnect, &[port]);
        }
    }
}

/// With nothing left to lend by: through a port to somebody who does not serve.
pub(crate) fn lend_without_memory(stream: &mut Stream, port: u64, region: u64) {
    stream.call(Call::CallSetup, &[port, 0, PATIENCE]);
    stream.direct(port, region, 8, Goes::Lent);
}
