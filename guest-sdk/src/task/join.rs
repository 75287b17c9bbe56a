//! Futures of two futures.

use core::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
};

/// Runs both to their ends.
///
/// Whenever one is woken both are polled, until they have ended. Dropping it drops both: it is as cancel-safe as they are.
pub async fn join<A: Future, B: Future>(first: A, second: B) -> (A::Output, B::Output) {
    let mut first = pin!(first);
    let mut second = pin!(second);
    let (mut one, mut other) = (None, None);
    poll_fn(move |context| {
        if one.is_none()
            && let Poll::Ready(output) = first.as_mut().poll(context)
        {
            one = Some(output);
        }
        if other.is_none()
            && let Poll::Ready(output) = second.as_mut().poll(context)
        {
            other = Some(output);
        }
        match (one.take(), other.take()) {
            (Some(one), Some(other)) => Poll::Ready((one, other)),
            unfinished => {
                (one, other) = unfinished;
                Poll::Pending
            }
        }
    })
    .await
}

/// What [`select`] returns: the output of whichever ended first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Either<A, B> {
    /// Of the first.
    First(A),
    /// Of the second.
    Second(B),
}

/// Runs both until one of them ends, and drops the other. If both could end, `first` does.
///
/// What the other has lost by being dropped is for its own documentation to say. One that shall go on afterwards is passed
/// as `&mut future`, pinned if it has to be.
pub async fn select<A: Future, B: Future>(first: A, second: B) -> Either<A::Output, B::Output> {
    let mut first = pin!(first);
    let mut second = pin!(second);
    poll_fn(move |context| {
        if let Poll::Ready(output) = first.as_mut().poll(context) {
            return Poll::Ready(Either::First(output));
        }
        second.as_mut().poll(context).map(Either::Second)
    })
    .await
}

#[cfg(test)]
mod tests {
    use core::{
        future::{pending, ready},
        task::{Context, Waker},
    };

    use super::*;

    fn poll<F: Future>(future: core::pin::Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    /// Ready at the `n`th poll, and polled no more.
    fn at(n: u32) -> impl Future<Output = u32> {
        let mut polls = 0;
        poll_fn(move |_| {
            polls += 1;
            assert!(polls <= n, "polled after its end");
            if polls == n { Poll::Ready(n) } else { Poll::Pending }
        })
    }

    #[test]
    fn join_ends_with_the_later() {
        for (first, second) in [(1, 3), (3, 1), (2, 2)] {
            let mut joined = pin!(join(at(first), at(second)));
            for _ in 1..first.max(second) {
                assert_eq!(poll(joined.as_mut()), Poll::Pending);
            }
            assert_eq!(poll(joined.as_mut()), Poll::Ready((first, second)));
        }
    }

    #[test]
    fn select_ends_with_the_earlier() {
        assert_eq!(poll(pin!(select(ready(1), ready(2)))), Poll::Ready(Either::First(1)));
        assert_eq!(poll(pin!(select(pending::<()>(), ready(2)))), Poll::Ready(Either::Second(2)));
        let mut other = pin!(at(2));
        assert_eq!(poll(pin!(select(ready(1), other.as_mut()))), Poll::Ready(Either::First(1)));
        assert_eq!(poll(pin!(select(pending::<()>(), other.as_mut()))), Poll::Pending);
        assert_eq!(poll(other), Poll::Ready(2), "what was passed by reference goes on");
    }
}
