//! Requests with timeouts, one-way channels, port sets, event ports: both ends are here.

use core::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use handover_guest::{
    Causes, Channel, Connecting, Error, EventReceiver, EventSender, PartitionId, Port, PortSet, RequestFlags,
    RequestWord, ServiceId,
    abi::layout::{CHOSEN_INTID_FIRST, CHOSEN_INTID_LAST},
    events, hvc,
    interrupts::{self, Trigger},
    signals::{self, Signal},
    timer,
};

use crate::bytes::{Failure, expect};

/// A service that only these checks ask for.
const SERVICE: ServiceId = ServiceId::new(0x7000);

/// How often the chosen interrupts have come.
static TAKEN: [AtomicU32; 2] = [const { AtomicU32::new(0) }; 2];

fn count(intid: u32) {
    TAKEN[usize::from(intid != CHOSEN_INTID_FIRST)].fetch_add(1, Ordering::Relaxed);
}

/// How often an interrupt has come since the last look, once what is pending is taken.
fn taken(intid: u32) -> u32 {
    interrupts::unmask();
    interrupts::mask();
    TAKEN[usize::from(intid != CHOSEN_INTID_FIRST)].swap(0, Ordering::Relaxed)
}

fn word(flags: RequestFlags) -> RequestWord {
    RequestWord::new(SERVICE, flags)
}

fn request() -> Result<signals::Request, Failure> {
    while let Some(signal) = signals::next()? {
        if let Signal::Connect(request) = signal
            && request.service == SERVICE
        {
            return Ok(request);
        }
    }
    Err(Failure::Unexpected("a request is missing"))
}

/// Both ends of what the flags say: the client's, the server's.
fn pair(own: PartitionId, flags: RequestFlags) -> Result<(Channel, Channel), Failure> {
    let connecting = Connecting::request(own, word(flags), None)?;
    let request = request()?;
    expect(request.flags == flags, "other flags than were asked for")?;
    let server = request.accept()?;
    let client = connecting.wait().map_err(Error::from)?;
    Ok((client, server))
}

fn no_events() -> Result<(), Failure> {
    while events::next()?.is_some() {}
    Ok(())
}

/// Nobody answers: the request ends by itself, whether it was seen or not.
pub(crate) fn timeouts(own: PartitionId) -> Result<(), Failure> {
    for seen in [false, true] {
        // A busy host must have got to the answer by then.
        let patience = Duration::from_millis(50);
        let start = timer::now();
        let connecting = Connecting::request(own, word(RequestFlags::empty()), Some(patience))?;
        let kept = if seen { Some(request()?) } else { None };
        let port = connecting.port();
        let outcome = connecting.wait().map_err(Error::from);
        let ticks = timer::now() - start;
        expect(matches!(outcome, Err(Error::TimedOut)), "a request that nobody answers did not time out")?;
        expect(ticks >= timer::frequency() / 20, "it timed out early")?;
        expect(hvc::port_status(port).is_err(), "its port is still there")?;
        match kept {
            Some(request) => {
                expect(
                    request.accept().err() == Some(Error::BadHandle),
                    "a request that timed out was accepted",
                )?;
            }
            None => expect(signals::next()?.is_none(), "the signal is still there")?,
        }
    }
    // One that is answered in time is a channel as any.
    let connecting = Connecting::request(own, word(RequestFlags::empty()), Some(Duration::from_secs(1000)))?;
    let mut server = request()?.accept()?;
    let client = connecting.wait().map_err(Error::from)?;
    client.send(b"in time").map_err(Error::from)?;
    expect(*server.receive_wait()?.short == *b"in time", "another message than was sent")
}

