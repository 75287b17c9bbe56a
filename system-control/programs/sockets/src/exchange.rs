//! Many messages of all sizes, every byte checked, in both modes.

use std::{
    io::{self, Read, Seek, Write},
    thread,
};

use handover_control::{Channel, Delivery, Message, Region};

use crate::{Outcome, check, pair};

const ROUNDS: u64 = 200;
const LARGEST: usize = 2 << 20;

/// Bytes that depend on the round.
fn fill(bytes: &mut [u8], round: u64) {
    for (word, place) in bytes.chunks_mut(8).zip(0u64..) {
        let value = (round << 32 | place).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
        word.copy_from_slice(&value[..word.len()]);
    }
}

/// From one byte to the largest, unevenly.
fn size(round: u64) -> usize {
    let most = 1u64 << (round % 22);
    (round.wrapping_mul(0x9e37_79b9_7f4a_7c15) % most + 1).min(LARGEST as u64) as usize
}

/// Sends so many bytes in whatever way the channel has.
fn send(channel: &Channel, bytes: &[u8]) -> io::Result<()> {
    let region = match channel.region(bytes.len())? {
        Region::File(file) => {
            (&*file).write_all(bytes)?;
            Region::File(file)
        }
        Region::Mapped(mut region) => {
            region[..bytes.len()].copy_from_slice(bytes);
            Region::Mapped(region)
        }
    };
    let length = (bytes.len() as u64).to_le_bytes();
    channel.send((region, &length[..])).map_err(io::Error::from)
}

/// The bytes of a message; they stay in the region too.
fn bytes(message: &mut Message) -> io::Result<Vec<u8>> {
    let damaged = || io::Error::from(io::ErrorKind::InvalidData);
    let length = message.short.first_chunk().map(|length| u64::from_le_bytes(*length)).ok_or_else(damaged)?;
    let mut bytes = vec![0; length as usize];
    match message.region.as_mut().ok_or_else(damaged)? {
        Region::File(file) => (&**file).read_exact(&mut bytes)?,
        Region::Mapped(region) => bytes.copy_from_slice(region.get(..length as usize).ok_or_else(damaged)?),
    }
    Ok(bytes)
}

pub fn run() -> Outcome {
    for (name, ours, theirs) in [
        ("files to files", Delivery::Files, Delivery::Files),
        ("mappings to files", Delivery::Mapping, Delivery::Files),
        ("mappings to mappings", Delivery::Mapping, Delivery::Mapping),
    ] {
        let (mut client, mut server) = pair()?;
        client.set_delivery(ours)?;
        server.set_delivery(theirs)?;
        let server = thread::spawn(move || -> io::Result<u64> {
            let mut served = 0;
            while let Some(mut message) = server.receive()? {
                // The same memory goes back, each byte inverted by who has it.
                let inverted: Vec<u8> = bytes(&mut message)?.iter().map(|byte| !byte).collect();
                match message.region.as_mut() {
                    Some(Region::File(file)) => {
                        (&**file).rewind()?;
                        (&**file).write_all(&inverted)?;
                    }
                    Some(Region::Mapped(region)) => region[..inverted.len()].copy_from_slice(&inverted),
                    None => {}
                }
                server.send(message).map_err(io::Error::from)?;
                served += 1;
            }
            Ok(served)
        });
        let mut right = 0;
        for round in 0..ROUNDS {
            let mut sent = vec![0; size(round)];
            fill(&mut sent, round);
            send(&client, &sent)?;
            let back = bytes(&mut client.receive()?.ok_or("the server has closed")?)?;
            right += u64::from(
                back.len() == sent.len() && back.iter().zip(&sent).all(|(back, sent)| *back == !sent),
            );
        }
        drop(client);
        let served = server.join().map_err(|_| "the server's thread has panicked")??;
        check(name, right == ROUNDS && served == ROUNDS);
    }
    Ok(())
}
