//! Serves messages: inverts the bytes of each and hands it back, the same region if there was one. Each argument is a service, and how its
//! regions are reached: `echo=files`, `echo=mapping`. All of them, and all their channels, are served with one `poll`; with `together=N`, from
//! when there are so many channels. With `crash=N`, it crashes while it has a message in hand, after N answers; its third life does not.

use std::{
    env,
    error::Error,
    fs::File,
    io::{self, ErrorKind, Read, Seek, Write},
    os::fd::{AsRawFd, RawFd},
    process,
};

use handover_control::{Channel, Delivery, Listener, Message, Region};

/// Lives until it is well.
const LIVES: u64 = 3;

/// A channel, and the answer that its peer has no room for yet.
struct Session {
    channel: Channel,
    waiting: Option<Message>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let (mut listeners, mut together, mut crash) = (Vec::new(), 0, None);
    for argument in env::args().skip(1) {
        let (service, delivery) = match argument.split_once('=') {
            Some((service, "files")) => (service, Delivery::Files),
            Some((service, "mapping")) => (service, Delivery::Mapping),
            Some(("together", count)) => {
                together = count.parse()?;
                continue;
            }
            Some(("crash", count)) => {
                let first = env::args().nth(1).unwrap_or_default();
                crash = crashes(&first)?.then(|| count.parse()).transpose()?;
                continue;
            }
            _ => return Err(format!("`{argument}` is neither SERVICE=files nor SERVICE=mapping").into()),
        };
        let listener = Listener::listen(service)?;
        listener.set_nonblocking(true)?;
        listeners.push((listener, delivery));
    }
    handover_control::ready()?;
    println!("mirror: serving");
    serve(&listeners, together, crash)
}

/// Whether this is one of the lives that crash.
fn crashes(service: &str) -> io::Result<bool> {
    let path = format!("/tmp/{service}-lives");
    let mut lives = File::options().create(true).append(true).open(path)?;
    lives.write_all(b".")?;
    Ok(lives.metadata()?.len() < LIVES)
}

fn serve(
    listeners: &[(Listener, Delivery)],
    together: usize,
    crash: Option<u64>,
) -> Result<(), Box<dyn Error>> {
    let mut sessions: Vec<Session> = Vec::new();
    let (mut most, mut served) = (0, 0u64);
    loop {
        let ready = wait(listeners, if most < together { &[] } else { &sessions })?;
        let mut ready = ready.into_iter();
        for ((listener, delivery), ready) in listeners.iter().zip(&mut ready) {
            if ready {
                accept(listener, *delivery, &mut sessions)?;
            }
        }
        // Those that were accepted just now are not among the ready ones.
        let before = sessions.len();
        let mut ready = ready.chain(std::iter::repeat(false));
        sessions.retain_mut(|session| !ready.next().unwrap_or(false) || go_on(session, &mut served, crash));
        if sessions.len() > most || sessions.is_empty() && before > 0 {
            most = most.max(sessions.len());
            println!("mirror: {served} answered, {} channels, {most} at most", sessions.len());
        }
    }
}

/// Waits; which of the listeners, and then of the sessions, have something to do.
fn wait(listeners: &[(Listener, Delivery)], sessions: &[Session]) -> io::Result<Vec<bool>> {
    let entry = |fd: RawFd, events: i16| libc::pollfd { fd, events, revents: 0 };
    let mut watched: Vec<libc::pollfd> =
        listeners.iter().map(|(listener, _)| entry(listener.as_raw_fd(), libc::POLLIN)).collect();
    watched.extend(sessions.iter().map(|session| {
        let events = if session.waiting.is_some() { libc::POLLOUT } else { libc::POLLIN };
        entry(session.channel.as_raw_fd(), events)
    }));
    // SAFETY: as many entries as it is told, which live as long as the call.
    let ready = unsafe { libc::poll(watched.as_mut_ptr(), watched.len() as libc::nfds_t, -1) };
    if ready < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(watched.iter().map(|entry| entry.revents != 0).collect())
}

fn accept(listener: &Listener, delivery: Delivery, sessions: &mut Vec<Session>) -> io::Result<()> {
    loop {
        match listener.accept() {
            Ok((mut channel, _)) => {
                channel.set_delivery(delivery)?;
                channel.set_nonblocking(true)?;
                sessions.push(Session { channel, waiting: None });
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// Answers what there is; whether the channel goes on.
fn go_on(session: &mut Session, served: &mut u64, crash: Option<u64>) -> bool {
    match answer(session, served, crash) {
        Ok(goes_on) => goes_on,
        Err(error) if error.kind() == ErrorKind::WouldBlock => true,
        Err(error) => {
            // A client that has gone in between is no news.
            if !matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) {
                println!("mirror: {error}");
            }
            false
        }
    }
}

fn answer(session: &mut Session, served: &mut u64, crash: Option<u64>) -> io::Result<bool> {
    loop {
        let message = match session.waiting.take() {
            Some(message) => message,
            None => match session.channel.receive()? {
                Some(message) => inverted(message)?,
                None => return Ok(false),
            },
        };
        if crash == Some(*served) {
            process::abort();
        }
        if let Err(failed) = session.channel.send(message) {
            session.waiting = (failed.error.kind() == ErrorKind::WouldBlock).then_some(failed.message);
            return Err(failed.error);
        }
        *served += 1;
    }
}

/// Inverts the bytes of a short message; of a region, as many as the short message counts, or all.
fn inverted(mut message: Message) -> io::Result<Message> {
    let count = message.short.first_chunk().map(|&count| u64::from_le_bytes(count) as usize);
    let size = |size: usize| count.unwrap_or(size).min(size);
    match &mut message.region {
        None => invert(&mut message.short),
        Some(Region::Mapped(region)) => {
            let size = size(region.len());
            invert(&mut region[..size]);
        }
        Some(Region::File(file)) => {
            let size = size(file.metadata()?.len() as usize);
            let mut file = &**file;
            let mut bytes = vec![0; size];
            file.read_exact(&mut bytes)?;
            invert(&mut bytes);
            file.rewind()?;
            file.write_all(&bytes)?;
        }
    }
    Ok(message)
}

fn invert(bytes: &mut [u8]) {
    bytes.iter_mut().for_each(|byte| *byte = !*byte);
}
