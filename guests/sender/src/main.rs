//! Has the service that it uses change messages of all sizes, up to `max` bytes, and checks every byte of what comes back: `count`
//! messages, one after another. With `measure` it does what a program asks for that measures. The service inverts the bytes of a short message; of a region, as many as the short message counts.

#![no_std]
#![no_main]

mod measure;

use handover_guest::{Boot, Channel, Error, Region, Short, Status, abi::SHORT_MAX, entry, events, println};

entry!(main);

fn main(boot: Boot) -> Result<Status, Error> {
    let number =
        |name: &str, default: u64| boot.argument(name).and_then(|word| word.parse().ok()).unwrap_or(default);
    let Some((name, service)) = boot.services().next() else {
        println!("sender: the device tree lists no service; add one to the manifest");
        return Ok(Status::FAILURE);
    };
    if boot.argument("measure").is_some() {
        measure::run(service)?;
        return Ok(Status::SUCCESS);
    }
    let (count, max) = (number("count", 1000), number("max", 2 << 20));
    let mut channel = Channel::connect(service)?;
    let mut sizes = Sizes { state: number("seed", 1) | 1, max };
    let mut bytes = 0;
    for message in 0..count {
        let size = sizes.next(message);
        bytes += size;
        if let Err(problem) = exchange(&mut channel, message, size as usize) {
            println!("sender: message {message} of {size} bytes: {problem:?}");
            return Ok(Status::FAILURE);
        }
    }
    println!("sender: {name}: {count} messages, {bytes} bytes each way, all right");
    Ok(Status::SUCCESS)
}

/// What went wrong with a message.
#[derive(Debug)]
enum Problem {
    #[expect(dead_code, reason = "for people to read")]
    Call(Error),
    /// No region came back, or one of another size, or bytes of another number.
    Shape,
    #[expect(dead_code, reason = "for people to read")]
    Byte(usize),
}

impl From<Error> for Problem {
    fn from(error: Error) -> Problem {
        Problem::Call(error)
    }
}

/// Sizes from one byte up, as many of each order of magnitude.
struct Sizes {
    state: u64,
    max: u64,
}

impl Sizes {
    fn next(&mut self, message: u64) -> u64 {
        self.state = self.state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        let most = (1 << (message % 22)).min(self.max);
        // The first of each order is the largest, so that both ends are met.
        if message < 22 { most } else { (self.state >> 33) % most + 1 }
    }
}

/// The bytes from `place` on, eight of them.
fn pattern(message: u64, place: usize) -> [u8; 8] {
    (message << 32 ^ place as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes()
}

fn fill(message: u64, bytes: &mut [u8]) {
    for (index, part) in bytes.chunks_mut(8).enumerate() {
        part.copy_from_slice(&pattern(message, index)[..part.len()]);
    }
}

fn check(message: u64, bytes: &[u8]) -> Result<(), Problem> {
    for (index, part) in bytes.chunks(8).enumerate() {
        if part.iter().zip(pattern(message, index)).any(|(&back, sent)| back != !sent) {
            return Err(Problem::Byte(8 * index));
        }
    }
    Ok(())
}

fn exchange(channel: &mut Channel, message: u64, size: usize) -> Result<(), Problem> {
    if size <= SHORT_MAX {
        let mut bytes = [0; SHORT_MAX];
        fill(message, &mut bytes[..size]);
        let short = Short::new(&bytes[..size])?;
        channel.send_wait(short).map_err(Error::from)?;
        let answer = receive(channel)?;
        if answer.region.is_some() || answer.short.len() != size {
            return Err(Problem::Shape);
        }
        return check(message, &answer.short);
    }
    let mut region = Region::create(size.next_power_of_two().max(4096))?;
    let whole = region.len();
    fill(message, &mut region[..size]);
    channel.send_wait((region, Short::from(&(size as u64).to_le_bytes()))).map_err(Error::from)?;
    let answer = receive(channel)?;
    let region = answer.region.filter(|region| region.len() == whole).ok_or(Problem::Shape)?;
    check(message, &region[..size])?;
    // What is behind the message was not counted, and is as it was.
    if region[size..].iter().any(|&byte| byte != 0) { Err(Problem::Shape) } else { Ok(()) }
}

fn receive(channel: &mut Channel) -> Result<handover_guest::Message, Error> {
    loop {
        if let Some(message) = channel.receive()? {
            return Ok(message);
        }
        events::wait_for(channel.port())?;
    }
}
