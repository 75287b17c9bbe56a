//! Threads and what they share.

use std::{
    cell::Cell,
    sync::{
        Arc, Barrier, Condvar, Mutex, OnceLock, RwLock,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use crate::tell;

thread_local! {
    static OWN: Cell<u32> = const { Cell::new(1) };
}

pub(crate) fn all() {
    let sums: Vec<u64> = (0..8u64)
        .map(|n| thread::spawn(move || (0..10_000).map(|i| i * n).sum()))
        .map(|t| t.join().unwrap())
        .collect();
    tell("sums of eight threads", sums);
    shared();
    channels();
    waiting();
    floating();
    let other = thread::spawn(|| OWN.replace(5)).join().unwrap();
    tell("thread-local values", (other, OWN.get()));
}

fn shared() {
    let (counter, total) = (Arc::new(Mutex::new(0u64)), Arc::new(AtomicU64::new(0)));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..2500 {
                    *counter.lock().unwrap() += 1;
                    total.fetch_add(2, Ordering::Relaxed);
                }
            });
        }
    });
    tell("a mutex and an atomic", (*counter.lock().unwrap(), total.load(Ordering::Relaxed)));
    let lock = RwLock::new(vec![1]);
    thread::scope(|scope| {
        scope.spawn(|| lock.write().unwrap().push(2));
    });
    tell("a read-write lock", lock.read().unwrap());
    static ONCE: OnceLock<u32> = OnceLock::new();
    let values: Vec<u32> = thread::scope(|scope| {
        let threads: Vec<_> = (0..3).map(|_| scope.spawn(|| *ONCE.get_or_init(|| 9))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    tell("once", values);
}

fn channels() {
    let (sender, receiver) = mpsc::channel();
    for producer in 0..4u64 {
        let sender = sender.clone();
        thread::spawn(move || (0..1000).for_each(|n| sender.send(producer * 1000 + n).unwrap()));
    }
    drop(sender);
    tell("four thousand messages", receiver.iter().sum::<u64>());
    let (sender, receiver) = mpsc::sync_channel::<u8>(1);
    tell("nothing within 20 ms", receiver.recv_timeout(Duration::from_millis(20)));
    let thread = thread::spawn(move || (0..5).for_each(|n| sender.send(n).unwrap()));
    tell("through a channel of one place", receiver.iter().collect::<Vec<_>>());
    thread.join().unwrap();
}

fn waiting() {
    let barrier = Barrier::new(3);
    let leaders = AtomicU64::new(0);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| leaders.fetch_add(u64::from(barrier.wait().is_leader()), Ordering::Relaxed));
        }
    });
    tell("leaders of a barrier", leaders.load(Ordering::Relaxed));
    let pair = (Mutex::new(false), Condvar::new());
    thread::scope(|scope| {
        scope.spawn(|| {
            *pair.0.lock().unwrap() = true;
            pair.1.notify_one();
        });
        let ready = pair.1.wait_while(pair.0.lock().unwrap(), |ready| !*ready).unwrap();
        tell("a condition", *ready);
    });
    let (_guard, timeout) =
        pair.1.wait_timeout_while(pair.0.lock().unwrap(), Duration::from_millis(10), |ready| *ready).unwrap();
    tell("a condition that does not come", timeout.timed_out());
    let parked = thread::spawn(thread::park);
    parked.thread().unpark();
    tell("parked", parked.join().is_ok());
}

/// Threads that compute at the same time keep their floating-point registers.
fn floating() {
    let series = |start: f64| (0..300_000).fold(start, |x, n| (x + f64::from(n)).sqrt());
    let alone: Vec<u64> = (1..=3).map(|n| series(f64::from(n)).to_bits()).collect();
    let together: Vec<u64> = thread::scope(|scope| {
        let threads: Vec<_> = (1..=3).map(|n| scope.spawn(move || series(f64::from(n)).to_bits())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    tell("floating point in threads", alone == together);
}
