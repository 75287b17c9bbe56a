//! Events alone: a port each way, both bound to an interrupt, so that an interrupt is all there is to take.

use handover_guest::{
    Channel, Connecting, Error, EventReceiver, EventSender, Port, RequestFlags, RequestWord, Service,
    abi::layout::{CHOSEN_INTID_FIRST, CHOSEN_INTID_LAST},
    events, hvc,
    interrupts::{self, Trigger},
    signals,
};

use crate::sample::{measure, measure_pair};

/// What the measured events raise.
const INTID: u32 = CHOSEN_INTID_FIRST;
/// What the bystanders would raise.
const OTHER_INTID: u32 = CHOSEN_INTID_LAST;
/// Event ports that stand by, of two ends each.
const BYSTANDERS: usize = 450;

fn note(_: u32) {}

/// Waits until an event has come; whatever else comes meanwhile is taken too.
#[inline]
fn wait() {
    loop {
        interrupts::wait_for_interrupt();
        if let Some(intid) = interrupts::acknowledge() {
            interrupts::end(intid);
            if intid == INTID {
                return;
            }
        }
    }
}

fn receiver(channel: Channel) -> Result<EventReceiver, Error> {
    let receiver = EventReceiver::from_channel(channel);
    interrupts::enable(INTID, Trigger::Edge, note)?;
    receiver.bind(INTID, 0)?;
    Ok(receiver)
}

/// The next request for event ports.
fn request() -> Result<signals::Request, Error> {
    loop {
        while let Some(signal) = signals::next()? {
            if let signals::Signal::Connect(request) = signal
                && request.flags.contains(RequestFlags::EVENTS)
            {
                return Ok(request);
            }
        }
        events::wait_for(Port::CONTROL)?;
    }
}

/// Answers each event by one. `first` is one of the two requests for it.
pub(crate) fn serve(first: signals::Request) -> Result<(), Error> {
    let (mut receives, mut sends) = (None, None);
    let mut first = Some(first);
    while receives.is_none() || sends.is_none() {
        let request = match first.take() {
            Some(request) => request,
            None => request()?,
        };
        if request.flags.contains(RequestFlags::SEND_ONLY) {
            receives = Some(receiver(request.accept()?)?);
        } else {
            sends = Some(EventSender::from_channel(request.accept()?));
        }
    }
    let (Some(_receives), Some(sends)) = (receives, sends) else { return Ok(()) };
    loop {
        wait();
        match sends.send() {
            Ok(()) => {}
            Err(Error::PeerClosed) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// Measures; `suffix` ends the figures' names.
pub(crate) fn run(service: Service, suffix: &str) -> Result<(), Error> {
    let sends = EventSender::connect(service.partition, service.service, None)?;
    let flags = RequestFlags::EVENTS | RequestFlags::RECEIVE_ONLY;
    let word = RequestWord::new(service.service, flags);
    let connected = Connecting::request(service.partition, word, None)?;
    let receives = receiver(connected.wait()?)?;
    let names = |many: &str| [name("event_send", many, suffix), name("event_answer", many, suffix)];
    let sending = |many: &str| {
        let names = names(many);
        measure_pair(
            [&names[0], &names[1]],
            || sends.send(),
            |()| {
                wait();
                Ok(())
            },
        )
    };
    measure(&name("event_round_trip", "", suffix), (), |()| {
        sends.send()?;
        wait();
        Ok(())
    })?;
    sending("")?;
    if suffix.is_empty() {
        let own = hvc::identify()?.partition;
        let mut bystanders = arrayvec::ArrayVec::<_, BYSTANDERS>::new();
        for _ in 0..BYSTANDERS {
            let word = RequestWord::new(service.service, flags);
            let connecting = Connecting::request(own, word, None)?;
            let sender = EventSender::from_channel(request()?.accept()?);
            let receiver = EventReceiver::from_channel(connecting.wait()?);
            receiver.bind(OTHER_INTID, 0)?;
            bystanders.push((sender, receiver));
        }
        sending("_900_ports")?;
    }
    // The last event lets the server see that this side is gone.
    drop(receives);
    sends.send()?;
    Ok(())
}

fn name(figure: &str, many: &str, suffix: &str) -> arrayvec::ArrayString<64> {
    let mut name = arrayvec::ArrayString::new();
    for part in [figure, many, suffix] {
        name.push_str(part);
    }
    name
}
