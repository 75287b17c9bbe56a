//! `fcntl`, `ioctl`, and what a descriptor is ready for.

use linux_raw_sys::{
    general::{
        F_DUPFD, F_DUPFD_CLOEXEC, F_GETFD, F_GETFL, F_SETFD, F_SETFL, FASYNC, FD_CLOEXEC, O_APPEND, O_DIRECT,
        O_NOATIME, O_NONBLOCK,
    },
    ioctl::{
        FIOCLEX, FIONBIO, FIONCLEX, FIONREAD, TCFLSH, TCGETS, TCSBRK, TCSBRKP, TCSETS, TCSETSF, TCSETSW,
        TCXONC, TIOCGPGRP, TIOCGSID, TIOCGWINSZ, TIOCNOTTY, TIOCSCTTY, TIOCSPGRP, TIOCSWINSZ,
    },
};

use super::{Caller, Fd};
use crate::{
    Errno,
    files::Waitable,
    node::{Device, Node},
    open::Object,
    terminal::{TERMIOS, TerminalSignal},
};

/// What an `ioctl` request's argument is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoctlShape {
    /// Bytes at the argument's address that the call reads; they are to be in the buffer before.
    pub reads: usize,
    /// Bytes that it writes; they are in the buffer afterwards.
    pub writes: usize,
}

/// Bytes of the buffer for `ioctl` arguments.
pub const IOCTL_BUFFER: usize = 64;

/// The shape of a request's argument.
///
/// # Errors
///
/// [`Errno::NOTTY`] when nothing has such a request.
pub fn ioctl_shape(request: u32) -> Result<IoctlShape, Errno> {
    let (reads, writes) = match request {
        TCGETS => (0, TERMIOS),
        TCSETS | TCSETSW | TCSETSF => (TERMIOS, 0),
        TIOCGWINSZ => (0, 8),
        TIOCSWINSZ => (8, 0),
        TIOCGPGRP | TIOCGSID | FIONREAD => (0, 4),
        TIOCSPGRP | FIONBIO => (4, 0),
        TCSBRK | TCSBRKP | TCXONC | TCFLSH | TIOCSCTTY | TIOCNOTTY | FIOCLEX | FIONCLEX => (0, 0),
        _ => return Err(Errno::NOTTY),
    };
    Ok(IoctlShape { reads, writes })
}

