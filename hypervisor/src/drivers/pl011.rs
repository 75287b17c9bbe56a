//! The machine's PL011 UART (Arm DDI 0183G).

use tock_registers::interfaces::{ReadWriteable, Readable, Writeable};
use tock_registers::registers::{ReadOnly, ReadWrite, WriteOnly};
use tock_registers::{register_bitfields, register_structs};

register_bitfields! {
    u32,
    Flag [
        /// Receive FIFO empty.
        RXFE OFFSET(4) NUMBITS(1) [],
        /// Transmit FIFO full.
        TXFF OFFSET(5) NUMBITS(1) [],
        /// Something is still on the wire.
        BUSY OFFSET(3) NUMBITS(1) []
    ],
    LineControl [
        /// FIFOs on.
        FEN OFFSET(4) NUMBITS(1) [],
        /// Word length; 3 is eight bits.
        WLEN OFFSET(5) NUMBITS(2) []
    ],
    Control [
        UARTEN OFFSET(0) NUMBITS(1) [],
        TXE OFFSET(8) NUMBITS(1) [],
        RXE OFFSET(9) NUMBITS(1) []
    ],
    Interrupt [
        RX OFFSET(4) NUMBITS(1) [],
        TX OFFSET(5) NUMBITS(1) [],
        RT OFFSET(6) NUMBITS(1) []
    ]
}

register_structs! {
    #[allow(non_snake_case, reason = "the manual's names")]
    Registers {
        (0x000 => data: ReadWrite<u32>),
        (0x004 => _reserved0),
        (0x018 => flag: ReadOnly<u32, Flag::Register>),
        (0x01c => _reserved1),
        (0x02c => line_control: ReadWrite<u32, LineControl::Register>),
        (0x030 => control: ReadWrite<u32, Control::Register>),
        (0x034 => _reserved2),
        (0x038 => interrupt_mask: ReadWrite<u32, Interrupt::Register>),
        (0x03c => _reserved3),
        (0x044 => interrupt_clear: WriteOnly<u32, Interrupt::Register>),
        (0x048 => @END),
    }
}

/// The device.
pub struct Pl011 {
    base: usize,
}

impl Pl011 {
    /// # Safety
    /// A PL011 lies at `base`, mapped as device memory for as long as this is used.
    pub const unsafe fn new(base: usize) -> Pl011 {
        Pl011 { base }
    }

    fn registers(&self) -> &Registers {
        // SAFETY: by `new`.
        unsafe { &*(self.base as *const Registers) }
    }

    /// Eight bits, FIFOs, transmitter and receiver on; the rate is left as the firmware set it.
    pub fn start(&self) {
        let registers = self.registers();
        registers.interrupt_mask.set(0);
        registers.line_control.write(LineControl::FEN::SET + LineControl::WLEN.val(3));
        registers.control.write(Control::UARTEN::SET + Control::TXE::SET + Control::RXE::SET);
    }

    /// Interrupts when something has come in.
    pub fn listen(&self, on: bool) {
        let value = u32::from(on);
        self.registers().interrupt_mask.modify(Interrupt::RX.val(value) + Interrupt::RT.val(value));
    }

    /// Interrupts when there is room to send.
    pub fn want_room(&self, on: bool) {
        self.registers().interrupt_mask.modify(Interrupt::TX.val(u32::from(on)));
    }

    /// Forgets the interrupts that were latched.
    pub fn clear_interrupts(&self) {
        self.registers().interrupt_clear.write(Interrupt::TX::SET);
    }

    /// Sends a byte if there is room.
    #[must_use]
    pub fn try_send(&self, byte: u8) -> bool {
        let registers = self.registers();
        let room = !registers.flag.is_set(Flag::TXFF);
        if room {
            registers.data.set(u32::from(byte));
        }
        room
    }

    /// Sends a byte, waiting for room.
    pub fn send(&self, byte: u8) {
        while !self.try_send(byte) {
            <crate::lock::Relax as spin::RelaxStrategy>::relax();
        }
    }

    /// Waits until all is out.
    pub fn flush(&self) {
        while self.registers().flag.is_set(Flag::BUSY) {
            <crate::lock::Relax as spin::RelaxStrategy>::relax();
        }
    }

    /// The next byte that came in.
    pub fn receive(&self) -> Option<u8> {
        let registers = self.registers();
        (!registers.flag.is_set(Flag::RXFE)).then(|| registers.data.get() as u8)
    }
}
