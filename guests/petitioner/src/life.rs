//! Guests that init looks after.

use core::time::Duration;

use handover_guest::{
    Boot, Channel, ConnectError, Error, Listener, Region, Short, Status, hvc, println,
    signals::{self, Signal},
    task::block_on,
    timer,
};

/// Messages that the stubborn one has answered.
const MESSAGES: u32 = 200;
/// Bytes of each.
const REGION: usize = 16 << 10;
/// Channels that the faithful one is given, one after another.
const ROUNDS: usize = 3;
/// Times that the watched one kicks its watchdog.
const KICKS: u32 = 5;
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(5);

fn pause() -> Result<(), Error> {
    block_on(timer::sleep_until(timer::after(PAUSE)))
}

/// Serves one client with one answer, and fails.
pub fn fleeting(boot: &Boot) -> Result<Status, Error> {
    let mut listener = Listener::new(boot.provided("fleeting").ok_or(Error::BadHandle)?);
    let mut channel = listener.request_wait()?.accept()?;
    let message = channel.receive_wait()?;
    channel.send_wait(message.short)?;
    // Until the client has it: what nobody has received goes with its sender.
    while channel.receive_wait().is_ok() {}
    Ok(Status::FAILURE)
}

/// Is served by as many lives of that one as it needs, under the id that it knows.
pub fn faithful(boot: &Boot) -> Result<(), Error> {
    let service = boot.service("fleeting").ok_or(Error::BadHandle)?;
    let mut attempts = 0;
    for round in 1..=ROUNDS {
        let mut channel = loop {
            attempts += 1;
            match Channel::connect(service) {
                Ok(channel) => break channel,
                // Between two lives.
                Err(ConnectError::Failed(Error::PeerClosed | Error::NotConnected)) => pause()?,
                Err(error) => return Err(error.into()),
            }
        };
        channel.send_wait(Short::new(&[round as u8])?)?;
        let answer = channel.receive_wait()?;
        println!("petitioner: life {:?} of partition {}", &answer.short[..], service.partition);
    }
    println!("petitioner: served by {ROUNDS} lives, at least {ROUNDS} attempts: {}", attempts >= ROUNDS);
    Ok(())
}

/// Has the service `mirror` answer messages, each with a region, over again where the channel closes before the answer.
pub fn stubborn(boot: &Boot) -> Result<(), Error> {
    let service = boot.service("mirror").ok_or(Error::BadHandle)?;
    let (mut answered, mut channels) = (0, 0);
    while answered < MESSAGES {
        let mut channel = match Channel::connect(service) {
            Ok(channel) => channel,
            // It does not listen yet, or again.
            Err(ConnectError::Refused(_)) => {
                pause()?;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        channels += 1;
        while answered < MESSAGES {
            match exchange(&mut channel, answered) {
                Ok(()) => answered += 1,
                Err(Error::PeerClosed) => break,
                Err(error) => return Err(error),
            }
        }
    }
    println!("petitioner: {answered} answered on {channels} channels");
    Ok(())
}

/// One message, and its answer, of which every byte is inverted.
fn exchange(channel: &mut Channel, number: u32) -> Result<(), Error> {
    let mut region = Region::create(REGION)?;
    region.fill(number as u8);
    channel.send_wait(region)?;
    let answer = channel.receive_wait()?;
    let is_right = answer.region.is_some_and(|region| region.iter().all(|&byte| byte == !(number as u8)));
    if is_right { Ok(()) } else { Err(Error::InvalidArgument) }
}

/// Ends when it is asked to.
pub fn obedient() -> Result<Status, Error> {
    loop {
        if let Signal::ShutdownRequest { nanoseconds } = block_on(signals::next_async())? {
            println!("petitioner: asked to end within {} ms", nanoseconds / 1_000_000);
            return Ok(Status(4));
        }
    }
}

/// Does not listen to anybody.
pub fn deaf() -> Result<(), Error> {
    loop {
        pause()?;
    }
}

/// Kicks its watchdog some times, and then never again.
pub fn watched() -> Result<(), Error> {
    for _ in 0..KICKS {
        let timeout = hvc::watchdog_kick()?;
        block_on(timer::sleep_until(timer::after(Duration::from_nanos(timeout / 2))))?;
    }
    println!("petitioner: kicked {KICKS} times");
    deaf()
}
