//! A set of tasks without a heap.

use core::{
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll},
};

use super::flag::Flag;

/// Up to `N` futures of one type that run side by side; a task is polled only when it was woken itself.
///
/// They are added by [`push`](Tasks::push), also while others run, and run while [`next`](Tasks::next) is awaited. The set
/// lives where it is pinned, usually in its function's frame, and needs no heap. With feature `alloc` tasks of different
/// types fit one set as `Pin<Box<dyn Future<Output = T>>>`.
///
/// Dropping the set drops its tasks where they are.
#[doc = concat!("```ignore\n", include_str!("../../examples/serve.rs"), "```")]
pub struct Tasks<F, const N: usize> {
    slots: [Slot<F>; N],
    /// Where the next round starts, so that no task starves.
    start: usize,
}

struct Slot<F> {
    future: Option<F>,
    /// None if there was none left: then the task is polled whenever the set is.
    flag: Option<Flag>,
}

impl<F, const N: usize> Tasks<F, N> {
    /// An empty set.
    #[must_use]
    pub const fn new() -> Tasks<F, N> {
        Tasks { slots: [const { Slot { future: None, flag: None } }; N], start: 0 }
    }

    /// Number of tasks that have not ended.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.iter().filter(|slot| slot.future.is_some()).count()
    }

    /// Whether there is no task.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether there is no room.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.len() == N
    }
}

impl<F, const N: usize> Default for Tasks<F, N> {
    fn default() -> Tasks<F, N> {
        Tasks::new()
    }
}

impl<F: Future, const N: usize> Tasks<F, N> {
    /// Adds a task.
    ///
    /// # Errors
    ///
    /// The future, if there are `N` tasks already.
    pub fn push(mut self: Pin<&mut Self>, future: F) -> Result<(), F> {
        let count = self.slots.len();
        let Some(place) = (0..count).find(|&place| self.slots[place].future.is_none()) else {
            return Err(future);
        };
        let (mut slot, flag) = self.as_mut().slot(place);
        slot.set(Some(future));
        *flag = Flag::claim();
        Ok(())
    }

    /// Runs the tasks until one ends, and removes it; waits for ever while there is none.
    ///
    /// Cancel-safe: dropping it stops no task, and no output is lost.
    pub fn next(mut self: Pin<&mut Self>) -> impl Future<Output = F::Output> + Unpin {
        poll_fn(move |context| self.as_mut().poll_next(context))
    }

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        for step in 0..N {
            let place = (self.start + step) % N;
            let (mut slot, flag) = self.as_mut().slot(place);
            let Some(future) = slot.as_mut().as_pin_mut() else { continue };
            let polled = match flag {
                Some(flag) => {
                    // In this order: who is woken after `lower` wakes the new parent.
                    flag.set_parent(context.waker());
                    if !flag.lower() {
                        continue;
                    }
                    future.poll(&mut Context::from_waker(&flag.waker()))
                }
                None => future.poll(context),
            };
            if let Poll::Ready(output) = polled {
                slot.set(None);
                *flag = None;
                self.as_mut().set_start(place + 1);
                return Poll::Ready(output);
            }
        }
        Poll::Pending
    }

    fn set_start(self: Pin<&mut Self>, start: usize) {
        // SAFETY: moves no future.
        unsafe { self.get_unchecked_mut() }.start = start;
    }

    fn slot(self: Pin<&mut Self>, place: usize) -> (Pin<&mut Option<F>>, &mut Option<Flag>) {
        // SAFETY: futures are pinned as long as the set is: nothing here moves one, `Tasks` is `Unpin` only if `F` is, and it
        // has no `Drop` of its own.
        unsafe {
            let slot = &mut self.get_unchecked_mut().slots[place];
            (Pin::new_unchecked(&mut slot.future), &mut slot.flag)
        }
    }
}

#[cfg(test)]
mod tests {
    use core::{cell::Cell, pin::pin, task::Waker};

    use super::*;

    type Wakers = [Cell<Option<Waker>>; 3];

    /// Ends with `number` once its gate is open; counts its polls.
    async fn task(number: usize, gate: &Cell<bool>, polls: &Cell<u32>, wakers: &Wakers) -> usize {
        poll_fn(|context| {
            polls.set(polls.get() + 1);
            wakers[number].set(Some(context.waker().clone()));
            if gate.get() { Poll::Ready(number) } else { Poll::Pending }
        })
        .await
    }

    #[test]
    fn only_who_was_woken_is_polled() {
        let gates = [const { Cell::new(false) }; 3];
        let polls = [const { Cell::new(0) }; 3];
        let wakers: Wakers = [const { Cell::new(None) }; 3];
        let mut tasks = pin!(Tasks::<_, 2>::new());
        for number in 0..2 {
            let task = task(number, &gates[number], &polls[number], &wakers);
            assert!(tasks.as_mut().push(task).is_ok());
        }
        assert!(tasks.is_full());
        assert!(tasks.as_mut().push(task(2, &gates[2], &polls[2], &wakers)).is_err(), "full");

        let root = Flag::claim().unwrap();
        let waker = root.waker();
        let mut context = Context::from_waker(&waker);
        assert!(root.lower());
        assert_eq!(tasks.as_mut().poll_next(&mut context), Poll::Pending);
        assert_eq!(tasks.as_mut().poll_next(&mut context), Poll::Pending);
        assert_eq!([polls[0].get(), polls[1].get()], [1, 1]);
        gates[1].set(true);
        wakers[1].take().unwrap().wake();
        assert!(root.lower(), "the set is woken with its task");
        assert_eq!(tasks.as_mut().poll_next(&mut context), Poll::Ready(1));
        assert_eq!([polls[0].get(), polls[1].get()], [1, 2]);
        assert_eq!(tasks.len(), 1);

        gates[2].set(true);
        assert!(tasks.as_mut().push(task(2, &gates[2], &polls[2], &wakers)).is_ok());
        assert_eq!(tasks.as_mut().poll_next(&mut context), Poll::Ready(2), "a new task is polled at once");
        gates[0].set(true);
        wakers[0].take().unwrap().wake();
        assert_eq!(tasks.as_mut().poll_next(&mut context), Poll::Ready(0));
        assert!(tasks.is_empty());
        assert_eq!(tasks.as_mut().poll_next(&mut context), Poll::Pending);
    }

    #[test]
    fn every_task_gets_its_turn() {
        let mut tasks = pin!(Tasks::<_, 3>::new());
        for number in 0..3 {
            assert!(tasks.as_mut().push(core::future::ready(number)).is_ok());
        }
        let mut context = Context::from_waker(Waker::noop());
        for number in [0, 1] {
            assert_eq!(tasks.as_mut().poll_next(&mut context), Poll::Ready(number));
            assert!(tasks.as_mut().push(core::future::ready(number + 10)).is_ok());
        }
        assert_eq!(tasks.as_mut().poll_next(&mut context), Poll::Ready(2), "not those that came back first");
    }

    #[test]
    fn dropping_the_set_drops_its_tasks() {
        let alive = std::rc::Rc::new(());
        {
            let mut tasks = pin!(Tasks::<_, 2>::new());
            let held = alive.clone();
            let task = async move {
                core::future::pending::<()>().await;
                drop(held);
            };
            assert!(tasks.as_mut().push(task).is_ok());
            assert_eq!(tasks.as_mut().poll_next(&mut Context::from_waker(Waker::noop())), Poll::Pending);
        }
        assert_eq!(std::rc::Rc::strong_count(&alive), 1);
    }
}