impl Caller<'_> {
    /// `fcntl`, as far as it is about descriptors and flags.
    ///
    /// # Errors
    ///
    /// Linux's. [`Errno::INVAL`] for a command that there is not.
    pub fn fcntl(&mut self, fd: Fd, command: u32, argument: u64) -> Result<u64, Errno> {
        const SETTABLE: u32 = O_APPEND | FASYNC | O_DIRECT | O_NOATIME | O_NONBLOCK;
        let (number, open) = self.open_of(fd)?;
        if open.object == Object::Path
            && !matches!(command, F_DUPFD | F_DUPFD_CLOEXEC | F_GETFD | F_SETFD | F_GETFL)
        {
            return Err(Errno::BADF);
        }
        match command {
            F_DUPFD | F_DUPFD_CLOEXEC => {
                let limit = self.descriptors.limit();
                let first = argument as u32 as usize;
                if first >= limit {
                    return Err(Errno::INVAL);
                }
                self.dup_from(fd, first, command == F_DUPFD_CLOEXEC).map(|fd| fd as u64)
            }
            F_GETFD => Ok(u64::from(self.descriptors.get(fd)?.close_on_exec)),
            F_SETFD => {
                self.descriptors.get_mut(fd)?.close_on_exec = argument as u32 & FD_CLOEXEC != 0;
                Ok(0)
            }
            F_GETFL => Ok(open.flags.into()),
            F_SETFL => {
                let open = self.files.open_mut(number)?;
                open.flags = open.flags & !SETTABLE | argument as u32 & SETTABLE;
                Ok(0)
            }
            linux_raw_sys::general::F_GETPIPE_SZ if matches!(open.object, Object::Pipe { .. }) => {
                Ok(crate::ring::CAPACITY as u64)
            }
            linux_raw_sys::general::F_GETPIPE_SZ => Err(Errno::BADF),
            _ => Err(Errno::INVAL),
        }
    }

    /// `ioctl`. What [`ioctl_shape`] says is read from and left in `buffer`; `value` is the argument itself.
    ///
    /// # Errors
    ///
    /// Linux's. [`Errno::NOTTY`] when the file has no such request.
    pub fn ioctl(
        &mut self,
        fd: Fd,
        request: u32,
        value: u64,
        buffer: &mut [u8; IOCTL_BUFFER],
    ) -> Result<u64, Errno> {
        let (number, open) = self.open_of(fd)?;
        if open.object == Object::Path {
            return Err(Errno::BADF);
        }
        let object = open.object;
        match request {
            FIOCLEX | FIONCLEX => self.descriptors.get_mut(fd)?.close_on_exec = request == FIOCLEX,
            FIONBIO => {
                let on = buffer[..4] != [0; 4];
                let open = self.files.open_mut(number)?;
                open.flags = if on { open.flags | O_NONBLOCK } else { open.flags & !O_NONBLOCK };
            }
            FIONREAD => {
                let bytes = self.readable_bytes(number)?;
                buffer[..4].copy_from_slice(&u32::try_from(bytes).unwrap_or(u32::MAX >> 1).to_le_bytes());
            }
            _ if object == Object::Device(Device::Terminal) => {
                self.terminal_request(request, value, buffer)?
            }
            _ => return Err(Errno::NOTTY),
        }
        Ok(0)
    }

    /// Whether the control OS's calls may be made through a descriptor: `/dev/control`, open for reading and writing.
    ///
    /// # Errors
    ///
    /// [`Errno::NOTTY`] when it is something else, [`Errno::BADF`].
    pub fn check_control(&self, fd: Fd) -> Result<(), Errno> {
        let (_, open) = self.open_of(fd)?;
        match open.object {
            Object::Path => Err(Errno::BADF),
            Object::Device(Device::Control) if open.readable() && open.writable() => Ok(()),
            Object::Device(Device::Control) => Err(Errno::BADF),
            _ => Err(Errno::NOTTY),
        }
    }

    fn terminal_request(
        &mut self,
        request: u32,
        value: u64,
        buffer: &mut [u8; IOCTL_BUFFER],
    ) -> Result<(), Errno> {
        let terminal = &mut self.files.terminal;
        let word = |bytes: &[u8]| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        match request {
            TCGETS => buffer[..TERMIOS].copy_from_slice(&terminal.termios()),
            TCSETS | TCSETSW | TCSETSF => {
                let mut termios = [0; TERMIOS];
                termios.copy_from_slice(&buffer[..TERMIOS]);
                terminal.set_termios(&termios, request == TCSETSF);
                self.files.wake(Waitable::Terminal);
            }
            TIOCGWINSZ => {
                for (bytes, field) in buffer.chunks_exact_mut(2).zip(terminal.window) {
                    bytes.copy_from_slice(&field.to_le_bytes());
                }
            }
            TIOCSWINSZ => {
                let before = terminal.window;
                for (bytes, field) in buffer.chunks_exact(2).zip(&mut terminal.window) {
                    *field = u16::from_le_bytes([bytes[0], bytes[1]]);
                }
                if terminal.window != before {
                    terminal.signal(TerminalSignal::WindowChange);
                }
            }
            TIOCGPGRP => buffer[..4].copy_from_slice(&terminal.foreground.to_le_bytes()),
            TIOCSPGRP => terminal.foreground = word(buffer),
            TIOCGSID => {
                let session = self.system.process(self.system.current()).map_or(0, |status| status.session);
                buffer[..4].copy_from_slice(&session.to_le_bytes());
            }
            // 0: what was received; 1: what is to be sent, which never waits; 2: both.
            TCFLSH if value > 2 => return Err(Errno::INVAL),
            TCFLSH if value != 1 => terminal.flush(),
            TCFLSH | TCSBRK | TCSBRKP | TCXONC | TIOCSCTTY | TIOCNOTTY => {}
            _ => return Err(Errno::NOTTY),
        }
        Ok(())
    }

    fn readable_bytes(&self, number: u32) -> Result<u64, Errno> {
        let open = self.files.open(number)?;
        match (open.object, open.node) {
            (Object::Pipe { pipe, .. }, _) => {
                Ok(self.files.pipes.get(pipe).map_or(0, |pipe| pipe.length() as u64))
            }
            (Object::Pair(end), _) => {
                Ok(self.files.pairs.get(end.pair).map_or(0, |pair| pair.available(end.second) as u64))
            }
            (Object::Device(Device::Terminal), _) => Ok(self.files.terminal.available() as u64),
            (Object::File, Some(node @ Node::Inode(inode)))
                if self.files.inode(inode)?.directory().is_none() =>
            {
                Ok(self.metadata(node)?.size.saturating_sub(open.position))
            }
            _ => Err(Errno::NOTTY),
        }
    }
}
