//! Messages that cannot be sent or received.

use handover_guest::{
    Boot, Causes, Channel, Error, Port, Region, ServiceId, Short,
    abi::{Call, MessageWord, layout::WINDOW_SLOT},
    events, hvc, signals,
};

use crate::{
    calls::{granted, make, refused},
    failure::{Failure, ensure, fail},
    regions::QUIET,
};

/// More messages than any queue holds.
const MANY: u64 = 100_000;

/// A channel from this partition to itself.
pub(crate) fn loopback() -> Result<(Channel, Channel), Failure> {
    let own = hvc::identify()?.partition;
    let connecting = Channel::request(own, ServiceId::new(77))?;
    let Some(signals::Signal::Connect(request)) = signals::next()? else {
        fail!("no control signal for the request to itself")
    };
    ensure!(
        request.partition == own && request.service == ServiceId::new(77),
        "the control signal is about partition {} and service {}",
        request.partition,
        request.service
    );
    let accepted = request.accept()?;
    match connecting.poll() {
        Ok(Ok(channel)) => Ok((channel, accepted)),
        Ok(Err(_)) => fail!("accepted, and not connected"),
        Err(error) => fail!("accepted: {error}"),
    }
}

fn port(channel: &Channel) -> u64 {
    u64::from(channel.port().get())
}

fn word(channel: &Channel, region: u64) -> u64 {
    port(channel) | region << 24
}

fn received(channel: &mut Channel) -> Result<handover_guest::Message, Failure> {
    match channel.receive()? {
        Some(message) => Ok(message),
        None => fail!("no message"),
    }
}

pub(crate) fn send_not_owned(_: &Boot) -> Result<(), Failure> {
    let (sender, receiver) = loopback()?;
    for region in [0xff_ffff, 0x1234, 0xabcdef] {
        refused(Call::Send, &[word(&sender, region)], &[Error::BadHandle])?;
    }
    let destroyed = granted(Call::RegionCreate, &[4096, 0])?;
    granted(Call::RegionDestroy, &[destroyed])?;
    refused(Call::Send, &[word(&sender, destroyed)], &[Error::BadHandle])?;
    refused(Call::Receive, &[port(&receiver), 0], &[Error::WouldBlock])
}

pub(crate) fn use_after_send(_: &Boot) -> Result<(), Failure> {
    let (sender, mut receiver) = loopback()?;
    let region = granted(Call::RegionCreate, &[4096, QUIET])?;
    granted(Call::Send, &[word(&sender, region)])?;
    refused(Call::Send, &[word(&sender, region)], &[Error::BadHandle])?;
    refused(Call::RegionMap, &[region, QUIET], &[Error::BadHandle])?;
    refused(Call::RegionUnmap, &[region], &[Error::BadHandle])?;
    refused(Call::RegionInfo, &[region], &[Error::BadHandle])?;
    refused(Call::RegionDestroy, &[region], &[Error::BadHandle])?;
    let message = received(&mut receiver)?;
    ensure!(message.region.is_some(), "the message has lost its region");
    Ok(())
}

/// A place where the region cannot go leaves the message where it is.
pub(crate) fn receive_nowhere(_: &Boot) -> Result<(), Failure> {
    let (sender, mut receiver) = loopback()?;
    let mut region = Region::create(4096)?;
    region[17] = 0x17;
    sender.send((region, Short::from(b"with a region")))?;
    let occupied = granted(Call::RegionCreate, &[4096, QUIET])?;
    refused(Call::Receive, &[port(&receiver), QUIET], &[Error::InUse])?;
    refused(Call::Receive, &[port(&receiver), QUIET + 4096], &[Error::InvalidArgument])?;
    refused(Call::Receive, &[port(&receiver), 0x4000_0000], &[Error::BadAddress])?;
    refused(Call::Receive, &[port(&receiver), 1 << 63], &[Error::BadAddress])?;
    let message = received(&mut receiver)?;
    ensure!(&*message.short == b"with a region", "the short message has changed to {:?}", message.short);
    ensure!(message.region.is_some_and(|region| region[17] == 0x17), "the region has changed");

    // More than a slot.
    let size = 4 << 20;
    let large = granted(Call::RegionCreate, &[size, 0])?;
    granted(Call::Send, &[word(&sender, large)])?;
    let answer = make(Call::Receive, &[port(&receiver), QUIET + WINDOW_SLOT]);
    ensure!(
        answer[0] == Error::TooLarge.to_x0() && answer[1] == size,
        "x0={:#x} x1={:#x} instead of TooLarge and the size",
        answer[0],
        answer[1]
    );
    let message = received(&mut receiver)?;
    ensure!(
        message.region.is_some_and(|region| region.size() as u64 == size),
        "the large region has changed"
    );
    granted(Call::RegionDestroy, &[occupied])?;
    Ok(())
}