/// The wrong direction fails, and says why.
pub(crate) fn one_way(own: PartitionId) -> Result<(), Failure> {
    for flags in [RequestFlags::SEND_ONLY, RequestFlags::RECEIVE_ONLY] {
        let (client, server) = pair(own, flags)?;
        let (mut sender, mut receiver) =
            if flags == RequestFlags::SEND_ONLY { (client, server) } else { (server, client) };
        let refused = receiver.send(b"back").map_err(|failure| failure.error);
        expect(refused == Err(Error::Denied), "the wrong end can send")?;
        expect(sender.receive().err() == Some(Error::Denied), "the wrong end can receive")?;
        sender.send(b"there").map_err(Error::from)?;
        expect(*receiver.receive_wait()?.short == *b"there", "another message than was sent")?;
    }
    Ok(())
}

/// One wait serves many ports, in the order of arrival.
pub(crate) fn sets(own: PartitionId) -> Result<(), Failure> {
    const MANY: usize = 40;
    interrupts::enable(CHOSEN_INTID_FIRST, Trigger::Edge, count)?;
    let set = PortSet::with_interrupt(CHOSEN_INTID_FIRST, 0)?;
    let mut ends = [const { None }; MANY];
    for end in &mut ends {
        let joined = pair(own, RequestFlags::empty())?;
        set.add(joined.1.port())?;
        *end = Some(joined);
    }
    let (lone, other) = pair(own, RequestFlags::empty())?;
    no_events()?;
    while set.next()?.is_some() {}
    taken(CHOSEN_INTID_FIRST);
    for turn in 0..MANY {
        let Some((client, _)) = &ends[turn * 7 % MANY] else { return Err(Failure::Unexpected("no channel")) };
        client.signal()?;
    }
    lone.signal()?;
    expect(taken(CHOSEN_INTID_FIRST) > 0, "the set's interrupt did not come")?;
    for turn in 0..MANY {
        let event = set.wait()?;
        let expected = ends[turn * 7 % MANY].as_ref().map(|(_, server)| server.port());
        expect(
            Some(event.port) == expected && event.causes == Causes::SIGNAL,
            "another event than was sent",
        )?;
    }
    expect(set.next()?.is_none(), "an event too many")?;
    expect(
        events::next()?.map(|event| event.port) == Some(other.port()),
        "the port outside was not told of",
    )?;
    set.add(Port::CONTROL)?;
    let connecting = Connecting::request(own, word(RequestFlags::empty()), None)?;
    expect(set.wait()?.port == Port::CONTROL, "the control-signal port is no member")?;
    drop(connecting);
    PortSet::remove(Port::CONTROL)?;
    drop(ends);
    // Without members it goes.
    interrupts::disable(CHOSEN_INTID_FIRST)?;
    no_events()
}

/// Events raise the interrupt of the receiver's choice, unless they are masked.
pub(crate) fn event_ports(own: PartitionId) -> Result<(), Failure> {
    interrupts::enable(CHOSEN_INTID_LAST, Trigger::Edge, count)?;
    let (client, server) = pair(own, RequestFlags::EVENTS | RequestFlags::SEND_ONLY)?;
    let (sender, receiver) = (EventSender::from_channel(client), EventReceiver::from_channel(server));
    sender.send()?;
    receiver.wait()?;
    receiver.bind(CHOSEN_INTID_LAST, 0)?;
    no_events()?;
    taken(CHOSEN_INTID_LAST);
    sender.send()?;
    sender.send()?;
    expect(taken(CHOSEN_INTID_LAST) >= 1, "the chosen interrupt did not come")?;
    expect(events::next()?.is_none(), "it came as an event too")?;
    receiver.mask()?;
    sender.send()?;
    sender.send()?;
    expect(taken(CHOSEN_INTID_LAST) == 0, "a masked port interrupts")?;
    receiver.unmask()?;
    expect(taken(CHOSEN_INTID_LAST) == 1, "what was masked is not told of once")?;
    receiver.unmask()?;
    expect(taken(CHOSEN_INTID_LAST) == 0, "it is told of again")?;
    expect(hvc::event_send(receiver.port()) == Err(Error::Denied), "the receiver can send")?;
    drop(sender);
    interrupts::disable(CHOSEN_INTID_LAST)?;
    expect(receiver.wait() == Err(Error::PeerClosed), "the sender's end is no news")
}
