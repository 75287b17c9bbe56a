//! Privileged calls of the control OS, through the kernel's device.

use std::{fs::File, io, os::fd::AsRawFd, path::Path};

/// The device whose `ioctl` makes privileged calls, and whose records are [`Signals`](crate::Signals).
pub const DEVICE: &str = "/dev/control";
/// Registers that a call takes and returns: `x0` to `x17`.
pub const REGISTERS: usize = 18;

/// `_IOWR('H', 1, [u64; 18])`: makes the call that `x0` names.
const CALL: u32 = 3 << 30 | (size_of::<[u64; REGISTERS]>() as u32) << 16 | (b'H' as u32) << 8 | 1;

/// Something that carries out privileged calls: the kernel, or a model in a test.
pub trait Calls: Send + Sync {
    /// Makes one call; the registers are those before and after. An address in this process stands for an address of the caller's
    /// in the control OS's documentation.
    ///
    /// # Errors
    ///
    /// The call was not made. What the control OS answers is in `x0`.
    fn call(&self, registers: &mut [u64; REGISTERS]) -> io::Result<()>;
}

/// The kernel.
#[derive(Debug)]
pub struct Device(File);

impl Device {
    /// Opens [`DEVICE`].
    ///
    /// # Errors
    ///
    /// Those of opening a file: there is no such device outside system-control.
    pub fn open() -> io::Result<Device> {
        Device::open_at(Path::new(DEVICE))
    }

    fn open_at(path: &Path) -> io::Result<Device> {
        let file = File::options().read(true).write(true).open(path);
        file.map(Device).map_err(|error| {
            let what = format!("{} cannot be opened, which only system-control has: {error}", path.display());
            io::Error::new(error.kind(), what)
        })
    }
}

impl Calls for Device {
    fn call(&self, registers: &mut [u64; REGISTERS]) -> io::Result<()> {
        // SAFETY: the request reads and writes these 18 words; what an address among them refers to is borrowed by the caller.
        let result = unsafe { libc::ioctl(self.0.as_raw_fd(), CALL as _, registers.as_mut_ptr()) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_number() {
        assert_eq!(CALL, 0xc090_4801);
    }

    #[test]
    fn without_the_device() {
        let error = Device::open_at(Path::new("/nowhere/control")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(
            error.to_string().contains("/nowhere/control cannot be opened, which only system-control has")
        );
        // Another file takes the request for none of its own.
        let file = Device::open_at(Path::new("/dev/null")).unwrap();
        assert_eq!(file.call(&mut [0; REGISTERS]).unwrap_err().raw_os_error(), Some(libc::ENOTTY));
    }
}
