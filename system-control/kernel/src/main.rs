//! System-control: the one partition that the control OS makes by itself. It makes all others from the boot archive's manifest,
//! starts them in order, says what becomes of them, and ends the machine with their status.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod run;

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("system-control runs in a partition: `cargo xtask run` builds it for one and boots it");
    std::process::exit(1);
}