pub(crate) fn queue_full(_: &Boot) -> Result<(), Failure> {
    let (sender, mut receiver) = loopback()?;
    for round in 0..2 {
        let mut sent = 0;
        loop {
            match sender.send(Short::from(&u64::to_le_bytes(sent))) {
                Ok(()) => sent += 1,
                Err(error) if error.error == Error::QueueFull => break,
                Err(error) => return Err(error.into()),
            }
            ensure!(sent < MANY, "{sent} messages and no end");
        }
        // A region must come back from a send that fails.
        let region = Region::create(4096)?;
        match sender.send(region) {
            Err(error) if error.error == Error::QueueFull && error.region.is_some() => {}
            _ => fail!("a region went into a full queue"),
        }
        ensure!(sent > 0, "round {round}: the queue takes nothing");
        for expected in 0..sent {
            let message = received(&mut receiver)?;
            ensure!(*message.short == expected.to_le_bytes(), "{:?} instead of {expected}", message.short);
        }
        refused(Call::Receive, &[port(&receiver), 0], &[Error::WouldBlock])?;
        let causes = drained(sender.port())?;
        ensure!(causes.contains(Causes::SPACE), "no event told of room in the queue: {causes:?}");
    }
    Ok(())
}

/// Takes all events; those of `port`.
fn drained(port: Port) -> Result<Causes, Failure> {
    let mut causes = Causes::empty();
    while let Some(event) = events::next()? {
        if event.port == port {
            causes |= event.causes;
        }
    }
    Ok(causes)
}

pub(crate) fn peer_closed(_: &Boot) -> Result<(), Failure> {
    // What was sent before the sender closed is received.
    let (sender, mut receiver) = loopback()?;
    sender.send((Region::create(4096)?, Short::from(b"last words")))?;
    drained(receiver.port())?;
    drop(sender);
    let causes = drained(receiver.port())?;
    ensure!(causes.contains(Causes::PEER_CLOSED), "no event told of the end: {causes:?}");
    let message = received(&mut receiver)?;
    ensure!(&*message.short == b"last words" && message.region.is_some(), "{:?}", message.short);
    refused(Call::Receive, &[port(&receiver), 0], &[Error::PeerClosed])?;
    let send = MessageWord::new(receiver.port(), None, 0).to_register();
    refused(Call::Send, &[send], &[Error::PeerClosed])?;
    refused(Call::EventSend, &[port(&receiver)], &[Error::PeerClosed])?;
    let gone = port(&receiver);
    drop(receiver);
    refused(Call::Disconnect, &[gone], &[Error::BadHandle])?;

    // What was sent and not received is given back; the accounts tell.
    let (sender, receiver) = loopback()?;
    for _ in 0..4 {
        sender.send(Region::create(64 << 10)?)?;
    }
    drop(receiver);
    match sender.send(Region::create(4096)?) {
        Err(error) if error.error == Error::PeerClosed && error.region.is_some() => Ok(()),
        _ => fail!("a region was sent to a port that is gone"),
    }
}

fn refused_for(reason: u32) -> Result<(), Failure> {
    let own = hvc::identify()?.partition;
    let connecting = Channel::request(own, ServiceId::new(78))?;
    let Some(signals::Signal::Connect(request)) = signals::next()? else { fail!("no control signal") };
    request.refuse(reason)?;
    let send = MessageWord::new(connecting.port(), None, 0).to_register();
    refused(Call::Send, &[send], &[Error::NotConnected])?;
    match connecting.poll() {
        Err(handover_guest::ConnectError::Refused(found)) if found == reason => Ok(()),
        Err(error) => fail!("{error}, not refused for reason {reason}"),
        Ok(_) => fail!("not refused"),
    }
}

/// Requests that are refused, withdrawn, and answered twice.
pub(crate) fn requests(_: &Boot) -> Result<(), Failure> {
    for reason in [0, 5, u32::MAX] {
        refused_for(reason)?;
    }
    let own = u64::from(hvc::identify()?.partition.get());
    let withdrawn = granted(Call::Connect, &[own, 79])?;
    let send = MessageWord::new(Port::new(withdrawn as u32), None, 0).to_register();
    refused(Call::Send, &[send], &[Error::NotConnected])?;
    refused(Call::Receive, &[withdrawn, 0], &[Error::NotConnected])?;
    granted(Call::Disconnect, &[withdrawn])?;
    refused(Call::SignalNext, &[], &[Error::WouldBlock])?;

    let client = granted(Call::Connect, &[own, 80])?;
    let [x0, kind, token, partition, service, ..] = make(Call::SignalNext, &[]);
    ensure!(
        (x0, kind, partition, service) == (0, 1, own, 80),
        "signal: x0={x0:#x} {kind} from {partition} for {service}"
    );
    let server = granted(Call::Accept, &[token])?;
    refused(Call::Accept, &[token], &[Error::BadHandle])?;
    refused(Call::Refuse, &[token, 0], &[Error::BadHandle])?;
    granted(Call::Disconnect, &[client])?;
    granted(Call::Disconnect, &[server])?;
    Ok(())
}
