//! Sockets: message channels, and pairs. What a socket does is decided in `handover_files`.

use alloc::vec::Vec;

use handover_files::{Errno, Fd, interface::Address};
use linux_raw_sys::net;

use super::{
    Outcome, Stop,
    file::{close, with},
    transfer::{read_buffers, wait_for, write_buffers},
};
use crate::{
    kernel::Kernel,
    task::{Call, Key},
};

/// The most bytes of an address that are looked at.
const ADDRESS_MAX: u64 = 128;

fn address(kernel: &mut Kernel, address: u64, length: u64) -> Result<Vec<u8>, Errno> {
    if length > ADDRESS_MAX {
        return Err(Errno::INVAL);
    }
    let mut bytes = alloc::vec![0; length as usize];
    kernel.read(address, &mut bytes)?;
    Ok(bytes)
}

fn read_int(kernel: &mut Kernel, address: u64) -> Result<u32, Errno> {
    let mut bytes = [0; 4];
    kernel.read(address, &mut bytes)?;
    Ok(u32::from_le_bytes(bytes))
}

/// Writes as much of something as there is room for, and how long it is.
fn put(kernel: &mut Kernel, address: u64, length: u64, bytes: &[u8]) -> Result<(), Errno> {
    let room = read_int(kernel, length)? as usize;
    if room > i32::MAX as usize {
        return Err(Errno::INVAL);
    }
    kernel.write(address, &bytes[..room.min(bytes.len())])?;
    kernel.write(length, &(bytes.len() as u32).to_le_bytes())
}

/// `socket`.
pub fn make(kernel: &mut Kernel, domain: u64, kind: u64, protocol: u64) -> Outcome {
    Ok(with(kernel, |caller| caller.socket(domain as u32, kind as u32, protocol as u32))? as u64)
}

/// `socketpair`.
pub fn pair(kernel: &mut Kernel, [domain, kind, protocol, place]: [u64; 4]) -> Outcome {
    let ends = with(kernel, |caller| caller.socketpair(domain as u32, kind as u32, protocol as u32))?;
    let bytes: Vec<u8> = ends.iter().flat_map(|end| end.to_le_bytes()).collect();
    if let Err(errno) = kernel.write(place, &bytes) {
        for end in ends {
            close(kernel, end as u64)?;
        }
        return Err(errno.into());
    }
    Ok(0)
}

/// `bind`.
pub fn bind(kernel: &mut Kernel, which: u64, place: u64, length: u64) -> Outcome {
    let bytes = address(kernel, place, length)?;
    with(kernel, |caller| caller.bind(which as Fd, &bytes))?;
    Ok(0)
}

/// `listen`.
pub fn listen(kernel: &mut Kernel, which: u64, backlog: u64) -> Outcome {
    with(kernel, |caller| caller.listen(which as Fd, backlog as i32))?;
    Ok(0)
}

/// `accept4`.
pub fn accept(kernel: &mut Kernel, which: u64, place: u64, length: u64, flags: u64) -> Outcome {
    if place != 0 {
        read_int(kernel, length)?;
    }
    let accepted = match kernel.with_files(|caller, _| caller.accept4(which as Fd, flags as u32))? {
        Ok(accepted) => accepted,
        Err(Errno::AGAIN) => return wait_for(kernel, which as Fd, 0),
        Err(errno) => return Err(errno.into()),
    };
    if place != 0 {
        let peer = with(kernel, |caller| caller.getpeername(accepted))?;
        if let Err(errno) = put(kernel, place, length, &peer.to_bytes()) {
            close(kernel, accepted as u64)?;
            return Err(errno.into());
        }
    }
    Ok(accepted as u64)
}

/// `connect`.
pub fn connect(kernel: &mut Kernel, which: u64, place: u64, length: u64) -> Outcome {
    let fd = which as Fd;
    let result = if kernel.call().is_some() {
        kernel.with_files(|caller, _| caller.connect_result(fd))?
    } else {
        let bytes = address(kernel, place, length)?;
        match kernel.with_files(|caller, _| caller.connect(fd, &bytes))? {
            Err(Errno::INPROGRESS) if with(kernel, |caller| caller.nonblocking(fd))? => {
                Err(Errno::INPROGRESS)
            }
            Err(Errno::INPROGRESS) => Err(Errno::AGAIN),
            result => result,
        }
    };
    match result {
        Err(Errno::AGAIN) => {
            let key = with(kernel, |caller| caller.wait_key(fd))?;
            // Not made anew after a handler: it goes on by itself, and `poll` tells of its end.
            Err(Stop::Wait(Call { keys: key.map(Key::File).into_iter().collect(), ..Call::default() }))
        }
        result => Ok(result.map(|()| 0)?),
    }
}

