//! The console: a PL011 (Arm DDI 0183) at [`UART_BASE`].

use core::{
    fmt::{self, Write},
    ptr,
};

use handover_abi::layout::UART_BASE;

use crate::interrupts::Masked;
use crate::mapping;
use crate::processor::Lock;

const DR: usize = 0x00;
const FR: usize = 0x18;
const FR_RXFE: u32 = 1 << 4;
const FR_TXFF: u32 = 1 << 5;

static CONSOLE: Lock<Console> = Lock::new(Console(()));

/// The one console; [`print!`](crate::print) and [`println!`](crate::println) write to it.
struct Console(());

fn read(offset: usize) -> u32 {
    // SAFETY: the partition's address map has a PL011 there, which the start code maps as Device memory; reads of DR and FR
    // touch no memory.
    unsafe { ptr::with_exposed_provenance::<u32>(mapping::address(UART_BASE) + offset).read_volatile() }
}

fn write(offset: usize, value: u32) {
    // SAFETY: as for `read`.
    unsafe {
        ptr::with_exposed_provenance_mut::<u32>(mapping::address(UART_BASE) + offset).write_volatile(value)
    }
}

fn write_byte(byte: u8) {
    while read(FR) & FR_TXFF != 0 {
        crate::processor::yield_now();
    }
    write(DR, u32::from(byte));
}

impl Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if byte == b'\n' {
                write_byte(b'\r');
            }
            write_byte(byte);
        }
        Ok(())
    }
}

/// The next byte of input, if there is one.
#[must_use]
pub fn read_byte() -> Option<u8> {
    if read(FR) & FR_RXFE != 0 { None } else { Some(read(DR) as u8) }
}

/// Has the console's interrupt ([`UART_INTID`](handover_abi::layout::UART_INTID)) pending while there is input.
pub fn enable_input() {
    /// UARTIMSC: the receive and the receive timeout interrupts.
    const IMSC: usize = 0x38;
    write(IMSC, 1 << 4 | 1 << 6);
}

/// Writes bytes as they are, without turning `\n` into `\r\n`.
pub fn write_bytes(bytes: &[u8]) {
    let _masked = Masked::new();
    let _console = CONSOLE.lock();
    bytes.iter().copied().for_each(write_byte);
}

/// Prints for [`print!`](crate::print).
pub fn print(arguments: fmt::Arguments<'_>) {
    // A handler that prints must not find the console locked by the processor it interrupted.
    let _masked = Masked::new();
    print_to(&mut CONSOLE.lock(), arguments);
}

/// Prints without waiting for whoever has the console: for a program that is about to end.
pub(crate) fn print_anyway(arguments: fmt::Arguments<'_>) {
    print_to(&mut Console(()), arguments);
}

fn print_to(console: &mut Console, arguments: fmt::Arguments<'_>) {
    // `write_str` never fails; a `Display` that does has printed what it could.
    let _printed: fmt::Result = console.write_fmt(arguments);
}

/// Prints to the console.
#[macro_export]
macro_rules! print {
    ($($arguments:tt)*) => { $crate::console::print(format_args!($($arguments)*)) };
}

/// Prints a line to the console.
#[macro_export]
macro_rules! println {
    () => { $crate::console::print(format_args!("\n")) };
    ($($arguments:tt)*) => { $crate::console::print(format_args!("{}\n", format_args!($($arguments)*))) };
}
