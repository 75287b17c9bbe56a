//! The virtual counter.

use anyhow::Result;

#[cfg(target_arch = "aarch64")]
pub(crate) fn run() -> Result<()> {
    let count: u64;
    // SAFETY: reads a counter that Linux lets EL0 read (CNTKCTL_EL1.EL0VCTEN); no memory, no flags.
    unsafe { core::arch::asm!("isb", "mrs {}, cntvct_el0", out(reg) count, options(nomem, nostack)) };
    println!("{count}");
    Ok(())
}

#[cfg(not(target_arch = "aarch64"))]
pub(crate) fn run() -> Result<()> {
    anyhow::bail!("only arm64 has CNTVCT_EL0")
}
