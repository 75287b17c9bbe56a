//! Asynchronous programs: an executor and what puts futures together, without a heap.
//!
//! [`block_on`] runs one future; [`join()`] and [`select`] put two into one, [`Tasks`] many. Nothing here allocates; the
//! futures live where they are pinned.
//!
//! A future that waits for a channel has a waker for its port. When nothing is ready, the executor masks interrupts, takes
//! pending interrupts and events, wakes whom they concern, and stops the processor by WFI if that was nobody: what happens
//! in between leaves its interrupt pending, and WFI does not wait. So no wake-up is lost.
//!
//! Wakers may be used from interrupt handlers. The executor runs on the processor that the event interrupt is routed to, the
//! one that [`interrupts::init`](crate::interrupts) ran on, and is not woken by wakers used on others.
//!
//! Blocking and asynchronous forms can be mixed: a blocking form in a future stops all other futures meanwhile, and no
//! event is lost by it. Events that come while the executor runs and that no future waits for are kept for
//! [`events::next`](crate::events), those of 64 ports at most.
#![doc = concat!("```ignore\n", include_str!("../examples/serve.rs"), "```")]

mod flag;
mod join;
mod set;

use core::{
    future::{Future, poll_fn},
    pin::pin,
    task::{Context, Poll, Waker},
};

pub use join::{Either, join, select};
pub use set::Tasks;

use flag::Flag;

/// Polls `future` until it ends. In between, `idle` returns when the future may have been woken, for which the function it
/// gets tells whether it has been.
fn run<F: Future>(future: F, mut idle: impl FnMut(&dyn Fn() -> bool)) -> F::Output {
    let mut future = pin!(future);
    // Without a flag it counts as woken always, and is polled over and over.
    let flag = Flag::claim();
    let waker = flag.as_ref().map_or(Waker::noop().clone(), Flag::waker);
    let mut context = Context::from_waker(&waker);
    loop {
        if flag.as_ref().is_none_or(Flag::lower)
            && let Poll::Ready(output) = future.as_mut().poll(&mut context)
        {
            return output;
        }
        idle(&|| flag.as_ref().is_none_or(Flag::is_raised));
    }
}

