//! Using up what there is: control memory, ports, memory, and the machine's own memory; and having it back.

use arrayvec::ArrayVec;
use handover_guest::{
    Error,
    abi::{
        Account, Call, RequestFlags,
        layout::{MEMORY_BASE, WINDOW_SLOT},
    },
    processor::Lock,
};

use crate::{
    calls::{self, Claim},
    connections::word,
    coverage::Outcome,
    granules,
    partner::Partner,
    shared,
    stream::Stream,
    window,
};

/// More than any limit of system-control's lets a partition have.
const MANY: usize = 1536;
/// log2 sizes that leave no page over.
const ALL_ORDERS: &[u8] = &[21, 20, 18, 16, 14, 12];
/// The service by which a partition finds its own requests.
const OWN_SERVICE: u64 = 0x5000;
/// Signals of others that may be in front of its own: each needs one of their 1024 ports.
const SIGNALS: usize = 4096;
/// Of what is to find no memory, while others give some back.
const ATTEMPTS: usize = 8;
const PAGE: u64 = 4096;

/// What a scenario holds.
struct Hoard {
    regions: ArrayVec<u64, MANY>,
    ports: ArrayVec<u64, MANY>,
}

/// One scenario at a time.
static HOARD: Lock<Hoard> = Lock::new(Hoard { regions: ArrayVec::new_const(), ports: ArrayVec::new_const() });

impl Hoard {
    /// Makes regions of `1 << order` bytes until there is no more; why.
    fn regions(&mut self, stream: &mut Stream, order: u8) -> Outcome {
        loop {
            let answer = stream.call(Call::RegionCreate, &[1 << order, 0]);
            if !answer.done() {
                return answer.outcome;
            }
            if self.regions.try_push(answer.x[1]).is_err() {
                stream.fail(format_args!("{MANY} regions of order {order}, and no limit"));
                stream.call(Call::RegionDestroy, &[answer.x[1]]);
                return Outcome::Done;
            }
        }
    }

    /// Makes ports until there are no more; why.
    fn ports(&mut self, stream: &mut Stream) -> Outcome {
        loop {
            let answer = stream.call(Call::Connect, &[stream.setting.own, OWN_SERVICE]);
            if !answer.done() {
                return answer.outcome;
            }
            if self.ports.try_push(answer.x[1]).is_err() {
                stream.fail(format_args!("{MANY} ports, and no limit"));
                stream.call(Call::Disconnect, &[answer.x[1]]);
                return Outcome::Done;
            }
        }
    }

    /// Tries what takes memory that there is none of. Where others give some back meanwhile it succeeds, and is tried again when that is gone too.
    fn without_memory(
        &mut self,
        stream: &mut Stream,
        orders: &[u8],
        mut attempt: impl FnMut(&mut Hoard, &mut Stream) -> Outcome,
    ) {
        for _ in 0..ATTEMPTS {
            if attempt(self, stream) != Outcome::Done {
                return;
            }
            for &order in orders {
                self.regions(stream, order);
            }
        }
    }

    fn give_back(&mut self, stream: &mut Stream) {
        for (names, call) in [(&mut self.ports, Call::Disconnect), (&mut self.regions, Call::RegionDestroy)] {
            while let Some(name) = names.pop() {
                let answer = stream.call(call, &[name]);
                if stream.exact() && !answer.done() {
                    stream.fail(format_args!("{call:?} of its own: {:?}", answer.outcome));
                }
            }
        }
    }
}

/// Takes one of its own requests; others' are refused.
fn own_token(stream: &mut Stream) -> Option<u64> {
    for _ in 0..SIGNALS {
        let answer = stream.call(Call::SignalNext, &[]);
        let [_, _, token, partition, asked, ..] = answer.x;
        let service = asked & 0xffff_ffff;
        if !answer.done() {
            return None;
        }
        if (partition, service) == (stream.setting.own, OWN_SERVICE) {
            return Some(token);
        }
        stream.call(Call::Refuse, &[token, 0]);
    }
    None
}

/// The two ends of what the flags say, to itself, unless another processor takes the request.
pub(crate) fn channel(stream: &mut Stream, flags: RequestFlags) -> Option<(u64, u64)> {
    joined(stream, |service| word(service, flags))
}

/// The same, of what a request word says for a service.
pub(crate) fn joined(stream: &mut Stream, word: impl FnOnce(u64) -> u64) -> Option<(u64, u64)> {
    let client = stream.call(Call::Connect, &[stream.setting.own, word(OWN_SERVICE)]);
    if !client.done() {
        return None;
    }
    let token = own_token(stream).unwrap_or(0);
    let server = stream.call(Call::Accept, &[token]);
    if server.done() {
        return Some((client.x[1], server.x[1]));
    }
    stream.call(Call::Disconnect, &[client.x[1]]);
    None
}

