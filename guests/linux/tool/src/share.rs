//! Shared memory: with this partition itself, with a partition that is asked, and with one that asks; the latter two end while both sides write.

use std::{
    io,
    os::fd::{AsFd, AsRawFd},
    ptr,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use handover_linux::{Account, Handover, Listener, Service, Shared, Writers};

#[derive(Args)]
pub struct Arguments {
    /// The service of the partition that is asked
    #[arg(long, default_value = "mortal")]
    service: String,
    /// The service by which this one is asked
    #[arg(long, default_value = "pond")]
    provided: String,
    /// Seconds until both must have come
    #[arg(long, default_value_t = 120)]
    wait: u64,
}

const SIZE: usize = 256 << 10;
const PAGE_WORDS: usize = 512;
/// What the other side has written at least when it goes.
const ROUNDS: u64 = 300;
/// Where this side says which round of the other's it has seen.
const SEEN: usize = 2;
/// Rounds between two looks at whether it has gone.
const LOOK: u64 = 16;

pub fn run(handover: &Handover, arguments: &Arguments) -> Result<()> {
    let before = handover.account(Account::Memory)?.used;
    let pond = handover.provided(&arguments.provided)?;
    let listener = Listener::for_shared(handover, &pond).context("cannot listen")?;
    reads_alone(handover, &listener, &pond).context("reading alone")?;
    println!("share: reading alone: ok");
    outlive(&ask(handover, arguments)?).context("with who was asked")?;
    println!("share: who was asked has gone: ok");
    let request = listener.request_wait()?;
    ensure!(request.memory == SIZE, "asked for {} bytes", request.memory);
    outlive(&Shared::from_channel(request.accept()?)?).context("with who asked")?;
    println!("share: who asked has gone: ok");
    let after = handover.account(Account::Memory)?.used;
    ensure!(before == after, "{before} bytes of memory before, {after} after");
    println!("share: memory is back: ok");
    Ok(())
}

/// Asks until somebody is there.
fn ask(handover: &Handover, arguments: &Arguments) -> Result<Shared> {
    let start = Instant::now();
    loop {
        let service = handover.service(&arguments.service)?;
        match Shared::connect(handover, &service, SIZE, Writers::Both) {
            Err(error) if error.is_early() && start.elapsed().as_secs() < arguments.wait => {
                thread::sleep(Duration::from_millis(20));
            }
            answer => return answer.with_context(|| format!("no memory from {}", arguments.service)),
        }
    }
}

/// Both ends in this partition: who only reads sees what the other writes, and gets no mapping to write by.
fn reads_alone(handover: &Handover, listener: &Listener, pond: &Service) -> Result<()> {
    for writers in [Writers::WhoAsks, Writers::WhoIsAsked] {
        let (asked, accepted) = thread::scope(|scope| {
            let asking = scope.spawn(|| Shared::connect(handover, pond, SIZE, writers));
            let accepted = loop {
                let request = listener.request_wait()?;
                if request.partition == pond.partition {
                    break Shared::from_channel(request.accept()?)?;
                }
                // Somebody is early, and asks again.
                request.refuse(1)?;
            };
            let asked = asking.join().map_err(|_| anyhow::anyhow!("the thread that asks is gone"))??;
            Ok::<_, anyhow::Error>((asked, accepted))
        })?;
        let (writer, reader) =
            if writers == Writers::WhoAsks { (asked, accepted) } else { (accepted, asked) };
        let words = writer.atomics().context("who writes cannot")?;
        words[PAGE_WORDS].store(77, Ordering::Release);
        ensure!(reader.words()[PAGE_WORDS].load(Ordering::Acquire) == 77, "not the same memory");
        ensure!(reader.atomics().is_none(), "who only reads can write");
        let fd = reader.as_fd().as_raw_fd();
        // SAFETY: should it succeed, nothing refers to the new mapping.
        let mapped = unsafe {
            libc::mmap(ptr::null_mut(), SIZE, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED, fd, 0)
        };
        let error = io::Error::last_os_error();
        ensure!(mapped == libc::MAP_FAILED, "mapped to write by who only reads");
        ensure!(error.raw_os_error() == Some(libc::EACCES), "mapping it to write: {error}");
        // The reader goes, and the writer keeps its bytes.
        drop(reader);
        ensure!(words[PAGE_WORDS].load(Ordering::Acquire) == 77, "the writer's bytes are gone");
    }
    Ok(())
}

/// Writes and reads while the other side does, until that has gone: then all is zero but for what this one writes, and it goes on.
fn outlive(shared: &Shared) -> Result<()> {
    let words = shared.atomics().context("read-only")?;
    let (mut number, mut highest) = (0, 0);
    loop {
        number += 1;
        for page in words.chunks(PAGE_WORDS) {
            page[0].store(number, Ordering::Release);
        }
        highest = words[1].load(Ordering::Acquire).max(highest);
        words[SEEN].store(highest, Ordering::Release);
        if number % LOOK == 0 && shared.status()?.peer_closed {
            break;
        }
    }
    ensure!(highest >= ROUNDS, "the other side has come to {highest} only");
    if let Some(at) = foreign(words).find(|at| words[*at].load(Ordering::Acquire) != 0) {
        bail!("word {at} is not zero");
    }
    words.iter().zip(1..).for_each(|(word, value)| word.store(value, Ordering::Release));
    ensure!(
        words.iter().zip(1..).all(|(word, value)| word.load(Ordering::Acquire) == value),
        "it does not go on"
    );
    Ok(())
}

/// Words that this side does not write.
fn foreign(words: &[AtomicU64]) -> impl Iterator<Item = usize> {
    (0..words.len()).filter(|at| at % PAGE_WORDS != 0 && *at != SEEN)
}
