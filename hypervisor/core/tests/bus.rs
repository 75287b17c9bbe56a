//! Limits of the bus against the same rules said naively, and with all partitions' operations that they count.

mod machine;

use std::collections::VecDeque;

use handover_abi::{
    Account, BusLimit, Error, MessageWord, Name, PartitionId, Port, RegionHandle, TrafficLimit, layout,
};
use handover_core::bus::Bucket;
use handover_core::traffic::Traffic;
use handover_core::{Failure, Handed, Ipa, PAGE, Partition, PartitionIndex, Progress, System, VcpuId};
use machine::{Model, Random};

const SECOND: u64 = 1_000_000_000;

/// The level as a fraction, in the open: operations times the period.
struct Naive {
    operations: u128,
    period: u128,
    level: u128,
}

impl Naive {
    fn pass(&mut self, nanoseconds: u64) {
        for _ in 0..nanoseconds {
            self.level = self.level.saturating_sub(self.operations);
        }
    }

    fn fits(&self) -> bool {
        self.level + self.period <= self.operations * self.period
    }
}

#[test]
fn the_bucket_does_what_the_naive_one_says_nanosecond_by_nanosecond() {
    for seed in 0..if cfg!(miri) { 2 } else { 200 } {
        let mut random = Random::new(seed);
        let (operations, period) = (random.next() % 40, 1 + random.next() % 900);
        let mut now = random.next() % 1000;
        let mut bucket = Bucket::new();
        bucket.set(BusLimit { operations, period }, now).unwrap();
        let mut naive = Naive { operations: operations.into(), period: period.into(), level: 0 };
        let mut admitted = VecDeque::new();
        for _ in 0..300 {
            let passed =
                if random.chance(3) { 0 } else { random.next() % (2 * period / (operations + 1) + 2) };
            now += passed;
            naive.pass(passed);
            assert_eq!(u128::from(bucket.used(now)), naive.level.div_ceil(naive.period));
            match bucket.check(now) {
                Ok(()) => {
                    assert!(naive.fits());
                    bucket.charge(now);
                    naive.level += naive.period;
                    admitted.push_back(now);
                }
                Err(u64::MAX) => assert_eq!(operations, 0),
                Err(wait) => {
                    assert!(!naive.fits() && wait > 0);
                    // Not earlier, and not later.
                    assert!(bucket.check(now + wait - 1).is_err());
                    assert_eq!(bucket.check(now + wait), Ok(()));
                }
            }
        }
        // In no window were there more than at once and what leaks in it.
        let times: Vec<u64> = admitted.into();
        for (first, &start) in times.iter().enumerate() {
            for (last, &end) in times.iter().enumerate().skip(first) {
                let most = (operations * period + (end - start) * operations) / period;
                assert!(((last - first) as u64) < most, "{operations} in {period}: {start} to {end}");
            }
        }
    }
}

#[test]
fn the_bucket_knows_no_overflow_and_no_clock_that_goes_back() {
    let mut bucket = Bucket::new();
    assert_eq!((bucket.check(0), bucket.used(u64::MAX)), (Ok(()), 0));
    bucket.charge(5);
    assert_eq!(bucket, Bucket::new(), "what is not limited is not counted");
    for period in [0, SECOND + 1, u64::MAX] {
        let refused = bucket.set(BusLimit { operations: 1, period }, 0);
        assert_eq!(refused, Err(Error::InvalidArgument.into()));
    }
    for operations in [0, 1, u64::MAX - 1] {
        bucket.set(BusLimit { operations, period: SECOND }, u64::MAX).unwrap();
        for now in [0, u64::MAX, 1, u64::MAX / 2] {
            if bucket.check(now).is_ok() {
                bucket.charge(now);
            }
            assert!(bucket.used(now) <= operations);
        }
    }
    // Another processor's clock was read before ours, and its call came later.
    bucket = Bucket::new();
    bucket.set(BusLimit { operations: 2, period: 100 }, 1000).unwrap();
    bucket.charge(1000);
    bucket.charge(900);
    assert_eq!((bucket.used(900), bucket.check(1000), bucket.check(1050)), (2, Err(50), Ok(())));
}