/// What of a short run's results chance alone would not make certain: regions offered where they cannot go.
pub(crate) fn edges(stream: &mut Stream) {
    let Some((client, server)) = channel(stream, RequestFlags::empty()) else { return };
    let (free, taken) = (window::fresh(0), stream.slots.base() + WINDOW_SLOT);
    let holder = stream.call(Call::RegionCreate, &[PAGE, taken]);
    for size in [PAGE, 2 * WINDOW_SLOT] {
        let region = stream.call(Call::RegionCreate, &[size, 0]).x[1];
        let places = [free + PAGE, MEMORY_BASE, taken];
        for at in places {
            stream.call(Call::RegionMap, &[region, at]);
        }
        stream.send_message(client, region, 0);
        for at in places {
            stream.call(Call::Receive, &[server, at]);
        }
        let received = stream.call(Call::Receive, &[server, 0]);
        stream.call(Call::RegionDestroy, &[region_of(received.x[1])]);
    }
    for (call, name) in
        [(Call::RegionDestroy, holder.x[1]), (Call::Disconnect, client), (Call::Disconnect, server)]
    {
        stream.call(call, &[name]);
    }
    while stream.call(Call::EventNext, &[]).done() {}
    granules::edges(stream);
}

/// Takes all control memory.
pub(crate) fn control_memory(stream: &mut Stream, partner: Option<&mut Partner>) {
    let control = Outcome::Limit(Account::ControlMemory);
    starve(stream, partner, true, &[12], control);
}

/// Takes all of the machine's memory, with the partner's help.
pub(crate) fn machine_memory(stream: &mut Stream, partner: &mut Partner) {
    partner.hoard(stream);
    // So that it is not its limit that is in the way of a reply.
    partner.shed(stream);
    starve(stream, Some(partner), false, ALL_ORDERS, Outcome::Fails(Error::NoMemory));
    partner.release(stream);
}

/// Makes regions until there is no more, tries all else that takes memory, and gives everything back. `expected` is what stands in
/// the way, as long as nobody else takes part.
fn starve(stream: &mut Stream, partner: Option<&mut Partner>, gives: bool, orders: &[u8], expected: Outcome) {
    let Some(partner) = partner else {
        exhaust(stream, None, None, orders, expected);
        return;
    };
    let given = gives.then(|| partner.give(stream, 12));
    let Some(mut claim) = Claim::new(stream, partner) else { return };
    let refused = exhaust(stream, Some((&mut claim, partner.stranger)), given, orders, expected);
    claim.finish(stream);
    if let (Some(port), Some(refused)) = (given, refused) {
        take(stream, port, refused);
    }
}

/// → what came of receiving what was given.
fn exhaust(
    stream: &mut Stream,
    claim: Option<(&mut Claim, u64)>,
    given: Option<u64>,
    orders: &[u8],
    expected: Outcome,
) -> Option<crate::stream::Answer> {
    let mut hoard = HOARD.lock();
    let (client, server) = channel(stream, RequestFlags::empty())?;
    hoard.ports.extend([client, server]);
    let Some((asked, accepted)) =
        joined(stream, |service| shared::memory(service, RequestFlags::empty(), 12))
    else {
        hoard.give_back(stream);
        return None;
    };
    hoard.ports.extend([asked, accepted]);
    let spare = stream.call(Call::RegionCreate, &[PAGE, 0]);
    if !spare.done() {
        hoard.give_back(stream);
        return None;
    }
    hoard.regions.push(spare.x[1]);
    for _ in 0..ATTEMPTS {
        let sent = stream.call(Call::RegionCreate, &[PAGE, 0]);
        if sent.done() && !stream.send_message(client, sent.x[1], 0).done() {
            stream.call(Call::RegionDestroy, &[sent.x[1]]);
        }
    }
    let goes = stream.call(Call::RegionCreate, &[PAGE, 0]);

    let alone = !crate::run::is_shared();
    let mut why = expected;
    for &order in orders {
        why = hoard.regions(stream, order);
    }
    if alone && why != expected {
        stream.fail(format_args!(
            "regions end by {why:?} instead of {expected:?}: the machine's memory does not fit this test"
        ));
    }
    hoard.ports(stream);
    hoard.without_memory(stream, orders, |_, stream| one_more_set(stream));
    hoard.without_memory(stream, orders, |hoard, stream| {
        let token = own_token(stream).unwrap_or(0);
        let accepted = stream.call(Call::Accept, &[token]);
        if accepted.done() {
            hoard.ports.push(accepted.x[1]);
        }
        accepted.outcome
    });
    hoard.without_memory(stream, orders, |_, stream| {
        let fresh = window::fresh(stream.random.below(window::FRESH_GIBS));
        let mapped = stream.call(Call::RegionMap, &[spare.x[1], fresh]);
        if mapped.done() {
            stream.call(Call::RegionUnmap, &[spare.x[1]]);
        }
        mapped.outcome
    });
    hoard.without_memory(stream, orders, |_, stream| {
        let fresh = window::fresh(stream.random.below(window::FRESH_GIBS));
        let mapped = stream.call(Call::SharedMap, &[asked, fresh]);
        if mapped.done() {
            stream.call(Call::SharedUnmap, &[asked]);
        }
        mapped.outcome
    });
    hoard.without_memory(stream, orders, |_, stream| granules::fresh(stream));
    while stream.send_message(client, 0, 8).done() {}
    hoard.without_memory(stream, orders, |hoard, stream| {
        let fresh = window::fresh(stream.random.below(window::FRESH_GIBS));
        let received = stream.call(Call::Receive, &[server, fresh]);
        if received.done() {
            hoard.regions.push(region_of(received.x[1]));
        }
        received.outcome
    });
    for &order in orders {
        hoard.regions(stream, order);
    }
    if let Some((claim, stranger)) = claim {
        calls::lend_without_memory(stream, stranger, spare.x[1]);
        let lands = expected == Outcome::Fails(Error::NoMemory);
        let all = |stream: &mut Stream| _ = hoard.regions(stream, 12);
        claim.tries(stream, goes.x[1], lands, all);
    } else {
        stream.call(Call::RegionDestroy, &[goes.x[1]]);
    }
    let refused = given.map(|port| stream.call(Call::Receive, &[port, 0]));
    hoard.give_back(stream);
    refused
}

