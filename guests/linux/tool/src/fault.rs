//! Single loads and stores that may fault, and what the kernel tells of the fault.
//!
//! The instructions stand in assembly, at known addresses. The SIGBUS handler, when it finds the program counter at one of them,
//! leaves what it was told in the registers of the interrupted program and steps over the instruction; any other SIGBUS kills
//! the process as usual. So every thread may fault at any time, and the handler touches no memory of its own.

use std::fmt;

/// A SIGBUS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// `si_addr`.
    pub(crate) address: u64,
    /// `si_code`.
    pub(crate) code: i32,
    /// ESR_EL1, as the signal frame holds it; 0 if it does not.
    pub(crate) syndrome: u64,
}

impl Fault {
    /// ESR_ELx.EC (Arm ARM, D24.2.40): what kind of exception.
    pub(crate) fn class(self) -> u64 {
        self.syndrome >> 26 & 0x3f
    }

    /// ISS.DFSC of a data abort: why.
    pub(crate) fn status(self) -> u64 {
        self.syndrome & 0x3f
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = match self.code {
            libc::BUS_ADRERR => "BUS_ADRERR",
            libc::BUS_OBJERR => "BUS_OBJERR",
            _ => "unknown code",
        };
        write!(
            f,
            "SIGBUS ({code}), address {:#x}, ESR {:#x}: EC {:#x}, DFSC {:#x}",
            self.address,
            self.syndrome,
            self.class(),
            self.status()
        )
    }
}

#[cfg(target_arch = "aarch64")]
mod machine {
    use std::{arch::asm, io, ptr};

    use super::Fault;

    core::arch::global_asm!(
        ".pushsection .text",
        "handover_probe_load:",
        "    mov x1, #0",
        "handover_probe_load_at:",
        "    ldrb w0, [x2]",
        "    ret",
        "handover_probe_store:",
        "    mov x1, #0",
        "handover_probe_store_at:",
        "    strb w0, [x2]",
        "    ret",
        ".popsection",
    );

    unsafe extern "C" {
        static handover_probe_load_at: u8;
        static handover_probe_store_at: u8;
    }

    /// Tag of the record of the signal frame that holds ESR_EL1 (Linux, asm/sigcontext.h: ESR_MAGIC).
    const ESR_RECORD: u32 = 0x4553_5201;

    /// Calls one of the two functions above.
    macro_rules! probe {
        ($function:literal, $address:expr, $value:expr) => {{
            let (value, faulted, syndrome, address, code): (u64, u64, u64, u64, u64);
            // SAFETY: the function does one access, which the caller of `load` or `store` answers for, clobbers the registers named
            // here, and uses no stack. After a fault the handler has set x1, x3, x4, x5.
            unsafe {
                asm!(
                    concat!("bl ", $function),
                    inout("x0") u64::from($value) => value,
                    lateout("x1") faulted,
                    in("x2") $address,
                    lateout("x3") syndrome,
                    lateout("x4") address,
                    lateout("x5") code,
                    lateout("lr") _,
                    options(nostack),
                )
            };
            if faulted == 0 { Ok(value as u8) } else { Err(Fault { address, code: code as i32, syndrome }) }
        }};
    }

    /// # Safety
    ///
    /// As for [`ptr::read_volatile`], but the address may fault.
    pub(crate) unsafe fn load(address: *const u8) -> Result<u8, Fault> {
        probe!("handover_probe_load", address, 0u8)
    }

    /// # Safety
    ///
    /// As for [`ptr::write_volatile`], but the address may fault.
    pub(crate) unsafe fn store(address: *mut u8, value: u8) -> Result<(), Fault> {
        probe!("handover_probe_store", address, value).map(|_| ())
    }

    /// Lets `load` and `store` return faults.
    pub(crate) fn catch() -> io::Result<()> {
        // SAFETY: an all-zero sigaction is one without flags and with an empty mask.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = handler as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO;
        // SAFETY: `action` is complete, and the handler touches nothing but its arguments.
        match unsafe { libc::sigaction(libc::SIGBUS, &action, ptr::null_mut()) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    extern "C" fn handler(_signal: i32, info: *const libc::siginfo_t, context: *mut libc::c_void) {
        // SAFETY: the kernel passes a siginfo_t and a ucontext_t of this thread, which nothing else refers to now.
        let (info, context) = unsafe { (&*info, &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext) };
        let expected = [&raw const handover_probe_load_at, &raw const handover_probe_store_at];
        if !expected.iter().any(|&at| at as u64 == context.pc) {
            // SAFETY: async-signal-safe; the access is repeated and then kills the process.
            unsafe { libc::signal(libc::SIGBUS, libc::SIG_DFL) };
            return;
        }
        context.regs[1] = 1;
        context.regs[3] = syndrome(context);
        // SAFETY: of a SIGBUS, si_addr is valid.
        context.regs[4] = unsafe { info.si_addr() } as u64;
        context.regs[5] = info.si_code as u64;
        context.pc += 4;
    }

    /// Looks for the record with ESR_EL1.
    fn syndrome(context: &libc::mcontext_t) -> u64 {
        // Where the registers end, records begin, aligned to 16 bytes; libc keeps that part private. 31 general registers, fault
        // address, SP, PC and PSTATE come before.
        const RECORDS: usize = (35 * 8usize).next_multiple_of(16);
        let start = ptr::from_ref(context).cast::<u8>();
        let mut at = RECORDS;
        while at + 16 <= RECORDS + 4096 {
            // SAFETY: the records lie in the 4 KiB behind the registers, end with one of size 0, and are aligned to 16 bytes.
            let [tag, size] = unsafe { start.add(at).cast::<[u32; 2]>().read() };
            if tag == ESR_RECORD {
                // SAFETY: its value follows the tag and the size.
                return unsafe { start.add(at + 8).cast::<u64>().read() };
            }
            if size < 16 {
                break;
            }
            at += size as usize;
        }
        0
    }
}

#[cfg(not(target_arch = "aarch64"))]
mod machine {
    use std::io;

    use super::Fault;

    /// # Safety
    ///
    /// As for [`std::ptr::read_volatile`].
    pub(crate) unsafe fn load(address: *const u8) -> Result<u8, Fault> {
        // SAFETY: the caller's promise.
        Ok(unsafe { address.read_volatile() })
    }

    /// # Safety
    ///
    /// As for [`std::ptr::write_volatile`].
    pub(crate) unsafe fn store(address: *mut u8, value: u8) -> Result<(), Fault> {
        // SAFETY: the caller's promise.
        unsafe { address.write_volatile(value) };
        Ok(())
    }

    pub(crate) fn catch() -> io::Result<()> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "faults can only be caught on arm64"))
    }
}

pub(crate) use machine::{catch, load, store};
