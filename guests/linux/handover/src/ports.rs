//! What events name an end by, and sets of ends whose events are taken together.

use std::{
    collections::HashMap,
    fmt,
    hash::{Hash, Hasher},
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use handover_abi::Causes;
use rustix::{
    event::{
        Timespec,
        epoll::{self, EventData, EventFlags},
    },
    io::Errno,
};

use crate::uapi;

/// The descriptor behind a channel, or whatever else has events. Its last owner closes it.
#[derive(Debug)]
pub(crate) struct End {
    fd: OwnedFd,
    /// Never that of another end of this process.
    number: u64,
    /// It takes requests: the driver latches no causes for it.
    listens: bool,
    /// The set that it is in.
    set: Mutex<Weak<Members>>,
}

/// Nothing that is done under these locks leaves anything half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl End {
    pub(crate) fn new(fd: OwnedFd) -> Arc<End> {
        End::make(fd, false)
    }

    pub(crate) fn listening(fd: OwnedFd) -> Arc<End> {
        End::make(fd, true)
    }

    fn make(fd: OwnedFd, listens: bool) -> Arc<End> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Arc::new(End { fd, number, listens, set: Mutex::new(Weak::new()) })
    }

    pub(crate) fn port(self: &Arc<End>) -> Port {
        Port { end: Arc::downgrade(self), number: self.number }
    }

    /// Takes what has happened at it.
    fn take_event(&self) -> io::Result<Causes> {
        if self.listens {
            return Ok(Causes::SIGNAL);
        }
        match uapi::ask::<{ uapi::EVENT }, u32>(self) {
            Ok(causes) => Ok(Causes::from_bits_truncate(causes)),
            Err(Errno::AGAIN) => Ok(Causes::empty()),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for End {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for End {
    fn drop(&mut self) {
        if let Some(set) = lock(&self.set).upgrade() {
            lock(&set.ends).remove(&self.number);
            // Another process may have the descriptor too; otherwise closing it would do.
            let _removed: Result<(), Errno> = epoll::delete(&set.epoll, &self.fd);
        }
    }
}

/// The name of a channel's end, of shared memory's, of an event port's or of a listener in this process, by which events name it. It keeps none of them
/// open, and never comes back.
#[derive(Clone)]
pub struct Port {
    end: Weak<End>,
    number: u64,
}

impl Port {
    pub(crate) fn end(&self) -> io::Result<Arc<End>> {
        self.end.upgrade().ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the port is closed"))
    }
}

impl PartialEq for Port {
    fn eq(&self, other: &Port) -> bool {
        self.number == other.number
    }
}

impl Eq for Port {}

impl Hash for Port {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.number.hash(state);
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.number.fmt(f)
    }
}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Port({})", self.number)
    }
}

/// Something has happened at a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Where.
    pub port: Port,
    /// What has happened since the port's last event. At a listener it is [`Causes::SIGNAL`]: there are requests.
    pub causes: Causes,
}

/// What a set and its members share.
#[derive(Debug)]
struct Members {
    epoll: OwnedFd,
    ends: Mutex<HashMap<u64, Weak<End>>>,
}

/// Ports whose events are taken together, in the order of arrival: one wait for many. An event is told once, so that whoever has taken it receives until
/// there is nothing left. Dropping the set takes its members out.
///
/// ```no_run
/// use handover_linux::{Causes, Channel, Handover, PortSet};
///
/// let handover = Handover::open()?;
/// let (set, mut channels) = (PortSet::create()?, Vec::new());
/// for service in handover.services()? {
///     let channel = Channel::connect(&handover, &service)?;
///     set.add(channel.port())?;
///     channels.push(channel);
/// }
/// loop {
///     let event = set.wait()?;
///     let Some(channel) = channels.iter().find(|channel| channel.port() == event.port) else { continue };
///     while let Some(message) = channel.receive()? {
///         println!("{}: {} bytes", event.port, message.short.len());
///     }
/// }
/// # #[allow(unreachable_code)]
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// It is an epoll instance with edge-triggered members: its own descriptor can be polled.
#[derive(Debug)]
pub struct PortSet(Arc<Members>);