#[test]
fn a_new_limit_is_good_at_once_and_what_is_used_stays_used() {
    let mut bucket = Bucket::new();
    bucket.set(BusLimit { operations: 4, period: 100 }, 0).unwrap();
    (0..4).for_each(|_| bucket.charge(0));
    assert_eq!(bucket.check(0), Err(25));
    bucket.set(BusLimit { operations: 8, period: 1000 }, 0).unwrap();
    assert_eq!((bucket.used(0), bucket.check(0)), (4, Ok(())));
    bucket.set(BusLimit { operations: 2, period: 10 }, 0).unwrap();
    // Four are in a bucket for two: three have to leak before one more fits.
    assert_eq!((bucket.used(0), bucket.check(0)), (4, Err(15)));
    bucket.set(BusLimit { operations: 0, period: 10 }, 0).unwrap();
    assert_eq!(bucket.check(u64::MAX), Err(u64::MAX));
    bucket.set(BusLimit::NONE, 3).unwrap();
    assert_eq!((bucket.used(3), bucket.check(3)), (0, Ok(())));
}

#[test]
fn no_period_sees_more_traffic_than_its_budget_whatever_the_processors_do() {
    for seed in 0..if cfg!(miri) { 2 } else { 200 } {
        let mut random = Random::new(seed);
        let (events, period) = (1 + random.next() % 5000, 1 + random.next() % 1000);
        let mut traffic = Traffic::new();
        traffic.set(TrafficLimit { event: 0x11, events, period }, 0).unwrap();
        // What each of eight processors has, and has used of it.
        let mut shares = [None; 8];
        let (mut now, mut begun, mut caused) = (0, 0, 0);
        for _ in 0..2000 {
            let at = random.below(8);
            match &mut shares[at] {
                None => match traffic.take(8, 1 << 31, now) {
                    Ok(share) => {
                        if now >= begun + period {
                            // What others use of their shares from here on is this period's.
                            (begun, caused) = (now - (now - begun) % period, 0);
                        }
                        assert!(share > 0 && share <= events);
                        shares[at] = Some((share, 0));
                    }
                    Err(renewal) => assert!(renewal > now && renewal <= now + period),
                },
                Some((share, used)) if random.chance(3) => {
                    traffic.settle(*share, *used);
                    shares[at] = None;
                }
                Some((share, used)) => {
                    let more = random.next() % (*share - *used + 1);
                    *used += more;
                    caused += more;
                    assert!(caused <= events, "{caused} of {events}");
                }
            }
            assert!(traffic.used(now) <= events);
            now += random.next() % 4;
        }
        for (share, used) in shares.into_iter().flatten() {
            traffic.settle(share, used);
        }
        // All shares have come back: a new period has the whole budget.
        let mut all = 0;
        while let Ok(share) = traffic.take(3, 1 << 31, now + period) {
            all += share;
        }
        assert_eq!((all, traffic.used(now + period)), (events, events));
        let next = traffic.take(3, 1, now + period);
        assert!(next.is_err_and(|at| at > now + period && at <= now + 2 * period), "{next:?}");
    }
}

#[test]
fn traffic_beyond_a_share_is_the_next_ones() {
    let mut traffic = Traffic::new();
    assert!(!traffic.is_limited());
    let limit = TrafficLimit { event: 0x11, events: 640, period: 100 };
    traffic.set(limit, 0).unwrap();
    assert_eq!(traffic.take(2, 1 << 31, 0), Ok(320));
    traffic.settle(320, 400);
    assert_eq!((traffic.used(50), traffic.take(1, 1 << 31, 50)), (400, Ok(240)));
    assert_eq!(traffic.take(1, 1 << 31, 99), Err(100));
    // A share that is out when a period begins is part of it.
    assert_eq!(traffic.take(1, 1 << 31, 100), Ok(400));
    traffic.settle(240, 0);
    assert_eq!(traffic.take(1, 100, 150), Ok(100));
    traffic.set(TrafficLimit::NONE, 160).unwrap();
    traffic.settle(400, 1 << 40);
    assert!(!traffic.is_limited());
    for (period, event) in [(0, 1), (SECOND + 1, 1), (1, 0x1_0000)] {
        let limit = TrafficLimit { event, events: 1, period };
        assert_eq!(traffic.set(limit, 0), Err(Error::InvalidArgument.into()));
    }
}

struct World {
    system: System,
    machine: Model,
    client: PartitionIndex,
    server: PartitionIndex,
    port: Port,
    back: Port,
}

const MEMORY: u64 = layout::MEMORY_BASE;
const WINDOW: u64 = layout::WINDOW_BASE;
const MIB: u64 = 1 << 20;

