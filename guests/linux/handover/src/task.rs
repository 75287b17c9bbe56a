//! Futures of what has no answer yet, for any executor, and [`block_on`], which is one.
//!
//! ```no_run
//! use handover_linux::{Channel, Handover, block_on};
//!
//! let handover = Handover::open()?;
//! let answer = block_on(async {
//!     let channel = Channel::connect_async(&handover, &handover.service("echo")?).await?;
//!     channel.send_async(b"hello").await?;
//!     channel.receive_async().await
//! })?;
//! println!("{:?}", answer.short);
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! One thread of the process, which the first future that has to wait starts, waits for all descriptors and wakes whose is ready.

use std::{
    collections::HashMap,
    future::{Future, poll_fn},
    io,
    os::fd::{AsFd, OwnedFd},
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
};

use rustix::{
    event::epoll::{self, EventData, EventFlags},
    io::Errno,
};

/// Descriptors taken from the kernel at once.
const AT_ONCE: usize = 64;

/// Who waits for descriptors.
struct Reactor {
    epoll: OwnedFd,
    wakers: Mutex<HashMap<u64, Waker>>,
}

impl Reactor {
    /// The one of this process; its thread is started when it is first asked for.
    fn get() -> io::Result<&'static Reactor> {
        static REACTOR: OnceLock<Reactor> = OnceLock::new();
        static STARTING: Mutex<()> = Mutex::new(());
        let _one = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reactor) = REACTOR.get() {
            return Ok(reactor);
        }
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let waits = epoll.try_clone()?;
        let run = move || REACTOR.wait().run(&waits);
        thread::Builder::new().name("handover-events".to_owned()).spawn(run)?;
        Ok(REACTOR.get_or_init(|| Reactor { epoll, wakers: Mutex::new(HashMap::new()) }))
    }

    fn wakers(&self) -> MutexGuard<'_, HashMap<u64, Waker>> {
        self.wakers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, epoll: &OwnedFd) {
        loop {
            let mut ready =
                [epoll::Event { flags: EventFlags::empty(), data: EventData::new_u64(0) }; AT_ONCE];
            // Nothing but a signal can go wrong with a descriptor and memory of its own.
            let count = epoll::wait(epoll, &mut ready[..], None).unwrap_or(0);
            for event in &ready[..count] {
                let waker = self.wakers().remove(&{ event.data.u64() });
                if let Some(waker) = waker {
                    waker.wake();
                }
            }
        }
    }
}

/// Waits for a descriptor. It has one of its own for the same file, since epoll takes each only once.
#[derive(Debug)]
pub(crate) struct Waiter {
    fd: OwnedFd,
    number: u64,
    what: EventFlags,
}

impl std::fmt::Debug for Reactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Reactor {{ waiting: {} }}", self.wakers().len())
    }
}

impl Waiter {
    pub(crate) fn new(fd: impl AsFd, what: EventFlags) -> io::Result<Waiter> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let fd = fd.as_fd().try_clone_to_owned()?;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        // Nobody is told before it is armed.
        epoll::add(&Reactor::get()?.epoll, &fd, EventData::new_u64(number), EventFlags::ONESHOT)?;
        Ok(Waiter { fd, number, what })
    }

    /// Has the waker woken when the descriptor is ready, which it may be already.
    pub(crate) fn wait(&self, waker: &Waker) -> io::Result<()> {
        let reactor = Reactor::get()?;
        reactor.wakers().insert(self.number, waker.clone());
        let what = self.what | EventFlags::ONESHOT;
        Ok(epoll::modify(&reactor.epoll, &self.fd, EventData::new_u64(self.number), what)?)
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        if let Ok(reactor) = Reactor::get() {
            // The file stays open elsewhere, and would stay in the set.
            let _removed: Result<(), Errno> = epoll::delete(&reactor.epoll, &self.fd);
            reactor.wakers().remove(&self.number);
        }
    }
}

/// Looks, and unless there is something, has the waker woken when it is worth looking again.
pub(crate) fn poll_until<T>(
    waiter: &mut Option<Waiter>,
    fd: impl AsFd,
    what: EventFlags,
    context: &Context<'_>,
    attempt: impl FnOnce() -> io::Result<Option<T>>,
) -> Poll<io::Result<T>> {
    match attempt() {
        Ok(Some(value)) => return Poll::Ready(Ok(value)),
        Ok(None) => {}
        Err(error) => return Poll::Ready(Err(error)),
    }
    let waits = match waiter {
        Some(waits) => Ok(waits),
        None => Waiter::new(fd, what).map(|waits| waiter.insert(waits)),
    };
    // A descriptor that has become ready since the attempt wakes at once.
    match waits.and_then(|waits| waits.wait(context.waker())) {
        Ok(()) => Poll::Pending,
        Err(error) => Poll::Ready(Err(error)),
    }
}

/// Waits until `attempt` has something, looking again each time the descriptor is ready for `what`.
pub(crate) async fn until<T>(
    fd: impl AsFd,
    what: EventFlags,
    mut attempt: impl FnMut() -> io::Result<Option<T>>,
) -> io::Result<T> {
    let mut waiter = None;
    poll_fn(|context| poll_until(&mut waiter, &fd, what, context, &mut attempt)).await
}

/// Wakes a thread.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Unpark>) {
        self.0.unpark();
    }
}

/// Runs a future to its end on this thread.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(value) => return value,
            // Whoever wakes it before this makes it return at once.
            Poll::Pending => thread::park(),
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::{
        event::{EventfdFlags, eventfd},
        io::{read, write},
    };

    use super::*;

    fn counter() -> OwnedFd {
        eventfd(0, EventfdFlags::NONBLOCK).unwrap()
    }

    fn add(counter: &OwnedFd, number: u64) {
        assert_eq!(write(counter, &number.to_ne_bytes()), Ok(8));
    }

    async fn take(counter: &OwnedFd) -> u64 {
        let mut number = [0; 8];
        let attempt = || match read(counter, &mut number) {
            Ok(_) => Ok(Some(u64::from_ne_bytes(number))),
            Err(Errno::AGAIN) => Ok(None),
            Err(error) => Err(error.into()),
        };
        until(counter, EventFlags::IN, attempt).await.unwrap()
    }

    #[test]
    fn a_future_goes_on_when_its_descriptor_is_ready() {
        let (there, back) = (counter(), counter());
        thread::scope(|scope| {
            scope.spawn(|| {
                for number in 1..1000 {
                    assert_eq!(block_on(take(&there)), number);
                    add(&back, number);
                }
            });
            for number in 1..1000 {
                add(&there, number);
                assert_eq!(block_on(take(&back)), number);
            }
        });
    }

    #[test]
    fn two_wait_for_one_descriptor_in_one_task() {
        let shared = counter();
        let mut both = (Box::pin(take(&shared)), Box::pin(take(&shared)));
        thread::scope(|scope| {
            scope.spawn(|| add(&shared, 5));
            let first = poll_fn(|context| match both.0.as_mut().poll(context) {
                Poll::Ready(number) => Poll::Ready(number),
                Poll::Pending => both.1.as_mut().poll(context),
            });
            assert_eq!(block_on(first), 5);
        });
    }

    #[test]
    fn a_future_that_is_dropped_takes_nothing() {
        let counter = counter();
        let mut dropped = Box::pin(take(&counter));
        assert!(dropped.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        drop(dropped);
        add(&counter, 7);
        assert_eq!(block_on(take(&counter)), 7);
    }
}
