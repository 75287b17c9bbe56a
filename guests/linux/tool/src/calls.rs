//! Direct calls of a bare-metal guest (`guests/calls`, `role=back`), which ends in the last of them.

use std::{
    fs::File,
    io,
    os::{fd::AsRawFd, unix::fs::FileExt},
    ptr,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use handover_linux::{Account, CallError, Channel, Handover, Listener, Region, Short};

#[derive(Args)]
pub struct Arguments {
    /// The service that is called
    #[arg(long, default_value = "back")]
    service: String,
    /// One that ends with a region that it was given
    #[arg(long, default_value = "second")]
    second: String,
    /// A service of this partition's
    #[arg(long, default_value = "mirror")]
    provided: String,
    /// Calls of each kind
    #[arg(long, default_value_t = 300)]
    count: u32,
    /// Seconds until the service must be there
    #[arg(long, default_value_t = 60)]
    wait: u64,
}

/// What a call asks the server for: the first byte of its message.
mod order {
    /// The same bytes, each turned over, and the region with its first word turned over.
    pub const TURN: u8 = 0;
    /// An answer that comes too late.
    pub const LATE: u8 = 3;
    /// No answer: the server ends.
    pub const END: u8 = 4;
    /// The sum of one word of each page of what is lent.
    pub const SUM: u8 = 5;
    /// No answer before what is lent reads as zeroes.
    pub const OUTLIVE: u8 = 7;
}

/// Nanoseconds that a call may take where it is to take too long.
const BRIEF: u64 = 5_000_000;
const SECOND: u64 = 1_000_000_000;
/// A page, some, a block, and more than a slot of the message window.
const SIZES: [usize; 4] = [4 << 10, 1 << 20, 2 << 20, 4 << 20];

pub fn run(handover: &Handover, arguments: &Arguments) -> Result<()> {
    let server = handover.service(&arguments.service)?;
    let patience = Duration::from_secs(arguments.wait);
    let channel = Channel::connect_within(handover, &server, patience).context("cannot connect")?;
    let before = handover.account(Account::Memory)?.used;
    turned(handover, &channel, arguments.count).context("turned")?;
    println!("calls: {} turned over: ok", arguments.count);
    lent(handover, &channel).context("lent")?;
    println!("calls: regions lent and shown: ok");
    touched(handover, &channel).context("touched meanwhile")?;
    println!("calls: touched while they are lent: ok");
    too_late(handover, &channel).context("too late")?;
    println!("calls: too late: ok");
    nobody(handover, arguments).context("to nobody")?;
    println!("calls: to nobody: ok");
    ended(handover, &channel).context("to one that ends")?;
    println!("calls: to one that ends: ok");
    let second = handover.service(&arguments.second)?;
    let second = Channel::connect_within(handover, &second, patience).context("cannot connect")?;
    taken(handover, &second).context("to one that ends with what it took")?;
    println!("calls: to one that ends with what it took: ok");
    let after = handover.account(Account::Memory)?.used;
    ensure!(before == after, "{before} bytes of memory before, {after} after");
    Ok(())
}

/// A region whose words on each page add up to the number that comes with it.
fn filled(handover: &Handover, size: usize) -> Result<(Region, u64)> {
    let mut region = Region::create(handover, size).context("cannot create a region")?;
    let mut sum = 0u64;
    for (page, bytes) in region.chunks_exact_mut(4096).enumerate() {
        let word = (size as u64).wrapping_add(page as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        sum = sum.wrapping_add(word);
        bytes[..8].copy_from_slice(&word.to_le_bytes());
    }
    Ok((region, sum))
}

fn is_as_it_was(region: &Region, sum: u64) -> bool {
    let words =
        region.chunks_exact(4096).filter_map(|page| page.first_chunk().map(|word| u64::from_le_bytes(*word)));
    words.fold(0, u64::wrapping_add) == sum
}

/// Messages of all lengths, every third with a region.
fn turned(handover: &Handover, channel: &Channel, count: u32) -> Result<()> {
    for round in 0..count {
        let mut bytes: Vec<u8> = (0..1 + round % 128).map(|at| (round * 7 + at) as u8).collect();
        bytes[0] = order::TURN;
        let region = match round % 3 {
            0 => Some(filled(handover, SIZES[(round / 3) as usize % SIZES.len()])?.0),
            _ => None,
        };
        let word = region.as_ref().and_then(|region| region.first_chunk().copied());
        let mut short = Short::new(&bytes)?;
        let answer = channel.call(region, &mut short).with_context(|| format!("call {round}"))?;
        bytes.iter_mut().for_each(|byte| *byte = !*byte);
        ensure!(short[..] == bytes[..], "call {round} is answered by {short:?}");
        let back = answer.as_ref().and_then(|region| region.first_chunk().copied());
        ensure!(back == word.map(|word: [u8; 8]| word.map(|byte| !byte)), "call {round}: {back:?}");
    }
    Ok(())
}

/// Regions of all sizes, lent and shown by turns: the server reads what is there, and they are as they were and can be changed and sent.
fn lent(handover: &Handover, channel: &Channel) -> Result<()> {
    for size in SIZES {
        let (mut region, sum) = filled(handover, size)?;
        for round in 0..50 {
            let mut short = Short::from(&[order::SUM]);
            let answer = match round % 2 {
                0 => channel.call_lending(&mut region, &mut short)?,
                _ => channel.call_showing(&region, &mut short)?,
            };
            ensure!(
                answer.is_none() && short[..] == sum.to_le_bytes(),
                "{size} bytes, round {round}: {short:?}"
            );
            ensure!(is_as_it_was(&region, sum), "{size} bytes are not as they were");
        }
        region[..8].copy_from_slice(&1u64.to_le_bytes());
        let moved =
            channel.call(Some(region), &mut Short::from(&[order::TURN]))?.context("no region came back")?;
        ensure!(moved[..8] == (!1u64).to_le_bytes(), "another region came back");
    }
    Ok(())
}

/// Who loads from a region that is lent, or reads its descriptor, waits until it is back, and finds what is in it.
fn touched(handover: &Handover, channel: &Channel) -> Result<()> {
    let (region, sum) = filled(handover, 64 << 10)?;
    let word = *region.first_chunk().context("no bytes")?;
    let file = File::from(region.into_fd());
    let size = 64 << 10;
    // SAFETY: a new mapping, where the kernel chooses.
    let start =
        unsafe { libc::mmap(ptr::null_mut(), size, libc::PROT_READ, libc::MAP_SHARED, file.as_raw_fd(), 0) };
    ensure!(start != libc::MAP_FAILED, "cannot map it: {}", io::Error::last_os_error());
    // SAFETY: mapped above, aligned to a page, until the end of this function; nobody stores there.
    let mapped: &AtomicU64 = unsafe { &*start.cast() };
    let (over, loads) = (AtomicBool::new(false), AtomicU64::new(0));
    // SAFETY: the other mapping and the other descriptor only read, and nobody writes.
    let mut region = unsafe { Region::from_fd(file.try_clone()?.into()) }?;
    let outcome = thread::scope(|scope| {
        let loading = scope.spawn(|| -> Result<()> {
            let mut read = [0; 8];
            while !over.load(Ordering::Acquire) {
                ensure!(mapped.load(Ordering::Relaxed) == u64::from_le_bytes(word), "another word is mapped");
                file.read_exact_at(&mut read, 0)?;
                ensure!(read == word, "another word is read");
                loads.fetch_add(1, Ordering::Release);
            }
            Ok(())
        });
        let mut lend = || -> Result<()> {
            // Both have begun, and go on for so many rounds.
            for round in 0.. {
                let mut short = Short::from(&[order::SUM]);
                channel.call_lending(&mut region, &mut short).with_context(|| format!("round {round}"))?;
                ensure!(short[..] == sum.to_le_bytes(), "round {round}: {short:?}");
                if round >= 200 && loads.load(Ordering::Acquire) >= 200 || loading.is_finished() {
                    break;
                }
            }
            Ok(())
        };
        let lent = lend();
        over.store(true, Ordering::Release);
        loading.join().map_err(|_| anyhow::anyhow!("the thread that loads is gone"))??;
        lent
    });
    // SAFETY: nothing refers to it any more.
    ensure!(unsafe { libc::munmap(start, size) } == 0, "cannot unmap it: {}", io::Error::last_os_error());
    outcome
}

/// The server takes longer than the caller waits: lent, it finds zeroes then, and here all is as it was.
fn too_late(handover: &Handover, channel: &Channel) -> Result<()> {
    for wrong in [0, SECOND + 1] {
        let kind = channel.set_patience(wrong).map_err(|error| error.kind());
        ensure!(kind == Err(io::ErrorKind::InvalidInput), "{wrong} nanoseconds of patience: {kind:?}");
    }
    channel.set_patience(BRIEF)?;
    let late = fails(channel.call(None, &mut Short::from(&[order::LATE])), io::ErrorKind::TimedOut)?;
    ensure!(late.is_none(), "a region came of nothing");
    // Until that has been answered the next ones wait.
    channel.set_patience(SECOND)?;
    channel.call(None, &mut Short::from(&[order::TURN]))?;
    for size in SIZES {
        let (mut region, sum) = filled(handover, size)?;
        let last = region.len() - 8;
        // The last word is looked at, too, and counts for nothing.
        region[last..].copy_from_slice(&1u64.to_le_bytes());
        channel.set_patience(BRIEF)?;
        fails(
            channel.call_lending(&mut region, &mut Short::from(&[order::OUTLIVE])),
            io::ErrorKind::TimedOut,
        )?;
        ensure!(is_as_it_was(&region, sum), "{size} bytes are not as they were");
        region[last..].fill(0);
        ensure!(is_as_it_was(&region, sum), "{size} bytes cannot be changed");
        channel.set_patience(SECOND)?;
        channel.call(None, &mut Short::from(&[order::TURN]))?;
    }
    Ok(())
}

/// This partition itself: nobody there takes calls. The region comes back, and what is no channel for messages takes none.
fn nobody(handover: &Handover, arguments: &Arguments) -> Result<()> {
    let own = handover.provided(&arguments.provided)?;
    let listener = Listener::new(handover, &own).context("cannot listen")?;
    let connecting = Channel::request(handover, &own)?;
    let server = listener.request_wait()?.accept()?;
    let client = connecting.wait()?;
    client.set_patience(BRIEF)?;
    for size in SIZES {
        let (region, sum) = filled(handover, size)?;
        let failed = match client.call(Some(region), &mut Short::from(b"nobody")) {
            Ok(_) => bail!("somebody replied"),
            Err(failed) => failed,
        };
        // Which of the two depends on whether another logical processor is awake, who might reply.
        ensure!(
            matches!(failed.error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::Deadlock),
            "{:?}",
            failed.error
        );
        let mut region = failed.region.context("the region is lost")?;
        ensure!(is_as_it_was(&region, sum), "{size} bytes are not as they were");
        region[0] = 1;
        client.send(region).context("it cannot be sent")?;
        ensure!(server.receive_wait()?.region.is_some_and(|region| region[0] == 1), "it is not received");
    }
    // Linux goes on meanwhile on its other processors, and afterwards on this one.
    let busy = thread::spawn(|| (0..1000u32).fold(0, u32::wrapping_add));
    fails(client.call(None, &mut Short::EMPTY.clone()), io::ErrorKind::TimedOut)
        .or_else(|_| fails(client.call(None, &mut Short::EMPTY.clone()), io::ErrorKind::Deadlock))?;
    ensure!(busy.join().is_ok_and(|sum| sum == 499_500), "the other thread is wrong");
    drop(server);
    fails(client.call(None, &mut Short::from(b"gone")), io::ErrorKind::BrokenPipe).map(drop)
}

/// The server takes a region and ends: it is nobody's any more.
fn taken(handover: &Handover, channel: &Channel) -> Result<()> {
    let (region, _) = filled(handover, 1 << 20)?;
    let lost = fails(channel.call(Some(region), &mut Short::from(&[order::END])), io::ErrorKind::BrokenPipe)?;
    ensure!(lost.is_none(), "what the server had taken is here, too");
    Ok(())
}

/// The server ends with what it has been lent.
fn ended(handover: &Handover, channel: &Channel) -> Result<()> {
    let (mut region, sum) = filled(handover, 1 << 20)?;
    fails(channel.call_lending(&mut region, &mut Short::from(&[order::END])), io::ErrorKind::BrokenPipe)?;
    ensure!(is_as_it_was(&region, sum), "what was lent is not as it was");
    let back =
        fails(channel.call(Some(region), &mut Short::from(&[order::TURN])), io::ErrorKind::BrokenPipe)?;
    ensure!(back.is_some_and(|region| is_as_it_was(&region, sum)), "what was not sent is not as it was");
    Ok(())
}

/// The region of a call that must have failed so.
fn fails(result: Result<Option<Region>, CallError>, expected: io::ErrorKind) -> Result<Option<Region>> {
    match result {
        Err(failed) if failed.error.kind() == expected => Ok(failed.region),
        other => bail!("not {expected:?}: {other:?}"),
    }
}
