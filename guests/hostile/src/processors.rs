//! PSCI: processors on and off, and what must not be.

use core::sync::atomic::{AtomicUsize, Ordering};

use handover_guest::{
    Boot,
    abi::layout::MEMORY_BASE,
    processor,
    psci::{self, AffinityState},
    timer,
};

use crate::failure::{Failure, ensure};

/// Seconds of the counter after which a processor is called stuck.
const PATIENCE: u64 = 600;

static RAN: AtomicUsize = AtomicUsize::new(0);
static RELEASED: AtomicUsize = AtomicUsize::new(0);

fn stay_until_released(round: usize) {
    RAN.store(round, Ordering::Release);
    while RELEASED.load(Ordering::Acquire) < round {
        processor::yield_now();
    }
}

fn wait_until(what: &str, mut done: impl FnMut() -> Result<bool, Failure>) -> Result<(), Failure> {
    let deadline = timer::now() + PATIENCE * timer::frequency();
    while !done()? {
        ensure!(timer::now() < deadline, "{what}: not within {PATIENCE} s");
        processor::yield_now();
    }
    Ok(())
}

/// Waits until processor `index` has switched itself off.
pub(crate) fn wait_until_off(index: usize) -> Result<(), Failure> {
    wait_until("a processor is off", || Ok(psci::affinity_info(index as u64)? == AffinityState::Off))
}

fn expect(what: &str, result: Result<(), psci::Error>, errors: &[psci::Error]) -> Result<(), Failure> {
    ensure!(result.is_err_and(|error| errors.contains(&error)), "{what}: {result:?} instead of {errors:?}");
    Ok(())
}

/// Switches processor `target` on at an address where it would run wild, which must be refused.
fn switch_on(target: u64) -> Result<(), psci::Error> {
    // SAFETY: refused; if not, the processor branches to memory without code and stops at its exception vector.
    unsafe { psci::cpu_on(target, MEMORY_BASE, 0) }
}

pub(crate) fn power(boot: &Boot) -> Result<(), Failure> {
    use psci::Error::*;
    ensure!(psci::version()? >= 1 << 16, "PSCI is older than 1.0");
    let count = boot.processors() as u64;
    ensure!(count >= 2, "the case needs two processors");
    expect("CPU_ON of itself", switch_on(processor::index() as u64), &[AlreadyOn])?;
    for target in [count, 8, 0xff, 0x100, 0x1_0000, 1 << 32, 1 << 31, u64::MAX] {
        expect("CPU_ON of nobody", switch_on(target), &[InvalidParameters])?;
        expect("AFFINITY_INFO of nobody", psci::affinity_info(target).map(|_| ()), &[InvalidParameters])?;
    }
    ensure!(psci::affinity_info(0)? == AffinityState::On, "processor 0 is not on");
    for round in 1..=5 {
        ensure!(psci::affinity_info(1)? == AffinityState::Off, "round {round}: processor 1 is not off");
        processor::start(1, stay_until_released, round)?;
        expect("CPU_ON twice", switch_on(1), &[AlreadyOn, OnPending])?;
        wait_until("processor 1 runs", || Ok(RAN.load(Ordering::Acquire) == round))?;
        expect("CPU_ON twice", switch_on(1), &[AlreadyOn])?;
        ensure!(psci::affinity_info(1)? == AffinityState::On, "round {round}: processor 1 is not on");
        RELEASED.store(round, Ordering::Release);
        wait_until_off(1)?;
    }
    Ok(())
}
