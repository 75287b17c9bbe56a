//! Shared memory. `role=survivor` shares with a partition that it asks and with one that asks it; both end in the middle of it, and it goes on without a
//! fault. `role=mortal` is the first, `role=visitor` the second.

#![no_std]
#![no_main]

use core::sync::atomic::{AtomicU64, Ordering};

use handover_guest::{
    Boot, Causes, ConnectError, Error, Port, Service, Shared, Status, Writers,
    abi::{Account, ServiceId},
    entry, events,
    fault::{self, Fault},
    hvc, println, signals,
};

entry!(main);

const SIZE: usize = 256 << 10;
const PAGE_WORDS: usize = 512;
/// Rounds of each side before one of them ends.
const ROUNDS: u64 = 300;
/// Where the one that stays says which round of the other's it has seen.
const SEEN: usize = 2;
const STATUS: Status = Status(5);

fn main(boot: Boot) -> Result<Status, Error> {
    match boot.argument("role") {
        Some("survivor") => survivor(&boot),
        Some("mortal") => mortal(accept()?),
        Some("visitor") => mortal(visit(boot.service("pond").ok_or(Error::BadHandle)?)?),
        role => {
            println!("shared: role={role:?}; the roles are survivor, mortal and visitor");
            Ok(Status::FAILURE)
        }
    }
}

/// Asks until it is accepted: whoever is asked may have other things to do.
fn visit(service: Service) -> Result<Shared, Error> {
    loop {
        match Shared::connect(service, SIZE, Writers::Both) {
            Err(ConnectError::Refused(_)) => {}
            done => return Ok(done?),
        }
    }
}

/// The next request for shared memory, accepted.
fn accept() -> Result<Shared, Error> {
    loop {
        while let Some(signal) = signals::next()? {
            if let signals::Signal::Connect(request) = signal
                && request.memory == SIZE
            {
                return Shared::from_channel(request.accept()?);
            }
        }
        events::wait_for(Port::CONTROL)?;
    }
}

fn survivor(boot: &Boot) -> Result<Status, Error> {
    let before = hvc::account_read(None, Account::Memory)?.used;
    println!("shared: reading alone {:?}", reads_alone());
    for size in [4 << 10, 1 << 20, 2 << 20] {
        println!("shared: {size} bytes {:?}", both_ends(size));
    }
    let asked = Shared::connect(boot.service("mortal").ok_or(Error::BadHandle)?, SIZE, Writers::Both)?;
    println!("shared: who was asked has gone {:?}", outlive(&asked));
    let visitor = accept()?;
    println!("shared: who asked has gone {:?}", outlive(&visitor));
    drop((asked, visitor));
    let after = hvc::account_read(None, Account::Memory)?.used;
    println!("shared: memory is back {}", after == before);
    println!("shared: over");
    Ok(Status::SUCCESS)
}

/// Both ends of shared memory in this partition.
fn with_itself(size: usize, writers: Writers) -> Result<[Shared; 2], Error> {
    let own = hvc::identify()?.partition;
    let asked = Shared::request(own, ServiceId::new(9), size, writers, None)?;
    let accepted = loop {
        if let Some(signals::Signal::Connect(request)) = signals::next()? {
            if request.partition == own {
                break request.accept()?;
            }
            // The visitor is early. It asks again.
            request.refuse(1)?;
        }
    };
    let accepted = Shared::from_channel(accepted)?;
    Ok([Shared::from_channel(asked.wait()?)?, accepted])
}

/// Who only reads sees what the other writes, and a store faults.
fn reads_alone() -> Result<(), Error> {
    for writers in [Writers::WhoAsks, Writers::WhoIsAsked] {
        let [asked, accepted] = with_itself(64 << 10, writers)?;
        let (writer, reader) =
            if writers == Writers::WhoAsks { (asked, accepted) } else { (accepted, asked) };
        writer.atomics().ok_or(Error::Denied)?[PAGE_WORDS].store(77, Ordering::Release);
        if reader.atomics().is_some() || reader.words()[PAGE_WORDS].load(Ordering::Acquire) != 77 {
            return Err(Error::BadAddress);
        }
        let at = handover_guest::mapping::address(reader.address()) as *mut u64;
        // SAFETY: it faults, and the fault is caught; should it not, nothing else refers to that word as plain memory.
        let stored: Result<(), Fault> = fault::catch(|| unsafe { at.write_volatile(1) });
        if stored.is_ok() || writer.words()[0].load(Ordering::Acquire) != 0 {
            return Err(Error::Denied);
        }
    }
    Ok(())
}

/// All of it is there at both ends, and stays with the last one.
fn both_ends(size: usize) -> Result<(), Error> {
    let [asked, accepted] = with_itself(size, Writers::Both)?;
    let (here, there) = (asked.atomics().ok_or(Error::Denied)?, accepted.words());
    for page in 0..size / 4096 {
        here[page * PAGE_WORDS].store(page as u64 + 1, Ordering::Release);
        if there[page * PAGE_WORDS].load(Ordering::Acquire) != page as u64 + 1 {
            return Err(Error::BadAddress);
        }
    }
    drop(accepted);
    here.iter().all(|word| word.load(Ordering::Acquire) == 0).then_some(()).ok_or(Error::InUse)
}

/// One round of writing everywhere, at one side's words of each page. → what the other side has written first.
fn round(words: &[AtomicU64], own: usize, number: u64) -> u64 {
    for page in words.chunks(PAGE_WORDS) {
        page[own].store(number, Ordering::Release);
    }
    words[1 - own].load(Ordering::Acquire)
}

/// Writes and reads while the other side does, until that has gone; then all is zero but for what this one writes, and it goes on.
fn outlive(shared: &Shared) -> Result<(), Error> {
    let words = shared.atomics().ok_or(Error::Denied)?;
    let (mut number, mut highest) = (0, 0);
    loop {
        number += 1;
        highest = round(words, 0, number).max(highest);
        words[SEEN].store(highest, Ordering::Release);
        while let Some(event) = events::next()? {
            if event.port == shared.port() && event.causes.contains(Causes::PEER_CLOSED) {
                if highest < ROUNDS {
                    return Err(Error::PeerClosed);
                }
                return goes_on(words);
            }
        }
    }
}

fn goes_on(words: &[AtomicU64]) -> Result<(), Error> {
    let foreign = words.iter().enumerate().filter(|(at, _)| at % PAGE_WORDS != 0 && *at != SEEN);
    if foreign.into_iter().any(|(_, word)| word.load(Ordering::Acquire) != 0) {
        return Err(Error::InUse);
    }
    words.iter().zip(1..).for_each(|(word, value)| word.store(value, Ordering::Release));
    let kept = words.iter().zip(1..).all(|(word, value)| word.load(Ordering::Acquire) == value);
    kept.then_some(()).ok_or(Error::BadAddress)
}

/// Ends while both write.
fn mortal(shared: Shared) -> Result<Status, Error> {
    let words = shared.atomics().ok_or(Error::Denied)?;
    let mut number = 0;
    loop {
        number += 1;
        if round(words, 1, number) > ROUNDS && words[SEEN].load(Ordering::Acquire) > ROUNDS {
            handover_guest::end(STATUS);
        }
    }
}
