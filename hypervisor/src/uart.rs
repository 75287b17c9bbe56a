//! The one UART, and whose bytes are on it: `handover_abi::console` has the framing.

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicUsize, Ordering};

use handover_abi::Name;
use handover_abi::console::{SWITCH, SWITCH_END};
use spin::RelaxStrategy;

use crate::drivers::pl011::Pl011;
use crate::lock::{Lock, Relax};

/// A stream: a partition's, or the control OS's own.
pub type Stream = Option<Name>;

/// The UART and the state of both directions' framing.
pub struct Uart {
    device: Option<Pl011>,
    selected: Option<Stream>,
    frame: Frame,
}

/// How far an input frame has been read.
enum Frame {
    Bytes,
    Name { bytes: [u8; 16], length: usize },
}

/// What comes in.
pub enum Input {
    /// Bytes that follow are for this partition; `None`: for a name nobody can have.
    Select(Option<Name>),
    /// A byte.
    Byte(u8),
}

/// Innermost of all locks.
pub static UART: Lock<Uart> = Lock::new(Uart { device: None, selected: None, frame: Frame::Bytes });

impl Uart {
    /// Takes over the device at `base`.
    ///
    /// # Safety
    /// As for [`Pl011::new`].
    pub unsafe fn attach(&mut self, base: usize) {
        // SAFETY: by the caller.
        let device = unsafe { Pl011::new(base) };
        device.start();
        EMERGENCY_BASE.store(base, Ordering::Relaxed);
        self.device = Some(device);
    }

    /// The device, once there is one.
    pub fn device(&self) -> Option<&Pl011> {
        self.device.as_ref()
    }

    fn select(&mut self, stream: Stream) {
        if self.selected == Some(stream) {
            return;
        }
        self.selected = Some(stream);
        let Some(device) = &self.device else { return };
        device.send(SWITCH);
        for byte in stream.iter().flat_map(|name| name.as_str().bytes()) {
            device.send(byte);
        }
        device.send(SWITCH_END);
    }

    /// Sends what fits of a partition's bytes; returns how many.
    pub fn send_some(&mut self, name: Name, bytes: &[u8]) -> usize {
        self.select(Some(name));
        let Some(device) = &self.device else { return bytes.len() };
        let clean = |byte| if byte == SWITCH { b'?' } else { byte };
        bytes.iter().take_while(|&&byte| device.try_send(clean(byte))).count()
    }

    /// Takes what has come in.
    pub fn receive(&mut self) -> Option<Input> {
        loop {
            let byte = self.device.as_ref()?.receive()?;
            match (&mut self.frame, byte) {
                (_, SWITCH) => self.frame = Frame::Name { bytes: [0; 16], length: 0 },
                (Frame::Bytes, byte) => return Some(Input::Byte(byte)),
                (Frame::Name { bytes, length }, SWITCH_END) => {
                    let name = bytes
                        .get(..*length)
                        .and_then(|name| core::str::from_utf8(name).ok())
                        .and_then(Name::new);
                    self.frame = Frame::Bytes;
                    return Some(Input::Select(name));
                }
                (Frame::Name { bytes, length }, byte) => {
                    // A name too long is none; its last byte is overwritten, and the length says so.
                    if let Some(slot) = bytes.get_mut(*length) {
                        *slot = byte;
                    }
                    *length = length.saturating_add(1);
                }
            }
        }
    }
}

/// The control OS's own stream.
impl Write for Uart {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.select(None);
        if let Some(device) = &self.device {
            send_text(device, text);
        }
        Ok(())
    }
}

static EMERGENCY_BASE: AtomicUsize = AtomicUsize::new(0);

/// How often a panic looks whether somebody still writes: what the longest line takes, and more.
const PATIENCE: u32 = 1 << 20;

/// The device, for a panic. Nobody else writes to it from then on, unless the lock is held by who has panicked.
pub struct Emergency(Pl011);

impl Emergency {
    /// The device, if there is one, switched to the control OS's own stream.
    pub fn take() -> Option<Emergency> {
        let base = EMERGENCY_BASE.load(Ordering::Relaxed);
        for _ in 0..PATIENCE {
            if let Some(held) = UART.try_lock() {
                core::mem::forget(held);
                break;
            }
            Relax::relax();
        }
        // SAFETY: `attach` has put it there, for good.
        let device = (base != 0).then(|| unsafe { Pl011::new(base) })?;
        device.send(SWITCH);
        device.send(SWITCH_END);
        Some(Emergency(device))
    }
}

impl Write for Emergency {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        send_text(&self.0, text);
        Ok(())
    }
}

impl Drop for Emergency {
    fn drop(&mut self) {
        self.0.flush();
    }
}

fn send_text(device: &Pl011, text: &str) {
    for byte in text.bytes() {
        if byte == b'\n' {
            device.send(b'\r');
        }
        device.send(byte);
    }
}

struct Logger;

impl log::Log for Logger {
    fn enabled(&self, metadata: &log::Metadata) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &log::Record) {
        if self.enabled(record.metadata()) {
            let mut uart = UART.lock();
            // Writing to the UART cannot fail.
            let _ = match record.level() {
                log::Level::Error => writeln!(uart, "error: {}", record.args()),
                log::Level::Warn => writeln!(uart, "warning: {}", record.args()),
                _ => writeln!(uart, "{}", record.args()),
            };
        }
    }

    fn flush(&self) {}
}

static LOGGER: Logger = Logger;

/// Lets `log` write here.
pub fn start_log() {
    // Fails only when called twice, and then the first one stays.
    let _ = log::set_logger(&LOGGER);
    log::set_max_level(log::LevelFilter::Info);
}
