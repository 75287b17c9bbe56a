//! Messages as mappings.

use std::{
    io::{Read, Write},
    os::unix::process::ExitStatusExt,
    process::Command,
};

use handover_control::{Delivery, MappedRegion, Region};

use crate::{Outcome, check, pair};

/// The argument with which this program touches a region that was sent, and dies of it.
pub const TOUCH: &str = "touch-region";

fn mapped(region: Option<Region>) -> Option<MappedRegion> {
    match region {
        Some(Region::Mapped(region)) => Some(region),
        _ => None,
    }
}

pub fn run() -> Outcome {
    let (mut client, mut server) = pair()?;
    client.set_delivery(Delivery::Mapping)?;
    // Larger ones too, and one that has to lie elsewhere.
    for bytes in [1, 4096, 5000, 1 << 20, 2 << 20, 4 << 20] {
        let mut region = mapped(Some(client.region(bytes)?)).ok_or("no region")?;
        let size = region.len();
        let zeroes = region.iter().all(|&byte| byte == 0);
        region[0] = 1;
        region[size - 1] = 2;
        client.send((Region::Mapped(region), &b"mapped"[..])).map_err(|failed| failed.error)?;
        // The other side cannot tell: it has files first, and mappings then.
        let message = server.receive()?.ok_or("no message")?;
        let Some(Region::File(file)) = message.region else { return Err("no file".into()) };
        let mut first = [0; 1];
        (&*file).read_exact(&mut first)?;
        (&*file).write_all(&[3])?;
        let length = file.metadata()?.len();
        server.send(Region::File(file)).map_err(|failed| failed.error)?;
        let back = mapped(client.receive()?.ok_or("no message")?.region).ok_or("no region")?;
        let right =
            zeroes && length == size as u64 && first == [1] && back[..2] == [1, 3] && back[size - 1] == 2;
        check(&format!("{bytes} bytes"), right && message.short == b"mapped" && back.len() == size);
    }
    // Both ends, and a child that has nothing of it.
    server.set_delivery(Delivery::Mapping)?;
    let mut region = mapped(Some(client.region(8192)?)).ok_or("no region")?;
    region.fill(9);
    // SAFETY: the child makes no call but `_exit`, after one touch of memory.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: aligned, and of a byte; it is not there in the child, which is what is tried.
        let value = unsafe { std::ptr::read_volatile(region.as_ptr()) };
        // SAFETY: ends the process.
        unsafe { libc::_exit(i32::from(value)) };
    }
    let mut status = 0;
    // SAFETY: writes the status where it is told to.
    let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
    check(
        "not inherited",
        waited == child && std::process::ExitStatus::from_raw(status).signal() == Some(libc::SIGSEGV),
    );
    check("still there", region.iter().all(|&byte| byte == 9));
    client.send(Region::Mapped(region)).map_err(|failed| failed.error)?;
    let region = mapped(server.receive()?.ok_or("no message")?.region).ok_or("no region")?;
    check("both mapped", region.iter().all(|&byte| byte == 9));
    // Cut into pieces it cannot be.
    // SAFETY: it fails.
    let cut = unsafe { libc::munmap(region.as_ptr().cast_mut().cast(), 4096) };
    check("not in part", cut != 0);
    drop(region);
    let status = Command::new(std::env::current_exe()?).arg(TOUCH).status()?;
    check("a touch of a region", status.signal() == Some(libc::SIGSEGV));
    Ok(())
}

/// In a process of its own.
pub fn touch() -> Outcome {
    let (mut client, _server) = pair()?;
    client.set_delivery(Delivery::Mapping)?;
    let region = mapped(Some(client.region(4096)?)).ok_or("no region")?;
    let place = region.as_ptr();
    client.send(Region::Mapped(region)).map_err(|failed| failed.error)?;
    // SAFETY: aligned, and of a byte; there is nothing any more, which is what is tried.
    let value = unsafe { std::ptr::read_volatile(place) };
    println!("sockets: still there: {value}");
    Ok(())
}
