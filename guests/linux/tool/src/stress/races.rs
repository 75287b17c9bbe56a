//! Threads that race for the same region or channel.

use std::{
    os::unix::fs::FileExt,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
};

use anyhow::{Context, Result, ensure};
use handover_linux::Short;

use super::{
    Stage,
    mappings::{Mapping, twice},
    message,
};

const SIZE: usize = 256 << 10;

/// One thread touches a region all the time, the other sends it away; what the first sees is the region or a fault.
pub(super) fn send_and_touch(stage: &Stage<'_>) -> Result<()> {
    let channel = stage.connect()?;
    for round in 0..stage.rounds {
        let (mut region, file) = twice(stage.region(SIZE)?)?;
        region.fill(0x5a);
        let mapping = Mapping::new(&file, SIZE, 0).context("cannot map")?;
        let touched = AtomicU64::new(0);
        let wrong = thread::scope(|scope| -> Result<u64> {
            let toucher = scope.spawn(|| {
                let (mut at, mut wrong) = (0, 0);
                while let Ok(byte) = mapping.load(at) {
                    wrong += u64::from(byte != 0x5a);
                    touched.fetch_add(1, Ordering::Relaxed);
                    at = (at + 4099) % SIZE;
                }
                wrong
            });
            while touched.load(Ordering::Relaxed) < 10 {
                thread::yield_now();
            }
            channel.send_wait(message(region, SIZE)).context("cannot send")?;
            Ok(toucher.join().unwrap_or(u64::MAX))
        })?;
        ensure!(wrong == 0, "round {round}: {wrong} bytes were not the region's");
        ensure!(mapping.load(0).is_err(), "round {round}: the region can be touched after the send");
        let answer =
            channel.receive_wait().context("cannot receive")?.region.context("no region came back")?;
        ensure!(
            answer.iter().all(|&byte| byte == 0xa5),
            "round {round}: the region came back with other bytes"
        );
    }
    Ok(())
}

/// The same with system calls that copy: they end with an error, never by half a page.
pub(super) fn send_and_copy(stage: &Stage<'_>) -> Result<()> {
    let channel = stage.connect()?;
    for round in 0..stage.rounds {
        let (mut region, file) = twice(stage.region(SIZE)?)?;
        region.fill(0x5a);
        let copied = AtomicU64::new(0);
        thread::scope(|scope| -> Result<()> {
            let copier = scope.spawn(|| -> Result<()> {
                let mut buffer = vec![0; 3 * 4096];
                loop {
                    match file.read_at(&mut buffer, 4000) {
                        Ok(length) => {
                            ensure!(length % 4096 == 0 && length > 0, "{length} bytes were copied");
                            ensure!(
                                buffer[..length].iter().all(|&byte| byte == 0x5a),
                                "bytes of somebody else"
                            );
                        }
                        Err(error) => {
                            ensure!(error.raw_os_error() == Some(libc::ESTALE), "pread: {error}");
                            return Ok(());
                        }
                    }
                    copied.fetch_add(1, Ordering::Relaxed);
                }
            });
            while copied.load(Ordering::Relaxed) < 3 && !copier.is_finished() {
                thread::yield_now();
            }
            channel.send_wait(message(region, SIZE)).context("cannot send")?;
            copier.join().unwrap_or_else(|_| anyhow::bail!("the copying thread panicked"))
        })
        .with_context(|| format!("round {round}"))?;
        channel.receive_wait().context("cannot receive")?;
    }
    Ok(())
}

/// Two threads send the same region: one of them can.
pub(super) fn send_twice(stage: &Stage<'_>) -> Result<()> {
    let channels = [stage.connect()?, stage.connect()?];
    for round in 0..stage.rounds {
        let (region, file) = twice(stage.region(4096)?)?;
        let copy = file.try_clone().context("cannot duplicate")?;
        // SAFETY: neither thread looks at the bytes.
        let copy = unsafe { handover_linux::Region::from_fd(copy.into()) }.context("cannot map")?;
        let go = AtomicBool::new(false);
        let results = thread::scope(|scope| {
            let threads = [(region, &channels[0]), (copy, &channels[1])].map(|(region, channel)| {
                let go = &go;
                scope.spawn(move || {
                    while !go.load(Ordering::Acquire) {
                        std::hint::spin_loop();
                    }
                    channel.send_wait(message(region, 1)).map_err(|failed| failed.error.raw_os_error())
                })
            });
            go.store(true, Ordering::Release);
            threads.map(|thread| thread.join().unwrap_or(Err(None)))
        });
        let winners = results.iter().filter(|result| result.is_ok()).count();
        ensure!(
            winners == 1 && results.contains(&Err(Some(libc::ESTALE))),
            "round {round}: the two sends ended with {results:?}"
        );
        let winner = usize::from(results[1].is_ok());
        channels[winner].receive_wait().context("cannot receive")?.region.context("no region came back")?;
    }
    Ok(())
}

/// Several threads receive on one channel: every message reaches exactly one.
pub(super) fn receivers(stage: &Stage<'_>) -> Result<()> {
    const THREADS: u64 = 4;
    let channel = stage.connect()?;
    let count = u64::from(stage.rounds) * THREADS;
    let sum = AtomicU64::new(0);
    thread::scope(|scope| -> Result<()> {
        let threads: Vec<_> = (0..THREADS)
            .map(|_| {
                scope.spawn(|| -> Result<()> {
                    for _ in 0..count / THREADS {
                        let answer = channel.receive_wait().context("cannot receive")?;
                        let bytes = answer.short.first_chunk().context("a message of another length")?;
                        sum.fetch_add(!u64::from_le_bytes(*bytes), Ordering::Relaxed);
                    }
                    Ok(())
                })
            })
            .collect();
        for number in 0..count {
            channel.send_wait(Short::from(number.to_le_bytes())).context("cannot send")?;
        }
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().unwrap_or_else(|_| anyhow::bail!("a thread panicked")))
    })?;
    ensure!(sum.into_inner() == count * (count - 1) / 2, "messages were lost or doubled");
    Ok(())
}
