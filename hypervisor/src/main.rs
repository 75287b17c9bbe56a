//! Handover's control OS: it owns the machine at EL2, splits it into partitions, and moves memory between them.
//!
//! A message's way: `arch/vectors.s` → [`trap`] → [`hypercall`] → a rule of `handover-core` → one descriptor, by [`kernel`] →
//! an event, by the virtual GIC → [`schedule`] → `eret`.

#![no_std]
#![no_main]
#![warn(missing_docs)]

mod arch;
mod boot;
mod bug;
mod bus;
mod call;
mod claim;
mod console;
mod counters;
mod device;
mod devicetree;
mod drivers;
mod entropy;
mod fault;
mod hypercall;
mod interrupt;
mod kernel;
mod life;
mod lock;
mod memory;
mod mmio;
mod partition;
mod power;
mod processor;
mod schedule;
mod smccc;
mod steal;
mod system_register;
mod timer;
mod trap;
mod uart;
mod vcpu;
mod watchdog;

use boot::{boot_main, secondary_main};
