//! The partitions' consoles: a PL011 each, its output in a ring of its own, so that a guest that floods fills no more than that and
//! pays for it with its own time.

use handover_abi::Name;
use handover_abi::layout::UART_INTID;
use handover_core::PartitionIndex;
use handover_core::pl011::{Pl011, Written};
use handover_core::vgic::Kick;

use crate::kernel::Hardware;
use crate::partition::Halt;
use crate::uart::{Input, UART};

/// Bytes of a ring: one frame.
pub const RING: usize = 4096;
/// Bytes sent for one partition before another has its turn.
const TURN: usize = 256;

/// A partition's console.
pub struct Terminal {
    name: Name,
    uart: Pl011,
    ring: Option<&'static mut [u8; RING]>,
    head: usize,
    count: usize,
}

impl Terminal {
    /// With nothing in it, and no ring yet.
    pub fn new(name: Name) -> Terminal {
        Terminal { name, uart: Pl011::new(), ring: None, head: 0, count: 0 }
    }

    /// Gives it its ring.
    pub fn attach(&mut self, ring: &'static mut [u8; RING]) {
        self.ring = Some(ring);
    }

    /// Takes the ring back.
    pub fn detach(&mut self) -> Option<&'static mut [u8; RING]> {
        self.count = 0;
        self.ring.take()
    }

    /// Whose it is.
    pub fn name(&self) -> Name {
        self.name
    }

    fn room(&self) -> bool {
        self.count < RING
    }

    fn push(&mut self, byte: u8) {
        if let Some(ring) = &mut self.ring
            && self.count < RING
        {
            ring[(self.head + self.count) % RING] = byte;
            self.count += 1;
        }
    }

    /// Up to `most` bytes, as far as they lie in one piece.
    fn front(&self, most: usize) -> &[u8] {
        let end = (self.head + self.count.min(most)).min(RING);
        self.ring.as_ref().map_or(&[], |ring| &ring[self.head..end])
    }

    fn pop(&mut self, count: usize) {
        self.head = (self.head + count) % RING;
        self.count -= count;
    }
}

/// What the control OS keeps of all consoles.
pub struct Consoles {
    /// Partitions with output waiting: bit n for index n.
    pending: u128,
    /// Who has the next turn.
    turn: u32,
    /// Whose keyboard it is, by name: it may be made later, or made again.
    target: Option<Name>,
}

impl Consoles {
    /// No output, no input.
    pub const fn new() -> Consoles {
        Consoles { pending: 0, turn: 0, target: None }
    }

    /// Whether output waits.
    #[inline]
    pub fn pending(&self) -> bool {
        self.pending != 0
    }
}

impl Hardware {
    /// A guest reads its UART.
    pub fn uart_read(&mut self, partition: PartitionIndex, offset: u64) -> u64 {
        let Some(shell) = self.shell_mut(partition) else { return 0 };
        let room = shell.terminal.room();
        let value = shell.terminal.uart.read(offset, room);
        self.uart_line(partition);
        u64::from(value)
    }

    /// A guest writes its UART.
    pub fn uart_write(&mut self, partition: PartitionIndex, offset: u64, value: u64) {
        let Some(shell) = self.shell_mut(partition) else { return };
        let terminal = &mut shell.terminal;
        if let Written::Transmit(byte) = terminal.uart.write(offset, value as u32) {
            terminal.push(byte);
            // Whole lines go out together; what waits beyond goes out when this processor has nothing better to do.
            let now = byte == b'\n' || terminal.count >= RING / 2;
            self.consoles.pending |= 1 << partition.get();
            if now {
                self.console_turn(partition);
            }
        }
        self.uart_line(partition);
    }

    fn uart_line(&mut self, partition: PartitionIndex) {
        let Some(shell) = self.shell_mut(partition) else { return };
        let line = shell.terminal.uart.line();
        let kick: Kick = shell.vgic.set_level(0, UART_INTID, line);
        self.kick(partition, kick);
    }

    /// Sends some of a partition's output. Returns whether the device had room for it.
    fn console_turn(&mut self, partition: PartitionIndex) -> bool {
        let Some(shell) = self.shell_mut(partition) else { return true };
        let terminal = &mut shell.terminal;
        let was_full = !terminal.room();
        let mut uart = UART.lock();
        let mut sent = 0;
        let mut room = true;
        while room && sent < TURN && terminal.count > 0 {
            let bytes = terminal.front(TURN - sent);
            let count = uart.send_some(terminal.name, bytes);
            room = count == bytes.len();
            terminal.pop(count);
            sent += count;
        }
        if !room && let Some(device) = uart.device() {
            device.want_room(true);
        }
        drop(uart);
        let empty = terminal.count == 0;
        if was_full && terminal.room() {
            terminal.uart.drained();
            self.uart_line(partition);
        }
        if empty {
            self.consoles.pending &= !(1 << partition.get());
        }
        room
    }

    /// Gives each partition with output a turn. Returns whether more could go out now.
    pub fn console_output(&mut self) -> bool {
        let mut left = self.consoles.pending;
        while left != 0 {
            // The lowest at or after the turn, or the lowest.
            let after = left >> self.consoles.turn << self.consoles.turn;
            let index = if after != 0 { after } else { left }.trailing_zeros();
            left &= !(1 << index);
            self.consoles.turn = (index + 1) % 128;
            if let Some(partition) = PartitionIndex::new(index as usize)
                && !self.console_turn(partition)
            {
                return false;
            }
        }
        self.consoles.pending()
    }

    /// Sends all there is, waiting for the device.
    pub fn console_flush(&mut self) {
        while self.consoles.pending() {
            self.console_output();
        }
        if let Some(device) = UART.lock().device() {
            device.flush();
        }
    }

    /// The device has something: input, or room.
    pub fn console_interrupt(&mut self) {
        if let Some(device) = UART.lock().device() {
            device.want_room(false);
            device.clear_interrupts();
        }
        self.console_output();
        self.console_input();
    }

    fn console_input(&mut self) {
        loop {
            let input = UART.lock().receive();
            match input {
                None => break,
                Some(Input::Select(name)) => self.consoles.target = name,
                Some(Input::Byte(byte)) => self.console_receive(byte),
            }
        }
    }

    /// Hands a byte to whoever has the keyboard. One whose FIFO is full loses it, as with the real device: nobody may hold up the others.
    fn console_receive(&mut self, byte: u8) {
        if let Some(partition) = self.consoles.target.and_then(|name| self.named(name))
            && let Some(shell) = self.shell_mut(partition)
            && shell.terminal.uart.receive(byte)
        {
            self.uart_line(partition);
        }
    }

    /// Sends what an ended partition has said: one turn. Returns whether all is out.
    pub fn console_drain(&mut self, partition: PartitionIndex) -> bool {
        self.console_turn(partition);
        self.consoles.pending & 1 << partition.get() == 0
    }

    fn named(&self, name: Name) -> Option<PartitionIndex> {
        (0..handover_core::PARTITIONS_MAX).filter_map(PartitionIndex::new).find(|&index| {
            self.shell(index).is_some_and(|shell| shell.terminal.name() == name && shell.halt != Halt::Ending)
        })
    }
}
