//! Waiting: what descriptors are ready for, counters, and lists of descriptors.

use alloc::vec::Vec;

use linux_raw_sys::general::{
    EPOLL_CLOEXEC, EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLL_CTL_MOD, O_CLOEXEC, O_NONBLOCK, O_RDWR,
};

use super::{Caller, Fd};
use crate::{
    Errno,
    counter::Counter,
    epoll::{Epoll, EpollEvent},
    files::{Files, WaitKey},
    node::Device,
    open::{Object, Open},
    readiness::Readiness,
};

/// `EFD_SEMAPHORE`.
const SEMAPHORE: u32 = 1;

impl Caller<'_> {
    /// The device that a descriptor stands for, if any: for requests that are the kernel's own.
    ///
    /// # Errors
    ///
    /// [`Errno::BADF`].
    pub fn device(&self, fd: Fd) -> Result<Option<Device>, Errno> {
        match self.open_of(fd)?.1.object {
            Object::Device(device) => Ok(Some(device)),
            _ => Ok(None),
        }
    }

    /// Whether the description has `O_NONBLOCK`: a thread then does not wait at [`Errno::AGAIN`].
    ///
    /// # Errors
    ///
    /// [`Errno::BADF`].
    pub fn nonblocking(&self, fd: Fd) -> Result<bool, Errno> {
        Ok(self.open_of(fd)?.1.nonblocking())
    }

    /// What a descriptor is ready for now; [`Readiness::INVALID`] if there is none.
    #[must_use]
    pub fn readiness(&mut self, fd: Fd) -> Readiness {
        match self.open_of(fd) {
            Ok((number, open)) if open.object != Object::Path => self.files.readiness_of(number, self.system),
            _ => Readiness::INVALID,
        }
    }

    /// What to wait for until the descriptor may be ready; `None` if it always is.
    ///
    /// # Errors
    ///
    /// [`Errno::BADF`].
    pub fn wait_key(&self, fd: Fd) -> Result<Option<WaitKey>, Errno> {
        Ok(Files::wait_key_of(self.open_of(fd)?.1))
    }

    /// `eventfd2`.
    ///
    /// # Errors
    ///
    /// Linux's.
    pub fn eventfd2(&mut self, value: u32, flags: u32) -> Result<Fd, Errno> {
        if flags & !(SEMAPHORE | O_CLOEXEC | O_NONBLOCK) != 0 {
            return Err(Errno::INVAL);
        }
        self.descriptors.lowest(0)?;
        let counter = Counter { value: value.into(), semaphore: flags & SEMAPHORE != 0, changes: 0 };
        let counter = self.files.counters.insert(self.files.payer, counter).ok_or(Errno::NFILE)?;
        let open = Open::new(Object::Counter(counter), None, O_RDWR | flags & O_NONBLOCK);
        match self.files.make_open(open) {
            Ok(open) => self.install(open, flags & O_CLOEXEC != 0),
            Err(errno) => {
                self.files.counters.remove(counter);
                Err(errno)
            }
        }
    }

    /// `epoll_create1`.
    ///
    /// # Errors
    ///
    /// Linux's.
    pub fn epoll_create1(&mut self, flags: u32) -> Result<Fd, Errno> {
        if flags & !EPOLL_CLOEXEC != 0 {
            return Err(Errno::INVAL);
        }
        self.descriptors.lowest(0)?;
        let epoll = self.files.epolls.insert(self.files.payer, Epoll::default()).ok_or(Errno::NFILE)?;
        match self.files.make_open(Open::new(Object::Epoll(epoll), None, O_RDWR)) {
            Ok(open) => self.install(open, flags & EPOLL_CLOEXEC != 0),
            Err(errno) => {
                self.files.epolls.remove(epoll);
                Err(errno)
            }
        }
    }

    fn epoll_of(&self, fd: Fd) -> Result<u32, Errno> {
        match self.open_of(fd)?.1.object {
            Object::Epoll(number) => Ok(number),
            _ => Err(Errno::INVAL),
        }
    }

    /// `epoll_ctl`.
    ///
    /// # Errors
    ///
    /// Linux's.
    pub fn epoll_ctl(&mut self, list: Fd, operation: u32, fd: Fd, event: EpollEvent) -> Result<(), Errno> {
        self.open_of(list)?;
        let (open, target) = self.open_of(fd)?;
        let object = target.object;
        if matches!(
            object,
            Object::File | Object::Path | Object::Device(Device::Null | Device::Zero | Device::Full)
        ) {
            return Err(Errno::PERM);
        }
        let number = self.epoll_of(list)?;
        let key = Files::wait_key_of(target);
        if object == Object::Epoll(number) {
            return Err(Errno::INVAL);
        }
        if operation == EPOLL_CTL_ADD
            && let Object::Epoll(other) = object
            && self.files.epoll_reaches(other, number, 0)?
        {
            return Err(Errno::LOOP);
        }
        let epoll = self.files.epolls.get_mut(number).ok_or(Errno::BADF)?;
        let watched = (open, fd);
        match operation {
            EPOLL_CTL_ADD => epoll.add(watched, event, key)?,
            EPOLL_CTL_MOD => epoll.modify(watched, event)?,
            EPOLL_CTL_DEL => return epoll.remove(watched),
            _ => return Err(Errno::INVAL),
        }
        // Somebody may be waiting for the list, and what was added is ready.
        self.files.wake_list(number);
        Ok(())
    }

    /// `epoll_pwait`: what there is to tell now, at most so much; nothing if there is nothing, and the thread waits for the list's key.
    ///
    /// # Errors
    ///
    /// Linux's.
    pub fn epoll_wait(&mut self, list: Fd, most: i32) -> Result<Vec<EpollEvent>, Errno> {
        let most = usize::try_from(most).ok().filter(|&most| most > 0).ok_or(Errno::INVAL)?;
        let number = self.epoll_of(list)?;
        self.files.epoll_ready(number, most, self.system)
    }
}
