//! Does what a program asks for that measures: tells its count at a time, or sends a region and tells when.

use handover_guest::{Channel, Error, Region, Service, Short, events, interrupts, println, timer};
use handover_mark as mark;

/// Before a region is sent, so long nothing happens: the program waits for it then, and the processor for both.
const PAUSE: u64 = 1_000_000;

/// Asked: at this count, tell the count.
const TELL: u64 = 0;
/// Asked: send a region of so many bytes; its message tells the count just before.
const SEND: u64 = 1;

pub(crate) fn run(service: Service) -> Result<(), Error> {
    interrupts::enable(handover_guest::abi::layout::VIRTUAL_TIMER_INTID, interrupts::Trigger::Level, |_| {
        timer::stop()
    })?;
    let mut channel = Channel::connect(service)?;
    loop {
        let request = match channel.receive() {
            Ok(Some(request)) => request,
            Ok(None) => {
                events::wait_for(channel.port())?;
                continue;
            }
            Err(Error::PeerClosed) => return Ok(()),
            Err(error) => return Err(error),
        };
        let mut words =
            request.short.chunks_exact(8).filter_map(|word| word.try_into().ok().map(u64::from_le_bytes));
        match (words.next(), words.next()) {
            (Some(TELL), Some(time)) => {
                sleep_until(time);
                channel.send(Short::from(&timer::now().to_le_bytes())).map_err(Error::from)?;
            }
            (Some(SEND), Some(bytes)) => {
                let mut region = Region::create(bytes as usize)?;
                region[0] = 1;
                sleep_until(timer::now() + PAUSE);
                // Who asked ends the sample.
                mark::begin();
                let now = Short::from(&timer::now().to_le_bytes());
                channel.send_from(Some(region), &now).map_err(Error::from)?;
            }
            other => println!("sender: what is {other:?}?"),
        }
    }
}

fn sleep_until(time: u64) {
    while timer::now() < time {
        timer::set_deadline(time);
        interrupts::wait();
    }
}