impl PortSet {
    /// A set without members.
    pub fn create() -> io::Result<PortSet> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        Ok(PortSet(Arc::new(Members { epoll, ends: Mutex::new(HashMap::new()) })))
    }

    /// Adds a port, with what has happened at it. [`io::ErrorKind::ResourceBusy`]: it is in a set. [`io::ErrorKind::NotFound`]: it is closed.
    pub fn add(&self, port: Port) -> io::Result<()> {
        let end = port.end()?;
        let mut set = lock(&end.set);
        if set.strong_count() > 0 {
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, "the port is in a set"));
        }
        let what = EventFlags::IN | EventFlags::OUT | EventFlags::PRI | EventFlags::RDHUP | EventFlags::ET;
        // Before there can be an event of it.
        lock(&self.0.ends).insert(port.number, port.end);
        if let Err(error) = epoll::add(&self.0.epoll, &*end, EventData::new_u64(port.number), what) {
            lock(&self.0.ends).remove(&port.number);
            return Err(error.into());
        }
        *set = Arc::downgrade(&self.0);
        Ok(())
    }

    /// Takes a port out of its set, whichever that is. [`io::ErrorKind::NotFound`] if it is in none, or closed.
    pub fn remove(port: &Port) -> io::Result<()> {
        let end = port.end()?;
        let Some(set) = std::mem::take(&mut *lock(&end.set)).upgrade() else {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the port is in no set"));
        };
        lock(&set.ends).remove(&port.number);
        Ok(epoll::delete(&set.epoll, &*end)?)
    }

    /// Takes the next event of a member, if there is one.
    pub fn next(&self) -> io::Result<Option<Event>> {
        self.within(Some(Duration::ZERO))
    }

    /// Waits for an event of a member and takes it.
    pub fn wait(&self) -> io::Result<Event> {
        loop {
            if let Some(event) = self.within(None)? {
                return Ok(event);
            }
        }
    }

    /// The same, but not longer: [`io::ErrorKind::TimedOut`].
    pub fn wait_timeout(&self, timeout: Duration) -> io::Result<Event> {
        self.within(Some(timeout))?.ok_or_else(|| io::ErrorKind::TimedOut.into())
    }

    fn within(&self, timeout: Option<Duration>) -> io::Result<Option<Event>> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let mut ready = [epoll::Event { flags: EventFlags::empty(), data: EventData::new_u64(0) }; 1];
            let time = left.and_then(|left| Timespec::try_from(left).ok());
            match epoll::wait(&self.0.epoll, &mut ready[..], time.as_ref()) {
                Ok(0) => return Ok(None),
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            }
            // It may have been closed, or another thread may have taken what had happened.
            let end = lock(&self.0.ends).get(&{ ready[0].data.u64() }).and_then(Weak::upgrade);
            let Some(end) = end else { continue };
            let causes = end.take_event()?;
            if !causes.is_empty() {
                return Ok(Some(Event { port: end.port(), causes }));
            }
        }
    }
}

impl AsFd for PortSet {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.epoll.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use rustix::{event::EventfdFlags, event::eventfd};

    use super::*;

    /// A descriptor that epoll takes, and that is always ready. The driver's own are what `handover proves` tests.
    fn listener() -> Arc<End> {
        End::listening(eventfd(1, EventfdFlags::empty()).unwrap())
    }

    #[test]
    fn events_come_once_and_in_order() {
        let set = PortSet::create().unwrap();
        let ends = [listener(), listener()];
        for end in &ends {
            set.add(end.port()).unwrap();
        }
        for end in &ends {
            let expected = Event { port: end.port(), causes: Causes::SIGNAL };
            assert_eq!(set.next().unwrap(), Some(expected));
        }
        assert_eq!(set.next().unwrap(), None);
        let late = set.wait_timeout(Duration::from_millis(1)).map_err(|error| error.kind());
        assert_eq!(late, Err(io::ErrorKind::TimedOut));
    }

    #[test]
    fn a_port_is_in_one_set_at_most() {
        let sets = [PortSet::create().unwrap(), PortSet::create().unwrap()];
        let end = listener();
        let kind = |result: io::Result<()>| result.map_err(|error| error.kind());
        assert_eq!(kind(PortSet::remove(&end.port())), Err(io::ErrorKind::NotFound));
        sets[0].add(end.port()).unwrap();
        assert_eq!(kind(sets[1].add(end.port())), Err(io::ErrorKind::ResourceBusy));
        PortSet::remove(&end.port()).unwrap();
        assert_eq!(sets[0].next().unwrap(), None);
        sets[1].add(end.port()).unwrap();
        assert!(sets[1].next().unwrap().is_some());
        // A set that goes lets its members go.
        let [first, second] = sets;
        drop(second);
        first.add(end.port()).unwrap();
    }

    #[test]
    fn a_closed_port_leaves_its_set_and_is_never_another() {
        let set = PortSet::create().unwrap();
        let end = listener();
        let (fd, port) = (end.fd.try_clone().unwrap(), end.port());
        set.add(port.clone()).unwrap();
        drop(end);
        assert_eq!(set.next().unwrap(), None);
        assert_eq!(set.add(port.clone()).map_err(|error| error.kind()), Err(io::ErrorKind::NotFound));
        assert_ne!(End::listening(fd).port(), port);
    }
}
