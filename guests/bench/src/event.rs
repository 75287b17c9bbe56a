//! Events alone: a port each way, both bound to an interrupt, so that an interrupt is all there is to take.

use handover_guest::{
    Channel, Connecting, Error, EventReceiver, EventSender, Port, RequestFlags, RequestWord, Service,
    abi::layout::CHOSEN_INTID_FIRST,
    events,
    interrupts::{self, Trigger},
    signals,
};

use crate::sample::{measure, measure_pair};

/// What the measured events raise.
const INTID: u32 = CHOSEN_INTID_FIRST;

fn note(_: u32) {}

/// Waits until an event has come; whatever else comes meanwhile is taken too.
#[inline]
pub(crate) fn wait() {
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

/// The next request that is such.
pub(crate) fn request(is: impl Fn(&signals::Request) -> bool) -> Result<signals::Request, Error> {
    loop {
        while let Some(signal) = signals::next()? {
            if let signals::Signal::Connect(request) = signal
                && is(&request)
            {
                return Ok(request);
            }
        }
        events::wait_for(Port::CONTROL)?;
    }
}

/// A port each way.
pub(crate) struct Ports {
    pub(crate) sends: EventSender,
    receives: EventReceiver,
}

impl Ports {
    pub(crate) fn connect(service: Service) -> Result<Ports, Error> {
        let sends = EventSender::connect(service.partition, service.service, None)?;
        let flags = RequestFlags::EVENTS | RequestFlags::RECEIVE_ONLY;
        let word = RequestWord::new(service.service, flags);
        let connected = Connecting::request(service.partition, word, None)?;
        Ok(Ports { sends, receives: receiver(connected.wait()?)? })
    }

    /// `first` is one of the two requests for them.
    pub(crate) fn accept(first: signals::Request) -> Result<Ports, Error> {
        let (mut receives, mut sends) = (None, None);
        let mut first = Some(first);
        loop {
            let request = match first.take() {
                Some(request) => request,
                None => request(|request| request.flags.contains(RequestFlags::EVENTS))?,
            };
            if request.flags.contains(RequestFlags::SEND_ONLY) {
                receives = Some(receiver(request.accept()?)?);
            } else {
                sends = Some(EventSender::from_channel(request.accept()?));
            }
            match (sends, receives) {
                (Some(sends), Some(receives)) => return Ok(Ports { sends, receives }),
                one => (sends, receives) = one,
            }
        }
    }
}

/// Answers each event by one.
pub(crate) fn serve(ports: &Ports) -> Result<(), Error> {
    loop {
        wait();
        match ports.sends.send() {
            Ok(()) => {}
            Err(Error::PeerClosed) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// Measures.
pub(crate) fn run(ports: Ports) -> Result<(), Error> {
    let Ports { sends, receives } = ports;
    measure("event_round_trip", (), |()| {
        sends.send()?;
        wait();
        Ok(())
    })?;
    measure_pair(
        ["event_send", "event_answer"],
        || sends.send(),
        |()| {
            wait();
            Ok(())
        },
    )?;
    // The last event lets the server see that this side is gone.
    drop(receives);
    sends.send()?;
    Ok(())
}
