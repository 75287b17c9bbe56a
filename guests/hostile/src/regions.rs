//! Regions of strange sizes, at strange places, and after their end.

use core::ptr;

use handover_guest::{
    Boot, Error, Region,
    abi::{
        Call,
        layout::{ARCHIVE_BASE, GICD_BASE, MEMORY_BASE, UART_BASE, WINDOW_BASE, WINDOW_SIZE, WINDOW_SLOT},
    },
    hvc,
};

use crate::{
    calls::{granted, refused},
    failure::{Failure, ensure},
};

/// A part of the window that the SDK takes last.
pub(crate) const QUIET: u64 = WINDOW_BASE + WINDOW_SIZE / 2 - 64 * WINDOW_SLOT;

pub(crate) fn sizes(_: &Boot) -> Result<(), Failure> {
    for size in
        [0, 1, 3, 2048, 4095, 4097, 12288, (2 << 20) + 4096, (1 << 30) + 1, 1 << 31, 1 << 63, u64::MAX]
    {
        refused(Call::RegionCreate, &[size, 0], &[Error::InvalidArgument])?;
        refused(Call::RegionCreate, &[size, QUIET], &[Error::InvalidArgument])?;
    }
    Ok(())
}

pub(crate) fn addresses(_: &Boot) -> Result<(), Failure> {
    let bad = [
        (MEMORY_BASE, Error::BadAddress),
        (GICD_BASE, Error::BadAddress),
        (UART_BASE, Error::BadAddress),
        (ARCHIVE_BASE, Error::BadAddress),
        (WINDOW_BASE - WINDOW_SLOT, Error::BadAddress),
        (WINDOW_BASE + WINDOW_SIZE, Error::BadAddress),
        (WINDOW_BASE + WINDOW_SIZE - 4096, Error::InvalidArgument),
        (1 << 48, Error::BadAddress),
        (1 << 63, Error::BadAddress),
        (u64::MAX, Error::InvalidArgument),
        (u64::MAX - WINDOW_SLOT + 1, Error::BadAddress),
        (WINDOW_BASE + 1, Error::InvalidArgument),
        (WINDOW_BASE + 4096, Error::InvalidArgument),
        (WINDOW_BASE + WINDOW_SLOT / 2, Error::InvalidArgument),
    ];
    let region = granted(Call::RegionCreate, &[4096, 0])?;
    for (address, error) in bad {
        refused(Call::RegionCreate, &[4096, address], &[error])?;
        refused(Call::RegionMap, &[region, address], &[error])?;
    }
    refused(Call::RegionMap, &[region, 0], &[Error::BadAddress])?;
    refused(Call::RegionUnmap, &[region], &[Error::WrongState])?;

    // Occupied, and mapped twice.
    let other = granted(Call::RegionCreate, &[4096, QUIET])?;
    refused(Call::RegionMap, &[region, QUIET], &[Error::InUse])?;
    refused(Call::RegionCreate, &[4096, QUIET], &[Error::InUse])?;
    refused(Call::RegionMap, &[other, QUIET + WINDOW_SLOT], &[Error::InUse])?;
    refused(Call::RegionMap, &[other, QUIET], &[Error::InUse])?;
    granted(Call::RegionUnmap, &[other])?;
    granted(Call::RegionMap, &[region, QUIET])?;
    granted(Call::RegionDestroy, &[region])?;
    granted(Call::RegionDestroy, &[other])?;
    Ok(())
}

/// Regions of more than a slot, misaligned and well placed.
pub(crate) fn large(_: &Boot) -> Result<(), Failure> {
    let size = 4 << 20;
    refused(Call::RegionCreate, &[size, QUIET], &[Error::TooLarge, Error::InUse, Error::InvalidArgument])?;
    let mut region = Region::create(size as usize)?;
    let last = region.size() - 1;
    region[0] = 1;
    region[last] = 2;
    ensure!(region[0] == 1 && region[last] == 2, "a region of 4 MiB does not keep what is written to it");
    ensure!(region[1..last].iter().all(|&byte| byte == 0), "a region of 4 MiB is not all zeroes");
    let handle = u64::from(region.handle().get());
    let (found, address) = hvc::region_info(region.handle())?;
    ensure!(found == size && address == region.address(), "RegionInfo: {found:#x} bytes at {address:#x}");
    refused(Call::RegionMap, &[handle, QUIET], &[Error::InUse])
}

pub(crate) fn gone(_: &Boot) -> Result<(), Failure> {
    for address in [0, QUIET] {
        let region = granted(Call::RegionCreate, &[4096, address])?;
        granted(Call::RegionDestroy, &[region])?;
        refused(Call::RegionDestroy, &[region], &[Error::BadHandle])?;
        refused(Call::RegionMap, &[region, QUIET], &[Error::BadHandle])?;
        refused(Call::RegionUnmap, &[region], &[Error::BadHandle])?;
        refused(Call::RegionInfo, &[region], &[Error::BadHandle])?;
    }
    Ok(())
}

/// A fresh region is zeroes, whatever was in those that were destroyed.
pub(crate) fn zeroed(_: &Boot) -> Result<(), Failure> {
    for size in [4096, 64 << 10, 2 << 20] {
        for round in 0..4 {
            let mut region = Region::create(size)?;
            // SAFETY: within the region, aligned.
            let dirty = (0..size / 8).find(|&word| unsafe {
                ptr::with_exposed_provenance::<u64>(region.address() as usize).add(word).read_volatile() != 0
            });
            ensure!(
                dirty.is_none(),
                "round {round}: word {dirty:?} of a fresh region of {size} bytes is not zero"
            );
            region.fill(0xa5);
        }
    }
    Ok(())
}
