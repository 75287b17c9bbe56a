//! Event ports and port sets: with a bare-metal guest that answers each event by another (`guests/streams`, `role=bell`), and with this partition itself,
//! where both ends can be seen, as of a channel that goes one way.

use std::{io, thread, time::Duration};

use anyhow::{Context, Result, ensure};
use clap::Args;
use handover_linux::{
    Causes, Channel, ConnectError, Connecting, EventReceiver, EventSender, Handover, Listener, PortSet,
    RequestFlags, RequestWord, Service,
};

use crate::one_way;

#[derive(Args)]
pub struct Arguments {
    /// The service that answers events
    #[arg(long, default_value = "bell")]
    service: String,
    /// The service of this partition's that it sends an event to
    #[arg(long, default_value = "ring")]
    provided: String,
    /// Events there and back
    #[arg(long, default_value_t = 1000)]
    count: u32,
}

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long nobody answers.
const BRIEF: Duration = Duration::from_millis(50);

pub fn run(handover: &Handover, arguments: &Arguments) -> Result<()> {
    let ring = handover.provided(&arguments.provided)?;
    let listener = Listener::for_events(handover, &ring).context("cannot listen")?;
    is_asked(&listener).context("a port that is asked for")?;
    println!("events: a port that is asked for: ok");
    let bell = handover.service(&arguments.service)?;
    there_and_back(handover, &bell, arguments.count).context("there and back")?;
    println!("events: {} there and back: ok", arguments.count);
    swallowed_and_masked(handover, &listener, &ring).context("swallowed and masked")?;
    println!("events: swallowed and masked: ok");
    wrong_ends(handover, &listener, &ring).context("at wrong ends")?;
    println!("events: at wrong ends: ok");
    not_answered(handover, &listener, &ring).context("without an answer")?;
    println!("events: without an answer: ok");
    many(handover, &listener, &ring).context("many ports, one wait")?;
    println!("events: many ports, one wait: ok");
    one_way::check(handover, &ring).context("channels that go one way")?;
    println!("events: channels that go one way: ok");
    Ok(())
}

/// The peer asks for a port to send by, sends one event, and goes.
fn is_asked(listener: &Listener) -> Result<()> {
    let request = listener.request_wait()?;
    let flags = RequestFlags::EVENTS | RequestFlags::SEND_ONLY;
    ensure!(request.flags == flags && request.memory == 0, "another request: {request:?}");
    let receiver = EventReceiver::from_channel(request.accept()?);
    receiver.wait().context("the event")?;
    ends(receiver.wait(), io::ErrorKind::UnexpectedEof, "after the last event")
}

/// Each event is answered by one.
fn there_and_back(handover: &Handover, bell: &Service, count: u32) -> Result<()> {
    let sender = EventSender::connect(handover, bell, Some(PATIENCE)).context("to send")?;
    let receiver = EventReceiver::connect(handover, bell, Some(PATIENCE)).context("to receive")?;
    let set = PortSet::create()?;
    for number in 0..count {
        sender.send()?;
        // The first half is waited for at the port, the second in a set.
        if number == count / 2 {
            set.add(receiver.port())?;
        }
        if number < count / 2 { receiver.wait() } else { next_of(&set, &receiver) }
            .with_context(|| format!("event {number}"))?;
    }
    // The bell goes when the one it hears by has gone.
    drop(sender);
    let event = set.wait_timeout(PATIENCE).context("the end")?;
    ensure!(event.causes == Causes::PEER_CLOSED, "the end is {:?}", event.causes);
    PortSet::remove(&receiver.port())?;
    ends(receiver.wait(), io::ErrorKind::UnexpectedEof, "after the end")
}

/// Takes events of the set until one has been sent, which must be the receiver's.
fn next_of(set: &PortSet, receiver: &EventReceiver) -> io::Result<()> {
    loop {
        let event = set.wait_timeout(PATIENCE)?;
        if event.causes.contains(Causes::SIGNAL) {
            let other = || io::Error::other(format!("an event of port {}", event.port));
            return (event.port == receiver.port()).then_some(()).ok_or_else(other);
        }
    }
}

/// Both ends of an event port of this partition's.
fn pair(handover: &Handover, listener: &Listener, own: &Service) -> Result<(EventSender, EventReceiver)> {
    thread::scope(|scope| {
        let accepting = scope.spawn(|| listener.request_wait()?.accept());
        let sender = EventSender::connect(handover, own, None)?;
        let accepted = accepting.join().map_err(|_| anyhow::anyhow!("the thread that accepts is gone"))??;
        Ok((sender, EventReceiver::from_channel(accepted)))
    })
}

/// Several events that nobody takes are one, and one that comes while the port is masked comes afterwards.
fn swallowed_and_masked(handover: &Handover, listener: &Listener, own: &Service) -> Result<()> {
    let [(sender, receiver), (mark, marked)] =
        [pair(handover, listener, own)?, pair(handover, listener, own)?];
    // When a later event of another port is here, the earlier ones are.
    let settle = || -> io::Result<()> {
        mark.send()?;
        marked.wait()
    };
    for _ in 0..3 {
        sender.send()?;
    }
    settle()?;
    let set = PortSet::create()?;
    set.add(receiver.port())?;
    let event = set.next()?.context("three events are none")?;
    ensure!(event.causes.contains(Causes::SIGNAL), "other causes: {:?}", event.causes);
    ensure!(set.next()?.is_none(), "three events are not one");

    receiver.mask()?;
    sender.send()?;
    settle()?;
    ensure!(set.next()?.is_none(), "an event of a port that is masked");
    receiver.unmask()?;
    let event = set.wait_timeout(PATIENCE).context("unmasked")?;
    ensure!(event.causes == Causes::SIGNAL, "unmasked, {:?}", event.causes);

    // What came before the end is told of after it, as an eventfd is read.
    sender.send()?;
    drop(sender);
    let mut number = [0; 8];
    ensure!(rustix::io::read(&receiver, &mut number)? == 8, "the last event is lost");
    ensure!(u64::from_ne_bytes(number) == 1, "it reads as {number:?}");
    ensure!(rustix::io::read(&receiver, &mut number)? == 0, "the end is not the end of the file");
    ends(receiver.wait(), io::ErrorKind::UnexpectedEof, "after the end")
}

