//! System-control's kernel: one that programs for Linux run on. The boot archive is its file tree, the first program is named by
//! the manifest, and the machine ends with that program's status.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
extern crate alloc;

#[cfg(target_os = "none")]
mod arch;
#[cfg(target_os = "none")]
mod asids;
#[cfg(target_os = "none")]
mod boot;
#[cfg(target_os = "none")]
mod channels;
#[cfg(target_os = "none")]
mod first;
#[cfg(target_os = "none")]
mod heap;
#[cfg(target_os = "none")]
mod host;
#[cfg(target_os = "none")]
mod interrupt;
#[cfg(target_os = "none")]
mod kernel;
#[cfg(target_os = "none")]
mod load;
#[cfg(target_os = "none")]
mod memory;
#[cfg(target_os = "none")]
mod region;
#[cfg(target_os = "none")]
mod shared;
#[cfg(target_os = "none")]
mod source;
#[cfg(target_os = "none")]
mod syscall;
#[cfg(target_os = "none")]
mod task;
#[cfg(target_os = "none")]
mod trap;
#[cfg(target_os = "none")]
mod unused;
#[cfg(target_os = "none")]
mod user;

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!(
        "system-control's kernel runs in a partition: `cargo xtask run` builds it for one and boots it"
    );
    std::process::exit(1);
}