/// A client that may use the bus three times in a thousand nanoseconds, and a server that may as it likes.
fn world() -> World {
    let mut machine = Model::new(40, true);
    let mut system = System::new();
    let mut partition = || {
        let shell = Box::leak(Box::new(Partition::new()));
        let id = system.create(&mut machine, None, Name::new("bus").unwrap(), 2, shell, PAGE);
        let id: PartitionId = id.map_err(|(failure, _)| failure).unwrap();
        for &account in Account::ALL {
            system.set_limit(&machine, id, account as u64, u64::MAX).unwrap();
        }
        let ix = system.find(id).unwrap();
        system.add_memory(&mut machine, ix, Ipa::new(MEMORY), 4 * MIB).unwrap();
        system.start(ix).unwrap();
        ix
    };
    let (client, server) = (partition(), partition());
    let id = u64::from(system.partition(server).unwrap().id().get());
    let port = system.connect(&mut machine, client, id, 1).unwrap();
    let token = system.signal_next(server).unwrap().token;
    let back = system.accept(&mut machine, server, token).unwrap();
    for partition in [client, server] {
        system.vcpu_on(VcpuId { partition, index: 0 });
    }
    system.set_bus(&machine, client, BusLimit { operations: 3, period: 1000 }).unwrap();
    World { system, machine, client, server, port, back }
}

impl World {
    fn region(&mut self, who: PartitionIndex, at: u64) -> u64 {
        u64::from(self.system.region_create(&mut self.machine, who, 4096, at).unwrap().get())
    }

    fn use_up(&mut self) {
        while self.system.broadcast(&self.machine, self.client).is_ok() {}
        assert_eq!(self.account(), (3, 3));
    }

    fn account(&self) -> (u64, u64) {
        self.system.account(&self.machine, self.client, Account::Bus as u64).unwrap()
    }

    /// Refused while the limit is used up, and then it has changed nothing; good when enough has leaked, and then it counts as one.
    fn counts<T>(&mut self, what: &str, mut operation: impl FnMut(&mut World) -> Result<T, Failure>) {
        self.use_up();
        let before = self.machine.digest();
        let used = |w: &World| w.system.partition(w.client).unwrap().accounts().clone();
        let accounts = used(self);
        match operation(self).map(|_| ()) {
            Err(failure) => assert_eq!((failure.error, failure.detail), (Error::Throttled, 334), "{what}"),
            Ok(()) => panic!("{what} is not limited"),
        }
        assert_eq!((self.machine.digest(), used(self)), (before, accounts), "{what} has changed something");
        self.machine.now += 334;
        operation(self).unwrap_or_else(|failure| panic!("{what}: {failure:?}"));
        assert_eq!(self.account().0, 3, "{what}");
        self.machine.now += 1000;
        assert_eq!(self.account().0, 0);
    }

    /// Good though the limit is used up, and it does not count.
    fn is_free<T>(&mut self, what: &str, operation: impl FnOnce(&mut World) -> Result<T, Failure>) {
        self.use_up();
        operation(self).unwrap_or_else(|failure| panic!("{what}: {failure:?}"));
        self.machine.now += 1000;
    }
}

fn word(port: Port, region: u64) -> MessageWord {
    MessageWord::new(port, RegionHandle::from_register(region).filter(|region| region.get() != 0), 8)
}

