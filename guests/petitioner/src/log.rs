//! Lines for the log.

use handover_guest::{Boot, Channel, Error, Region, Short, println};

/// Sends a few: short ones, one that needs a region, and one that would disturb a terminal.
pub fn run(boot: &Boot) -> Result<(), Error> {
    let mut log = Channel::connect(boot.service("log").ok_or(Error::BadHandle)?)?;
    log.send_wait(b"first line")?;
    log.send_wait(b"\x1b[2J\x07 rings\nand has a second line")?;
    let mut long = Region::create(4096)?;
    long[..300].fill(b'x');
    long[300..307].copy_from_slice(b" is it.");
    log.send_wait(long)?;
    for number in 1..=100 {
        let mut line = *b"line 000";
        line[5..].copy_from_slice(&[b'0' + number / 100, b'0' + number / 10 % 10, b'0' + number % 10]);
        log.send_wait(Short::new(&line)?)?;
    }
    log.send_wait(Short::EMPTY)?;
    log.receive_wait()?;
    println!("petitioner: 103 lines written");
    Ok(())
}