fn one_more_set(stream: &mut Stream) -> Outcome {
    let set = stream.call(Call::PortSetCreate, &[0, 0]);
    if set.done() {
        stream.call(Call::PortSetDestroy, &[set.x[1]]);
    }
    set.outcome
}

fn region_of(word: u64) -> u64 {
    word >> 24 & 0xff_ffff
}

/// Takes what the partner has given, now that there is room for it again.
fn take(stream: &mut Stream, port: u64, refused: crate::stream::Answer) {
    let received = if refused.done() { refused } else { stream.call(Call::Receive, &[port, 0]) };
    if !received.done() {
        stream.fail(format_args!("a message that was to stay: {:?}", received.outcome));
        return;
    }
    stream.call(Call::RegionDestroy, &[region_of(received.x[1])]);
}

/// Takes all ports.
pub(crate) fn ports(stream: &mut Stream) {
    let mut hoard = HOARD.lock();
    let why = hoard.ports(stream);
    if !crate::run::is_shared() && why != Outcome::Limit(Account::Ports) {
        stream.fail(format_args!("ports end by {why:?}"));
    }
    one_more_set(stream);
    let token = own_token(stream).unwrap_or(0);
    let accepted = stream.call(Call::Accept, &[token]);
    if accepted.done() {
        hoard.ports.push(accepted.x[1]);
    }
    hoard.give_back(stream);
}

/// Takes all the memory that the partition may have.
pub(crate) fn memory(stream: &mut Stream, mut partner: Option<&mut Partner>) {
    let given = partner.as_mut().map(|partner| partner.give(stream, 21));
    let mut claim = partner.and_then(|partner| Claim::new(stream, partner));
    let mut hoard = HOARD.lock();
    let block = shared::memory(OWN_SERVICE, RequestFlags::empty(), 21);
    let asked = stream.call(Call::Connect, &[stream.setting.own, block]);
    if asked.done() {
        hoard.ports.push(asked.x[1]);
    }
    let token = own_token(stream).unwrap_or(0);
    let why = hoard.regions(stream, 21);
    for (call, arguments) in [(Call::Accept, [token, 0]), (Call::Connect, [stream.setting.own, block])] {
        let answer = stream.call(call, &arguments);
        if answer.done() {
            hoard.ports.push(answer.x[1]);
        }
    }
    if !crate::run::is_shared() && why != Outcome::Limit(Account::Memory) {
        stream.fail(format_args!("memory ends by {why:?}: the machine's memory does not fit this test"));
    }
    granules::one_more(stream);
    if let Some(claim) = &mut claim
        && let Some(region) = hoard.regions.pop()
    {
        claim.tries(stream, region, false, |stream| _ = hoard.regions(stream, 21));
    }
    if let Some(port) = given {
        let refused = stream.call(Call::Receive, &[port, 0]);
        hoard.give_back(stream);
        take(stream, port, refused);
    }
    hoard.give_back(stream);
    if let Some(claim) = claim {
        claim.finish(stream);
    }
}
