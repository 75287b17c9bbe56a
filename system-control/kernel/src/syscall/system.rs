//! The system as a whole.

use alloc::vec;
use core::mem::offset_of;

use handover_kernel::{Errno, clock::SECOND, layout::PAGE};
use linux_raw_sys::{
    general as linux,
    system::{new_utsname, sysinfo},
};
use rand_chacha::rand_core::RngCore;

use super::Outcome;
use crate::kernel::Kernel;

/// `getrandom`.
pub fn random(kernel: &mut Kernel, address: u64, length: u64, flags: u64) -> Outcome {
    if flags as u32 & !(linux::GRND_NONBLOCK | linux::GRND_RANDOM | linux::GRND_INSECURE) != 0 {
        return Err(Errno::INVAL.into());
    }
    let length = length.min(1 << 20);
    let mut bytes = [0; 256];
    let mut done = 0;
    while done < length {
        let size = bytes.len().min((length - done) as usize);
        kernel.random.fill_bytes(&mut bytes[..size]);
        kernel.write(address.wrapping_add(done), &bytes[..size])?;
        done += size as u64;
    }
    Ok(done)
}

/// `uname`.
pub fn name(kernel: &mut Kernel, address: u64) -> Outcome {
    let mut bytes = vec![0; size_of::<new_utsname>()];
    for (offset, text) in [
        (offset_of!(new_utsname, sysname), "Handover"),
        (offset_of!(new_utsname, nodename), "system-control"),
        // The version of Linux whose interface it is: glibc looks at it.
        (offset_of!(new_utsname, release), "6.12.0"),
        (offset_of!(new_utsname, version), concat!("Handover ", env!("CARGO_PKG_VERSION"))),
        (offset_of!(new_utsname, machine), "aarch64"),
        (offset_of!(new_utsname, domainname), "(none)"),
    ] {
        bytes[offset..offset + text.len()].copy_from_slice(text.as_bytes());
    }
    kernel.write(address, &bytes)?;
    Ok(0)
}

/// `sysinfo`.
pub fn information(kernel: &mut Kernel, address: u64) -> Outcome {
    let mut bytes = vec![0; size_of::<sysinfo>()];
    let processes = kernel.tasks.processes.len() as u64;
    for (offset, value) in [
        (offset_of!(sysinfo, uptime), kernel.now() / SECOND),
        (offset_of!(sysinfo, totalram), kernel.frames.total() * PAGE),
        (offset_of!(sysinfo, freeram), kernel.frames.free() * PAGE),
    ] {
        bytes[offset..offset + 8].copy_from_slice(&value.to_le_bytes());
    }
    let place = offset_of!(sysinfo, procs);
    bytes[place..place + 2].copy_from_slice(&(processes as u16).to_le_bytes());
    let place = offset_of!(sysinfo, mem_unit);
    bytes[place..place + 4].copy_from_slice(&1u32.to_le_bytes());
    kernel.write(address, &bytes)?;
    Ok(0)
}

/// `sched_yield`.
pub fn give_way(kernel: &mut Kernel) -> Outcome {
    kernel.end_turn();
    Ok(0)
}

/// `sched_getaffinity`: processor 0.
pub fn processors(kernel: &mut Kernel, _tid: u64, size: u64, address: u64) -> Outcome {
    if size < 8 {
        return Err(Errno::INVAL.into());
    }
    kernel.write_words(address, &[1])?;
    Ok(8)
}

/// `getcpu`.
pub fn processor(kernel: &mut Kernel, processor: u64, node: u64) -> Outcome {
    for address in [processor, node] {
        if address != 0 {
            kernel.write(address, &[0; 4])?;
        }
    }
    Ok(0)
}