fn tell_address(kernel: &mut Kernel, place: u64, length: u64, told: Address) -> Outcome {
    put(kernel, place, length, &told.to_bytes())?;
    Ok(0)
}

/// A socket of a pair has no name: its address is the family alone.
fn nameless(kernel: &mut Kernel, place: u64, length: u64) -> Outcome {
    put(kernel, place, length, &(net::AF_UNIX as u16).to_le_bytes())?;
    Ok(0)
}

/// `getsockname`.
pub fn name(kernel: &mut Kernel, which: u64, place: u64, length: u64) -> Outcome {
    if with(kernel, |caller| caller.is_pair(which as Fd))? {
        return nameless(kernel, place, length);
    }
    let told = with(kernel, |caller| caller.getsockname(which as Fd))?;
    tell_address(kernel, place, length, told)
}

/// `getpeername`.
pub fn peer_name(kernel: &mut Kernel, which: u64, place: u64, length: u64) -> Outcome {
    if with(kernel, |caller| caller.is_pair(which as Fd))? {
        return nameless(kernel, place, length);
    }
    let told = with(kernel, |caller| caller.getpeername(which as Fd))?;
    tell_address(kernel, place, length, told)
}

/// `getsockopt`, of an `int`.
pub fn option(kernel: &mut Kernel, [which, level, option, place, length]: [u64; 5]) -> Outcome {
    // `SO_ERROR` is told once, so it must not be lost.
    if read_int(kernel, length)? < 4 {
        return Err(Errno::INVAL.into());
    }
    let before = read_int(kernel, place)?;
    kernel.write(place, &before.to_le_bytes())?;
    let value = with(kernel, |caller| caller.getsockopt(which as Fd, level as u32, option as u32))?;
    put(kernel, place, length, &value.to_le_bytes())?;
    Ok(0)
}

/// `setsockopt`, of an `int`.
pub fn set_option(kernel: &mut Kernel, [which, level, option, place, length]: [u64; 5]) -> Outcome {
    if length < 4 {
        return Err(Errno::INVAL.into());
    }
    let value = read_int(kernel, place)?;
    with(kernel, |caller| caller.setsockopt(which as Fd, level as u32, option as u32, value))?;
    Ok(0)
}

/// `shutdown`.
pub fn shut_down(kernel: &mut Kernel, which: u64, how: u64) -> Outcome {
    with(kernel, |caller| caller.shutdown(which as Fd, how as u32))?;
    Ok(0)
}

fn check_socket(kernel: &mut Kernel, which: u64, flags: u64, known: u32) -> Result<bool, Stop> {
    if !with(kernel, |caller| caller.is_socket(which as Fd))? {
        return Err(Errno::NOTSOCK.into());
    }
    let flags = flags as u32;
    if flags & !known != 0 {
        return Err(Errno::OPNOTSUPP.into());
    }
    Ok(flags & net::MSG_DONTWAIT != 0)
}

/// A call that does not wait, whatever the descriptor says.
fn without_waiting(outcome: Outcome, at_once: bool) -> Outcome {
    match outcome {
        Err(Stop::Wait(_)) if at_once => Err(Errno::AGAIN.into()),
        outcome => outcome,
    }
}

/// `sendto`, without an address.
pub fn send(kernel: &mut Kernel, [which, from, length, flags, place, _]: [u64; 6]) -> Outcome {
    let known = net::MSG_DONTWAIT | net::MSG_NOSIGNAL | net::MSG_EOR;
    let at_once = check_socket(kernel, which, flags, known)?;
    if place != 0 {
        return Err(Errno::ISCONN.into());
    }
    let quiet = flags as u32 & net::MSG_NOSIGNAL != 0;
    without_waiting(write_buffers(kernel, which, &[(from, length)], quiet), at_once)
}

/// `recvfrom`; it tells no address.
pub fn receive(kernel: &mut Kernel, [which, to, length, flags, _, address_length]: [u64; 6]) -> Outcome {
    let at_once = check_socket(kernel, which, flags, net::MSG_DONTWAIT)?;
    if address_length != 0 {
        kernel.write(address_length, &[0; 4])?;
    }
    without_waiting(read_buffers(kernel, which, &[(to, length)]), at_once)
}