#[test]
fn what_makes_processors_forget_and_what_hands_over_is_counted_and_nothing_else() {
    let w = &mut world();
    let (client, server, port) = (w.client, w.server, u64::from(w.port.get()));
    let mapped = w.region(client, WINDOW);
    let loose = w.region(client, 0);
    w.is_free("region_create", |w| Ok::<_, Failure>(w.region(client, WINDOW + 2 * MIB)));
    w.counts("region_unmap", |w| w.system.region_unmap(&mut w.machine, client, mapped));
    w.is_free("region_map", |w| w.system.region_map(&mut w.machine, client, mapped, WINDOW));
    w.counts("send", |w| w.system.send(&mut w.machine, client, word(w.port, mapped), &[0; 16]));
    w.counts("send unmapped", |w| w.system.send(&mut w.machine, client, word(w.port, loose), &[0; 16]));
    w.is_free("send nothing", |w| w.system.send(&mut w.machine, client, word(w.port, 0), &[0; 16]));
    for at in [0, WINDOW] {
        w.system.receive(&mut w.machine, server, u64::from(w.back.get()), at, &mut [0; 16]).unwrap();
    }
    let id = u64::from(w.system.partition(server).unwrap().id().get());
    let shared = w.system.connect(&mut w.machine, client, id, 12 << 56 | 16 << 32).unwrap();
    let shared = u64::from(shared.get());
    let at = WINDOW + 6 * MIB;
    w.is_free("shared_map", |w| w.system.shared_map(&mut w.machine, client, shared, at));
    w.counts("shared_unmap", |w| w.system.shared_unmap(&mut w.machine, client, shared));
    w.system.shared_map(&mut w.machine, client, shared, at).unwrap();
    w.counts("disconnect", |w| w.system.disconnect(&mut w.machine, client, shared));
    let back = RegionHandle::from_register(1).map_or(0, |handle| u64::from(handle.get()));
    w.system.send(&mut w.machine, server, word(w.back, back), &[0; 16]).unwrap();
    w.is_free("receive", |w| w.system.receive(&mut w.machine, client, port, WINDOW, &mut [0; 16]));
    w.counts("memory_remove", |w| w.system.memory_remove(&mut w.machine, client, MEMORY, 2 * MIB));
    w.is_free("memory_remove goes on", |w| {
        while w.system.memory_remove(&mut w.machine, client, MEMORY, 2 * MIB)? == Progress::Again {}
        Ok(())
    });
    w.is_free("memory_add", |w| w.system.memory_add(&mut w.machine, client, MEMORY, 2 * MIB));
    let [mapped, loose] = [WINDOW + 6 * MIB, 0].map(|at| w.region(client, at));
    w.is_free("region_destroy unmapped", |w| w.system.region_destroy(&mut w.machine, client, loose));
    w.counts("region_destroy", |w| w.system.region_destroy(&mut w.machine, client, mapped));
    assert_eq!(w.system.broadcast(&w.machine, server), Ok(()));
    // The end of a partition is the control OS's.
    w.use_up();
    w.system.end(&mut w.machine, client, handover_abi::EndReason::Stopped, 0);
    while w.system.reap(&mut w.machine, client) == Progress::Again {}
    assert_eq!(w.system.broadcast(&w.machine, client), Err(Error::WrongState.into()));
}

#[test]
fn direct_calls_count_their_regions() {
    let w = &mut world();
    let (client, server) = (w.client, w.server);
    let (caller, callee) = (VcpuId { partition: client, index: 0 }, VcpuId { partition: server, index: 0 });
    let region = w.region(client, WINDOW);
    w.system.call_wait(&mut w.machine, callee).unwrap();
    w.counts("call", |w| w.system.call(&mut w.machine, caller, word(w.port, region)));
    w.system.reply(&mut w.machine, callee, word(Port::CONTROL, 0)).unwrap();
    w.system.call_wait(&mut w.machine, callee).unwrap();
    w.is_free("call with nothing", |w| w.system.call(&mut w.machine, caller, word(w.port, 0)));
    w.system.reply(&mut w.machine, callee, word(Port::CONTROL, 0)).unwrap();
    // The other way round: the client serves.
    let region = w.region(client, WINDOW);
    w.system.call_wait(&mut w.machine, caller).unwrap();
    w.system.call(&mut w.machine, callee, word(w.back, 0)).unwrap();
    w.counts("reply", |w| w.system.reply(&mut w.machine, caller, word(Port::CONTROL, region)));
    let region = w.region(client, WINDOW);
    w.system.call_wait(&mut w.machine, caller).unwrap();
    w.system.call(&mut w.machine, callee, word(w.back, 0)).unwrap();
    let other = VcpuId { partition: server, index: 1 };
    w.system.vcpu_on(other);
    w.system.call_wait(&mut w.machine, other).unwrap();
    w.counts("forward", |w| w.system.forward(&mut w.machine, caller, word(w.port, region)));
    w.system.reply(&mut w.machine, other, word(Port::CONTROL, 0)).unwrap();
    // What was lent to it is passed on by it, and not by whoever has lent it.
    let lent = w.region(server, WINDOW);
    w.system.call_wait(&mut w.machine, caller).unwrap();
    let handed = w.system.call(&mut w.machine, callee, word(w.back, lent).lent()).unwrap();
    let Handed::To(_, told) = handed else { panic!("nobody takes {handed:?}") };
    let view = u64::from(told.region().unwrap().get());
    w.system.call_wait(&mut w.machine, other).unwrap();
    w.counts("forward of a loan", |w| w.system.forward(&mut w.machine, caller, word(w.port, view)));
}
