//! The well-behaved one: it exchanges messages with echo all the time, many at once, and looks at every byte that comes back.

use arrayvec::ArrayVec;
use handover_guest::{
    Boot, Causes, Channel, Error, Message, Region, Short, Status, events, hvc, println, signals,
};

use crate::random::{Random, mix};

/// Messages under way at once.
const UNDER_WAY: u64 = 24;
/// Regions, and log2 of their bytes. All memory that it needs is taken before anyone else makes memory scarce.
const ORDERS: [usize; 6] = [12, 12, 12, 16, 16, 21];
/// Messages before it says that it is ready.
const WARM: u64 = 200;
/// Bytes of a region that echo changes.
const CHANGED: usize = 256;

/// Role `checker`.
pub(crate) fn run(boot: &Boot) -> Result<Status, Error> {
    let (Some(echo), Some(service)) = (boot.service("echo"), boot.provided("checked")) else {
        println!("checker: the manifest gives this partition no use of \"echo\", or no service \"checked\"");
        return Ok(Status::FAILURE);
    };
    let mut exchange = Exchange::new(Channel::connect(echo)?)?;
    let mut watched = None;
    loop {
        exchange.go_on()?;
        while exchange.received >= WARM
            && let Some(signal) = signals::next()?
        {
            let signals::Signal::Connect(request) = signal else { continue };
            if watched.is_none() && request.service == service {
                watched = Some(request.accept()?);
            } else {
                // Who asked may have gone.
                let _gone: Result<(), Error> = request.refuse(1);
            }
        }
        if let Some(channel) = &watched
            && hvc::port_status(channel.port())?.causes.contains(Causes::PEER_CLOSED)
        {
            break;
        }
    }
    exchange.finish()?;
    println!(
        "checker: {} messages sent, {} received, {} lost, {} wrong",
        exchange.sent,
        exchange.received,
        exchange.sent - exchange.received,
        exchange.wrong
    );
    let well = exchange.wrong == 0 && exchange.sent == exchange.received && exchange.sent > WARM;
    Ok(if well { Status::SUCCESS } else { Status::FAILURE })
}

struct Exchange {
    channel: Channel,
    regions: ArrayVec<Region, { ORDERS.len() }>,
    random: Random,
    sent: u64,
    received: u64,
    wrong: u64,
}

/// Byte `at` of message `number`.
fn byte(number: u64, at: usize) -> u8 {
    (mix(number) >> (at % 8 * 8)) as u8 ^ at as u8
}

/// Message `number`'s bytes, as a short message of a length that follows from the number.
fn short(number: u64) -> ([u8; 128], usize) {
    (core::array::from_fn(|at| byte(number, at)), 1 + mix(number) as usize % 128)
}

/// Whether message `number` brings a region, for which there may be none left.
fn wants_region(number: u64) -> bool {
    mix(number) >> 32 & 1 != 0
}

impl Exchange {
    fn new(channel: Channel) -> Result<Exchange, Error> {
        let regions: Result<_, Error> = ORDERS.iter().map(|order| Region::create(1 << order)).collect();
        Ok(Exchange { channel, regions: regions?, random: Random::new(1, 0), sent: 0, received: 0, wrong: 0 })
    }

    /// Sends a few messages, and takes those that have come back; waits if there is nothing to do.
    fn go_on(&mut self) -> Result<(), Error> {
        let until = self.received + 1 + self.random.below(UNDER_WAY);
        while self.sent < until {
            self.send()?;
        }
        if !self.receive()? {
            events::wait_for(self.channel.port())?;
        }
        while self.receive()? {}
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Error> {
        while self.received < self.sent {
            if !self.receive()? {
                events::wait_for(self.channel.port())?;
            }
        }
        Ok(())
    }

    fn send(&mut self) -> Result<(), Error> {
        let number = self.sent;
        let region = if wants_region(number) { self.regions.pop() } else { None };
        match region {
            Some(mut region) => {
                for (at, changed) in region.iter_mut().take(CHANGED).enumerate() {
                    *changed = byte(number, at);
                }
                let count = (CHANGED as u64).to_le_bytes();
                self.channel.send((region, Short::new(&count)?))?;
            }
            None => {
                let (bytes, length) = short(number);
                self.channel.send(Short::new(&bytes[..length])?)?;
            }
        }
        self.sent += 1;
        Ok(())
    }

    fn receive(&mut self) -> Result<bool, Error> {
        let Some(Message { region, short: bytes }) = self.channel.receive()? else { return Ok(false) };
        let number = self.received;
        let right = match &region {
            Some(region) => {
                region.iter().take(CHANGED).enumerate().all(|(at, &got)| got == !byte(number, at))
            }
            None => {
                let (expected, length) = short(number);
                bytes.len() == length && bytes.iter().zip(expected).all(|(&got, sent)| got == !sent)
            }
        };
        if !right {
            println!("checker: message {number} came back wrong");
            self.wrong += 1;
        }
        self.regions.extend(region);
        self.received += 1;
        Ok(true)
    }
}
