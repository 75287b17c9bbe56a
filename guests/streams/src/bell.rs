//! Answers each event by one, by the ports that its client asks for; before that it rings its client's own service "ring".

use handover_guest::{
    Boot, Causes, ConnectError, Error, EventReceiver, EventSender, Port, PortSet, RequestFlags, Service,
    Status, interrupts, println,
    signals::{self, Signal},
};

pub(crate) fn run(boot: &Boot) -> Result<Status, Error> {
    if let Some(service) = boot.service("ring") {
        ring(service)?;
    }
    interrupts::mask();
    let set = PortSet::create()?;
    set.add(Port::CONTROL)?;
    let (mut heard, mut answers) = (None::<EventReceiver>, None::<EventSender>);
    let mut count = 0u64;
    println!("bell: waits");
    loop {
        let event = set.wait()?;
        if event.port == Port::CONTROL {
            while let Some(signal) = signals::next()? {
                let Signal::Connect(request) = signal else { continue };
                if request.flags == RequestFlags::EVENTS | RequestFlags::SEND_ONLY {
                    let receiver = EventReceiver::from_channel(request.accept()?);
                    set.add(receiver.port())?;
                    heard = Some(receiver);
                } else if request.flags == RequestFlags::EVENTS | RequestFlags::RECEIVE_ONLY {
                    answers = Some(EventSender::from_channel(request.accept()?));
                }
            }
        }
        if heard.as_ref().is_none_or(|heard| heard.port() != event.port) {
            continue;
        }
        if event.causes.contains(Causes::SIGNAL) {
            count += 1;
            if let Some(answers) = &answers {
                answers.send()?;
            }
        }
        if event.causes.contains(Causes::PEER_CLOSED) {
            println!("bell: {count} events, and its client has gone");
            (heard, answers) = (None, None);
        }
    }
}

/// Sends one event, once whoever is asked listens.
fn ring(service: Service) -> Result<(), Error> {
    loop {
        match EventSender::connect(service.partition, service.service, None) {
            Ok(sender) => return sender.send(),
            Err(ConnectError::Refused(_) | ConnectError::Failed(Error::NotConnected)) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
