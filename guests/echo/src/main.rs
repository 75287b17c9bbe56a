//! Serves "echo": changes each message in place and hands it back, the same region if there was one.
//!
//! With the argument `prove` it first proves exclusive ownership to itself: it sends itself a region, touches it on its
//! way, and is stopped by the MMU.

#![no_std]
#![no_main]

mod proof;
mod session;

use arrayvec::ArrayVec;
use handover_guest::{Boot, Error, Port, ServiceId, Status, entry, events, println, signals};
use session::Session;

entry!(main);

/// Channels that are served at once.
const SESSIONS_MAX: usize = 32;
/// Why a request is refused: it asks for another service.
const REFUSED_UNKNOWN_SERVICE: u32 = 1;
/// Why a request is refused: all sessions are taken.
const REFUSED_BUSY: u32 = 2;

/// What echo does to a message: every byte is XORed with 0xff.
fn transform(bytes: &mut [u8]) {
    let count = bytes.len() / size_of::<u64>();
    let rest = match <[u64] as zerocopy::FromBytes>::mut_from_prefix_with_elems(bytes, count) {
        Ok((words, rest)) => {
            words.iter_mut().for_each(|word| *word = !*word);
            rest
        }
        Err(unaligned) => unaligned.into_src(),
    };
    rest.iter_mut().for_each(|byte| *byte = !*byte);
}

fn main(boot: Boot) -> Result<Status, Error> {
    let Some(service) = boot.provided("echo") else {
        println!("echo: the device tree lists no service \"echo\" of this partition; add it to the manifest");
        return Ok(Status::FAILURE);
    };
    if boot.argument("prove").is_some()
        && let Err(failure) = proof::prove(service)
    {
        println!("echo: exclusive ownership NOT proven: {failure}");
        return Ok(Status::FAILURE);
    }
    println!("echo: serving");
    serve(service)
}

fn serve(service: ServiceId) -> Result<Status, Error> {
    let mut sessions: ArrayVec<Session, SESSIONS_MAX> = ArrayVec::new();
    loop {
        let event = events::wait()?;
        if event.port == Port::CONTROL {
            while let Some(signal) = signals::next()? {
                if let signals::Signal::Connect(request) = signal {
                    admit(request, service, &mut sessions)?;
                }
            }
        } else if let Some(at) = sessions.iter().position(|session| session.port() == event.port)
            && let Err(error) = sessions[at].serve()
        {
            if error != Error::PeerClosed {
                println!("echo: port {}: {error}", event.port);
            }
            sessions.remove(at);
        }
    }
}

fn admit(
    request: signals::Request,
    service: ServiceId,
    sessions: &mut ArrayVec<Session, SESSIONS_MAX>,
) -> Result<(), Error> {
    let refused = if request.service != service {
        request.refuse(REFUSED_UNKNOWN_SERVICE)
    } else if sessions.is_full() {
        request.refuse(REFUSED_BUSY)
    } else {
        let partition = request.partition;
        match request.accept() {
            Ok(channel) => sessions.push(Session::new(channel)),
            Err(error) => println!("echo: partition {partition} asked for a channel: {error}"),
        }
        Ok(())
    };
    match refused {
        // Who asked has taken the request back.
        Err(Error::BadHandle) => Ok(()),
        refused => refused,
    }
}