/// Each end does its own part only.
fn wrong_ends(handover: &Handover, listener: &Listener, own: &Service) -> Result<()> {
    let (sender, receiver) = pair(handover, listener, own)?;
    ensure!(rustix::io::write(&sender, &1u64.to_ne_bytes())? == 8, "an event was written in part");
    receiver.wait()?;
    let wrong = |result: rustix::io::Result<usize>| result.map_err(|error| io::Error::from(error).kind());
    ensure!(wrong(rustix::io::write(&receiver, &[1; 8])) == Err(io::ErrorKind::PermissionDenied));
    ensure!(wrong(rustix::io::write(&sender, &[1; 7])) == Err(io::ErrorKind::InvalidInput));
    ensure!(wrong(rustix::io::read(&receiver, &mut [0; 7])) == Err(io::ErrorKind::InvalidInput));
    let ends_here = EventSender::from_channel(channel(handover, listener, own)?);
    ends(ends_here.send(), io::ErrorKind::BrokenPipe, "to a receiver that has gone")?;
    drop(receiver);
    ends(sender.send(), io::ErrorKind::BrokenPipe, "to a receiver that has gone")
}

/// An event port as it is connected, whose other end has gone.
fn channel(handover: &Handover, listener: &Listener, own: &Service) -> Result<Channel> {
    let word = RequestWord::new(own.service, RequestFlags::EVENTS | RequestFlags::SEND_ONLY);
    let connecting = Connecting::request(handover, own.partition, word, None)?;
    let accepted = listener.request_wait()?.accept()?;
    let channel = connecting.wait()?;
    ensure!(
        channel.send(b"no message").map_err(|failed| failed.error.raw_os_error()) == Err(Some(25)),
        "a message goes by an event port"
    );
    drop(accepted);
    Ok(channel)
}

/// A request that nobody answers ends by itself; one that is dropped is withdrawn; one that is refused tells why.
fn not_answered(handover: &Handover, listener: &Listener, own: &Service) -> Result<()> {
    let word = RequestWord::new(own.service, RequestFlags::EVENTS | RequestFlags::SEND_ONLY);
    let connecting = Connecting::request(handover, own.partition, word, Some(BRIEF))?;
    let request = listener.request_wait()?;
    match connecting.wait() {
        Err(ConnectError::Failed(error)) if error.kind() == io::ErrorKind::TimedOut => {}
        other => anyhow::bail!("nobody answers: {other:?}"),
    }
    ends(request.accept(), io::ErrorKind::ConnectionAborted, "accepting what was withdrawn")?;
    let refused = thread::scope(|scope| {
        let refusing = scope.spawn(|| listener.request_wait()?.refuse(7));
        let refused = EventReceiver::connect(handover, own, None).map(drop);
        refusing.join().map_err(|_| anyhow::anyhow!("the thread that refuses is gone"))??;
        anyhow::Ok(refused)
    })?;
    ensure!(matches!(refused, Err(ConnectError::Refused(7))), "refused: {refused:?}");
    let both = RequestFlags::SEND_ONLY | RequestFlags::RECEIVE_ONLY;
    let wrong = Connecting::request(handover, own.partition, RequestWord::new(own.service, both), None);
    ends(wrong.map(drop), io::ErrorKind::InvalidInput, "one way and the other")
}

/// A set tells which of many ports has an event, and of requests too.
fn many(handover: &Handover, listener: &Listener, own: &Service) -> Result<()> {
    let set = PortSet::create()?;
    let pairs: Vec<_> = (0..100).map(|_| pair(handover, listener, own)).collect::<Result<_>>()?;
    for (_, receiver) in &pairs {
        set.add(receiver.port())?;
    }
    set.add(listener.port())?;
    ends(set.add(listener.port()), io::ErrorKind::ResourceBusy, "added twice")?;
    for at in [0, 99, 41, 7, 66] {
        pairs[at].0.send()?;
        next_of(&set, &pairs[at].1).with_context(|| format!("port {at}"))?;
    }
    let word = RequestWord::new(own.service, RequestFlags::EVENTS | RequestFlags::RECEIVE_ONLY);
    let connecting = Connecting::request(handover, own.partition, word, None)?;
    let event = set.wait_timeout(PATIENCE)?;
    ensure!(event.port == listener.port() && event.causes == Causes::SIGNAL, "not the request: {event:?}");
    set.add(connecting.port())?;
    drop(listener.request()?.context("no request")?);
    let event = set.wait_timeout(PATIENCE)?;
    ensure!(event.causes == Causes::REFUSED, "not the answer: {event:?}");
    ensure!(matches!(connecting.poll(), Err(ConnectError::Refused(0))), "not refused");
    let gone = pairs[3].1.port();
    drop(pairs);
    ends(set.add(gone), io::ErrorKind::NotFound, "adding a port that is closed")?;
    ensure!(set.next()?.is_none(), "an event of a port that is closed");
    Ok(())
}

pub(crate) fn ends<T>(result: io::Result<T>, expected: io::ErrorKind, when: &str) -> Result<()> {
    let found = result.map(drop).map_err(|error| error.kind());
    ensure!(found == Err(expected), "{when}: {found:?}");
    Ok(())
}
