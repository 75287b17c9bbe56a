//! The PL011 UART (Arm DDI 0183G) that a guest sees: registers and interrupt line, without the wire.

/// Bytes that wait for the guest: more than the real one's 32, for there is no flow control to whoever types or pastes.
const RECEIVE_FIFO: usize = 512;

const DR: u64 = 0x000;
const RSR: u64 = 0x004;
const FR: u64 = 0x018;
const ILPR: u64 = 0x020;
const IBRD: u64 = 0x024;
const FBRD: u64 = 0x028;
const LCR_H: u64 = 0x02c;
const CR: u64 = 0x030;
const IFLS: u64 = 0x034;
const IMSC: u64 = 0x038;
const RIS: u64 = 0x03c;
const MIS: u64 = 0x040;
const ICR: u64 = 0x044;
const DMACR: u64 = 0x048;
const PERIPH_ID: u64 = 0xfe0;

const FR_TXFE: u32 = 1 << 7;
const FR_RXFF: u32 = 1 << 6;
const FR_TXFF: u32 = 1 << 5;
const FR_RXFE: u32 = 1 << 4;
const FR_CTS: u32 = 1 << 0;
const INT_RX: u32 = 1 << 4;
const INT_TX: u32 = 1 << 5;
const INT_RT: u32 = 1 << 6;
const INT_ALL: u32 = 0x7ff;

/// UARTPeriphID0-3 (revision r1p5) and UARTPCellID0-3.
const IDENTIFICATION: [u8; 8] = [0x11, 0x10, 0x34, 0x00, 0x0d, 0xf0, 0x05, 0xb1];

/// The registers of one.
#[derive(Clone, Debug)]
pub struct Pl011 {
    ibrd: u32,
    fbrd: u32,
    lcr: u32,
    cr: u32,
    ifls: u32,
    imsc: u32,
    /// Latched interrupts; those of the receiver follow the FIFO.
    ris: u32,
    fifo: [u8; RECEIVE_FIFO],
    head: u16,
    count: u16,
}

/// What a write asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Written {
    /// A byte goes out.
    Transmit(u8),
    /// Nothing.
    Nothing,
}

impl Default for Pl011 {
    fn default() -> Pl011 {
        Pl011::new()
    }
}

impl Pl011 {
    /// After reset, transmitter and receiver on.
    #[must_use]
    pub const fn new() -> Pl011 {
        Pl011 {
            ibrd: 0,
            fbrd: 0,
            lcr: 0,
            cr: 0x300,
            ifls: 0x12,
            imsc: 0,
            ris: 0,
            fifo: [0; RECEIVE_FIFO],
            head: 0,
            count: 0,
        }
    }

    /// The interrupt line.
    #[must_use]
    pub fn line(&self) -> bool {
        self.raw() & self.imsc != 0
    }

    fn raw(&self) -> u32 {
        let received = if self.count > 0 { INT_RX | INT_RT } else { 0 };
        self.ris & !(INT_RX | INT_RT) | received
    }

    /// The guest reads `offset`. `room`: whether a byte could go out now.
    pub fn read(&mut self, offset: u64, room: bool) -> u32 {
        match offset {
            DR => self.take().map_or(0, u32::from),
            FR => {
                let transmit = if room { FR_TXFE } else { FR_TXFF };
                let receive = match usize::from(self.count) {
                    0 => FR_RXFE,
                    RECEIVE_FIFO => FR_RXFF,
                    _ => 0,
                };
                FR_CTS | transmit | receive
            }
            IBRD => self.ibrd,
            FBRD => self.fbrd,
            LCR_H => self.lcr,
            CR => self.cr,
            IFLS => self.ifls,
            IMSC => self.imsc,
            RIS => self.raw(),
            MIS => self.raw() & self.imsc,
            PERIPH_ID..0x1000 => {
                let index = (offset - PERIPH_ID) / 4;
                IDENTIFICATION.get(index as usize).copied().map_or(0, u32::from)
            }
            _ => 0,
        }
    }

    /// The guest writes `offset`. A byte to send is the caller's to keep; without room for it, it is lost, as on the real one.
    pub fn write(&mut self, offset: u64, value: u32) -> Written {
        match offset {
            DR => {
                // The FIFO drains at once as far as the guest can see.
                self.ris |= INT_TX;
                return Written::Transmit(value as u8);
            }
            IBRD => self.ibrd = value & 0xffff,
            FBRD => self.fbrd = value & 0x3f,
            LCR_H => self.lcr = value & 0xff,
            CR => self.cr = value & 0xff87,
            IFLS => self.ifls = value & 0x3f,
            IMSC => self.imsc = value & INT_ALL,
            ICR => self.ris &= !value,
            RSR | ILPR | DMACR => {}
            _ => {}
        }
        Written::Nothing
    }

    /// There is room again after there was none.
    pub fn drained(&mut self) {
        self.ris |= INT_TX;
    }

    /// A byte comes in; `false` when the FIFO is full.
    pub fn receive(&mut self, byte: u8) -> bool {
        let at = usize::from(self.head) + usize::from(self.count);
        match self.fifo.get_mut(at % RECEIVE_FIFO) {
            Some(slot) if usize::from(self.count) < RECEIVE_FIFO => {
                *slot = byte;
                self.count += 1;
                true
            }
            _ => false,
        }
    }

    fn take(&mut self) -> Option<u8> {
        let byte = self.fifo.get(usize::from(self.head)).copied().filter(|_| self.count > 0)?;
        self.head = (self.head + 1) % RECEIVE_FIFO as u16;
        self.count -= 1;
        Some(byte)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transmits_and_latches_its_interrupt() {
        let mut uart = Pl011::new();
        assert_eq!(uart.write(DR, u32::from(b'x')), Written::Transmit(b'x'));
        assert!(!uart.line());
        assert_eq!(uart.write(IMSC, INT_TX), Written::Nothing);
        assert!(uart.line());
        assert_eq!(uart.write(ICR, INT_TX), Written::Nothing);
        assert!(!uart.line());
        uart.drained();
        assert!(uart.line());
        assert_eq!(uart.read(FR, false) & (FR_TXFF | FR_TXFE), FR_TXFF);
        assert_eq!(uart.read(FR, true) & (FR_TXFF | FR_TXFE), FR_TXFE);
    }

    #[test]
    fn receives_in_order_and_drops_nothing_silently() {
        let mut uart = Pl011::new();
        assert_eq!(uart.write(IMSC, INT_RX), Written::Nothing);
        for round in 0..5u8 {
            for n in 0..RECEIVE_FIFO {
                assert!(uart.receive(round ^ n as u8));
            }
            assert!(!uart.receive(0), "the FIFO is full");
            assert_ne!(uart.read(FR, true) & FR_RXFF, 0);
            for n in 0..RECEIVE_FIFO {
                assert!(uart.line());
                assert_eq!(uart.read(DR, true), u32::from(round ^ n as u8));
            }
            assert!(!uart.line());
            assert_eq!(uart.read(DR, true), 0);
            assert_ne!(uart.read(FR, true) & FR_RXFE, 0);
        }
    }

    #[test]
    fn every_register_can_be_read_and_written() {
        let mut uart = Pl011::new();
        for offset in 0..0x1100 {
            let _ = uart.write(offset, u32::MAX);
            uart.read(offset, true);
        }
        assert_eq!(uart.read(PERIPH_ID, true), 0x11);
        assert_eq!(uart.read(0xffc, true), 0xb1);
    }
}
