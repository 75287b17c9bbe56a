//! The general registers that trapped instructions name: the control OS reads and writes the right ones.

use core::arch::asm;

use handover_guest::{Boot, abi::layout::GICR_BASE};

use crate::failure::{Failure, ensure};

/// Priorities of the first SGIs, of which five bits each are there.
const PRIORITIES: u64 = GICR_BASE + 0x1_0400;

/// What goes by one register: the emulated physical timer's compare value, and `PRIORITIES`.
struct Through {
    number: u64,
    write_timer: fn(u64),
    read_timer: fn() -> u64,
    write_priorities: fn(u64),
    read_priorities: fn() -> u64,
}

/// Functions that do so by register n, and give it back. The address is in another one.
macro_rules! through {
    ($($n:literal $address:tt),* $(,)?) => {
        [$(Through {
            number: $n,
            // SAFETY: the timer is off; the register is as before.
            write_timer: |value| unsafe {
                asm!(
                    concat!("str x", $n, ", [sp, #-16]!"),
                    concat!("mov x", $n, ", {value}"),
                    concat!("msr cntp_cval_el0, x", $n),
                    concat!("ldr x", $n, ", [sp], #16"),
                    value = in(reg) value,
                )
            },
            read_timer: || {
                let value;
                // SAFETY: as above.
                unsafe {
                    asm!(
                        concat!("str x", $n, ", [sp, #-32]!"),
                        concat!("mrs x", $n, ", cntp_cval_el0"),
                        concat!("str x", $n, ", [sp, #16]"),
                        concat!("ldr x", $n, ", [sp]"),
                        "ldr {value}, [sp, #16]",
                        "add sp, sp, #32",
                        value = out(reg) value,
                    )
                };
                value
            },
            // SAFETY: priorities of interrupts that nobody sends; the register is as before.
            write_priorities: |value| unsafe {
                asm!(
                    concat!("str x", $n, ", [sp, #-16]!"),
                    concat!("mov x", $n, ", x2"),
                    concat!("str w", $n, ", [", $address, "]"),
                    concat!("ldr x", $n, ", [sp], #16"),
                    in($address) PRIORITIES,
                    in("x2") value,
                )
            },
            read_priorities: || {
                let value;
                // SAFETY: as above.
                unsafe {
                    asm!(
                        concat!("str x", $n, ", [sp, #-32]!"),
                        concat!("ldr w", $n, ", [", $address, "]"),
                        concat!("str x", $n, ", [sp, #16]"),
                        concat!("ldr x", $n, ", [sp]"),
                        "ldr {value}, [sp, #16]",
                        "add sp, sp, #32",
                        in($address) PRIORITIES,
                        value = lateout(reg) value,
                    )
                };
                value
            },
        }),*]
    };
}

const ALL: [Through; 31] = through!(
    0 "x1", 1 "x0", 2 "x0", 3 "x0", 4 "x0", 5 "x0", 6 "x0", 7 "x0", 8 "x0", 9 "x0", 10 "x0", 11 "x0", 12 "x0", 13 "x0",
    14 "x0", 15 "x0", 16 "x0", 17 "x0", 18 "x0", 19 "x0", 20 "x0", 21 "x0", 22 "x0", 23 "x0", 24 "x0", 25 "x0", 26 "x0",
    27 "x0", 28 "x0", 29 "x0", 30 "x0",
);

pub(crate) fn registers(_: &Boot) -> Result<(), Failure> {
    let before = (ALL[0].read_priorities)();
    for through in &ALL {
        let number = through.number;
        let deadline = 0x0123_4567_0000_0000 | number;
        (through.write_timer)(deadline);
        let found = (through.read_timer)();
        ensure!(found == deadline, "CNTP_CVAL_EL0 by x{number}: {found:#x} instead of {deadline:#x}");
        // By one register, and back by the next.
        let [next, other] = [1, 11].map(|after| &ALL[(number as usize + after) % ALL.len()]);
        let found = (next.read_timer)();
        ensure!(found == deadline, "CNTP_CVAL_EL0 by x{}: {found:#x} instead of {deadline:#x}", next.number);
        let priorities = 0xf880_0000 | number << 3;
        (through.write_priorities)(priorities);
        for reader in [through, next, other] {
            let found = (reader.read_priorities)();
            let by = reader.number;
            ensure!(
                found == priorities,
                "priorities by x{number} and x{by}: {found:#x} instead of {priorities:#x}"
            );
        }
    }
    (ALL[0].write_priorities)(before);
    Ok(())
}
