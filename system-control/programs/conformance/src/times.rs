//! Clocks.

use std::{
    thread,
    time::{Duration, Instant, SystemTime},
};

use crate::tell;

pub(crate) fn all() {
    let start = Instant::now();
    thread::sleep(Duration::from_millis(30));
    tell("slept long enough", start.elapsed() >= Duration::from_millis(30));
    let times: Vec<Instant> = (0..100).map(|_| Instant::now()).collect();
    tell("time goes on", times.is_sorted());
    tell("it is after 1970", SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).is_ok());
    thread::yield_now();
    let mut order: Vec<u64> = thread::scope(|scope| {
        let sleepers: Vec<_> = [30u64, 10, 20]
            .map(|time| {
                scope.spawn(move || {
                    thread::sleep(Duration::from_millis(time));
                    (Instant::now(), time)
                })
            })
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect();
        let mut woken = sleepers;
        woken.sort();
        woken.into_iter().map(|(_, time)| time).collect()
    });
    order.dedup();
    tell("sleepers wake in order", order);
}