/// Lets all other futures that are ready have a turn first.
///
/// Cancel-safe: it holds nothing.
pub fn yield_now() -> impl Future<Output = ()> + Unpin {
    let mut waited = false;
    poll_fn(move |context| {
        if waited {
            return Poll::Ready(());
        }
        waited = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
}

/// Runs a future to its end. Meanwhile the processor stops by WFI when nothing is ready.
///
/// May be called in a future that another `block_on` runs, which makes the outer one wait.
#[cfg(target_os = "none")]
pub fn block_on<F: Future>(future: F) -> F::Output {
    use crate::{events, interrupts, timer};

    events::note_interrupts();
    run(future, |woken| {
        // Until WFI: a handler that wakes in between would otherwise have run before the wait starts.
        let _masked = interrupts::Masked::new();
        loop {
            while interrupts::take() {}
            events::dispatch();
            timer::dispatch();
            if woken() {
                return;
            }
            interrupts::wait();
        }
    })
}

#[cfg(test)]
mod tests {
    use core::cell::Cell;

    use handover_abi::{Causes, Event, Port};

    use super::*;
    use crate::waiters::{Waiter, deliver};

    /// A channel that has messages: numbers. An event tells when one reaches it while it is empty.
    struct FakeChannel {
        port: Port,
        queue: Cell<Vec<u32>>,
        latched: Cell<bool>,
    }

    impl FakeChannel {
        fn new(port: u32) -> FakeChannel {
            FakeChannel { port: Port::new(port), queue: Cell::default(), latched: Cell::new(false) }
        }

        fn send(&self, message: u32) {
            let mut queue = self.queue.take();
            self.latched.set(self.latched.get() | queue.is_empty());
            queue.push(message);
            self.queue.set(queue);
        }

        fn try_receive(&self) -> Option<u32> {
            let mut queue = self.queue.take();
            let message = (!queue.is_empty()).then(|| queue.remove(0));
            self.queue.set(queue);
            message
        }

        fn receive(&self) -> impl Future<Output = u32> + Unpin {
            let mut waiter = Waiter::new();
            poll_fn(move |context| {
                waiter.wait(self.port, Causes::MESSAGE, context.waker()).unwrap();
                self.try_receive().map_or(Poll::Pending, Poll::Ready)
            })
        }

        fn dispatch(&self) {
            if self.latched.take() {
                deliver(Event { port: self.port, causes: Causes::MESSAGE });
            }
        }
    }

    const PORT: u32 = 0x20_0000;

    #[test]
    fn nothing_is_polled_without_an_event() {
        let channel = FakeChannel::new(PORT);
        let (mut idles, polls) = (0, Cell::new(0));
        let output = run(
            async {
                let mut receive = channel.receive();
                let mut sum = 0;
                while sum < 6 {
                    sum += poll_fn(|context| {
                        polls.set(polls.get() + 1);
                        core::pin::Pin::new(&mut receive).poll(context)
                    })
                    .await;
                }
                sum
            },
            |woken| {
                idles += 1;
                assert!(idles < 100, "woken by nobody");
                assert!(!woken(), "idle though something is ready");
                if idles % 2 == 0 {
                    channel.send(1);
                    channel.send(2);
                }
                channel.dispatch();
            },
        );
        assert_eq!(output, 6);
        assert_eq!(polls.get(), 6, "two waits, and four messages");
    }

    #[test]
    fn a_future_that_is_dropped_leaves_its_message() {
        let channel = FakeChannel::new(PORT + 1);
        let output = run(
            async {
                let first = select(channel.receive(), core::future::ready(0)).await;
                assert_eq!(first, Either::Second(0));
                channel.send(7);
                channel.receive().await
            },
            |_| channel.dispatch(),
        );
        assert_eq!(output, 7);
    }

    #[test]
    fn tasks_and_joins_share_the_executor() {
        let channels: [FakeChannel; 4] =
            core::array::from_fn(|index| FakeChannel::new(PORT + 32 + index as u32));
        let mut next = 0;
        let total = run(
            async {
                let mut tasks = pin!(Tasks::<_, 3>::new());
                for channel in &channels[..3] {
                    assert!(
                        tasks
                            .as_mut()
                            .push(async { channel.receive().await + channel.receive().await })
                            .is_ok()
                    );
                }
                let sum = async {
                    let mut sum = 0;
                    while !tasks.is_empty() {
                        sum += tasks.as_mut().next().await;
                    }
                    sum
                };
                let (sum, last) = join(sum, channels[3].receive()).await;
                sum + last
            },
            |_| {
                channels[next % 4].send(1);
                channels[next % 4].dispatch();
                next += 1;
                assert!(next < 100);
            },
        );
        assert_eq!(total, 7);
    }

    #[test]
    fn who_yields_lets_the_others_go_first() {
        let order = Cell::new(Vec::new());
        let note = |what| {
            let mut notes = order.take();
            notes.push(what);
            order.set(notes);
        };
        let eager = async {
            yield_now().await;
            note("second");
        };
        run(join(eager, async { note("first") }), |woken| assert!(woken(), "nobody would wake it"));
        assert_eq!(order.take(), ["first", "second"]);
    }

    #[test]
    fn executors_nest() {
        let channels = [FakeChannel::new(PORT + 64), FakeChannel::new(PORT + 65)];
        let idle = |_: &dyn Fn() -> bool| {
            channels.iter().for_each(|channel| {
                channel.send(1);
                channel.dispatch();
            });
        };
        let outer = async {
            let inner = async { run(channels[1].receive(), idle) };
            join(channels[0].receive(), inner).await
        };
        assert_eq!(run(outer, idle), (1, 1));
    }
}
