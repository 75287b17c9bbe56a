//! The scheduler in simulated time, tick by tick, against budgets kept a second time and naively: who runs is who should, nobody gets more than its
//! budget, everybody gets what was admitted.

#[path = "schedule/lent.rs"]
mod lent;
mod machine;

use std::collections::BTreeMap;

use handover_abi::Error;
use handover_core::schedule::{
    ADMITTED, Claim, OWN, Pick, Poke, Record, Records, Reservation, Schedule, State, WHOLE,
};
use machine::Random;

/// Ticks a second; a turn has 5 ms of them.
const FREQUENCY: u64 = if cfg!(miri) { 100_000 } else { 1_000_000 };
const TURN: u64 = FREQUENCY / 200;
/// Ticks of one step of the control OS's own work.
const STEP: u64 = 3;

struct Table(Vec<Record<usize>>);

impl Records for Table {
    type Key = usize;

    fn get(&self, key: usize) -> &Record<usize> {
        &self.0[key]
    }

    fn get_mut(&mut self, key: usize) -> &mut Record<usize> {
        &mut self.0[key]
    }
}

/// What a logical processor does with its time.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Habit {
    Spin,
    /// Runs so many ticks, then waits so many.
    Sleep(u64, u64),
    /// The same, but switches itself off and on.
    Toggle(u64, u64),
}

#[derive(Clone)]
struct Guest {
    habit: Habit,
    reservation: Reservation,
    /// Ticks of the present run that are left, and when it comes back.
    left: u64,
    back: u64,
    /// The budget, naively.
    remaining: i64,
    deadline: u64,
    used: u64,
    /// Who ran on each processor it ran on, at each tick: ends of runs.
    runs: Vec<(u64, u64)>,
    max_wait: u64,
    ready_at: u64,
}

struct Simulation {
    schedule: Schedule<usize>,
    table: Table,
    guests: Vec<Guest>,
    processors: usize,
    now: u64,
    running: Vec<Option<usize>>,
    /// Until when each processor does the control OS's own work.
    working: Vec<u64>,
    work: bool,
    work_done: u64,
    idle: Vec<u64>,
    interrupts: Vec<u64>,
    /// By who pays: who has borrowed its processor and time, one from the other.
    lent: BTreeMap<usize, Vec<usize>>,
}

impl Simulation {
    fn new(processors: usize) -> Simulation {
        let mut schedule = Schedule::new();
        schedule.start(processors, FREQUENCY);
        Simulation {
            schedule,
            table: Table(Vec::new()),
            guests: Vec::new(),
            processors,
            now: 1,
            running: vec![None; processors],
            working: vec![0; processors],
            work: false,
            work_done: 0,
            idle: vec![0; processors],
            interrupts: vec![0; processors],
            lent: BTreeMap::new(),
        }
    }

    fn add(&mut self, habit: Habit, claim: Claim, allowed: u16) -> Result<usize, Error> {
        let key = self.table.0.len();
        self.table.0.push(Record::new());
        self.schedule.place(&mut self.table, key);
        let reservation = Reservation { claim, allowed };
        let result = self.schedule.set(&mut self.table, key, reservation, self.now);
        if let Err(failure) = result {
            self.schedule.remove(&mut self.table, key);
            self.table.0.pop();
            return Err(failure.error);
        }
        let left = match habit {
            Habit::Spin => u64::MAX,
            Habit::Sleep(run, _) | Habit::Toggle(run, _) => run,
        };
        let budget = if let Claim::Reserved { budget, .. } = claim { budget as i64 } else { 0 };
        let period = if let Claim::Reserved { period, .. } = claim { period } else { 0 };
        self.guests.push(Guest {
            habit,
            reservation,
            left,
            back: self.now,
            remaining: budget,
            deadline: self.now + period,
            used: 0,
            runs: Vec::new(),
            max_wait: 0,
            ready_at: self.now,
        });
        self.look(result.unwrap());
        Ok(key)
    }

    fn look(&mut self, processors: u16) {
        for processor in 0..self.processors {
            if processors & 1 << processor != 0 {
                self.attend(processor);
            }
        }
    }

    fn poke(&mut self, poke: Poke) {
        if let Poke::Switch(processor) = poke {
            self.attend(processor);
        }
    }

    /// As at an interrupt.
    fn attend(&mut self, processor: usize) {
        if self.working[processor] > self.now {
            return;
        }
        if self.schedule.running(processor).is_none() {
            self.choose(processor);
        } else if self.schedule.must_switch(&mut self.table, processor, self.now) {
            let key = self.running[processor].take().unwrap();
            self.guests[key].ready_at = self.now;
            let poke = self.schedule.preempt(&mut self.table, processor, self.now);
            self.poke(poke);
            self.choose(processor);
        }
    }

    fn choose(&mut self, processor: usize) {
        match self.schedule.pick(&mut self.table, processor, self.now) {
            Pick::Run(runner) => {
                let key = self.payer(runner);
                assert_eq!(self.runner(key), runner);
                for key in [key, runner] {
                    let allowed = self.guests[key].reservation.allowed;
                    assert!(allowed & 1 << processor != 0, "{key} is not allowed on {processor}");
                }
                let guest = &mut self.guests[key];
                guest.max_wait = guest.max_wait.max(self.now - guest.ready_at);
                guest.runs.push((self.now, self.now));
                self.running[processor] = Some(key);
            }
            Pick::Work => self.working[processor] = self.now + STEP,
            Pick::Idle => {}
        }
    }

    /// The naive budget's clock strikes, and who slept comes back.
    fn wake_up(&mut self) {
        for key in 0..self.guests.len() {
            let away = matches!(self.table.0[key].state(), State::Off | State::Blocked);
            if self.guests[key].back != self.now || !away {
                continue;
            }
            if self.payer(key) != key {
                continue;
            }
            let runner = self.runner(key);
            if runner != key {
                assert_eq!(self.schedule.make_ready(&mut self.table, key, self.now), Poke::Nobody);
            }
            Simulation::renew(&mut self.guests[key], self.now);
            let poke = self.schedule.make_ready(&mut self.table, runner, self.now);
            self.poke(poke);
        }
    }

    fn replenish(&mut self) {
        for (key, guest) in self.guests.iter_mut().enumerate() {
            let wants = matches!(self.table.0[key].state(), State::Ready | State::Running);
            if let Claim::Reserved { budget, period, .. } = guest.reservation.claim
                && wants
                && guest.remaining <= 0
                && guest.deadline <= self.now
            {
                guest.remaining += budget as i64;
                guest.deadline += period;
            }
        }
    }

    fn tick(&mut self) {
        self.replenish();
        self.wake_up();
        for processor in 0..self.processors {
            if self.working[processor] == self.now && self.work {
                self.schedule.worked(STEP, self.now);
                self.work_done += STEP;
                self.choose(processor);
            }
            if self.schedule.due(&self.table, processor) <= self.now {
                self.interrupts[processor] += 1;
                assert_eq!(self.schedule.expire(&mut self.table, processor, self.now), None);
                self.attend(processor);
            }
        }
        if !cfg!(miri) || self.now.is_multiple_of(8) {
            self.check();
        }
        // Who runs, runs a tick.
        self.now += 1;
        for processor in 0..self.processors {
            let Some(key) = self.running[processor] else {
                self.idle[processor] += u64::from(self.working[processor] < self.now);
                continue;
            };
            let guest = &mut self.guests[key];
            guest.used += 1;
            guest.remaining -= 1;
            guest.left -= 1;
            guest.runs.last_mut().unwrap().1 = self.now;
            if guest.left > 0 {
                continue;
            }
            self.running[processor] = None;
            match guest.habit {
                Habit::Spin => unreachable!(),
                Habit::Sleep(run, pause) => {
                    (guest.left, guest.back) = (run, self.now + pause);
                    self.schedule.block(&mut self.table, processor, self.now, u64::MAX);
                }
                Habit::Toggle(run, pause) => {
                    (guest.left, guest.back) = (run, self.now + pause);
                    self.schedule.switch_off(&mut self.table, processor, self.now);
                }
            }
            self.choose(processor);
        }
    }

    /// Everybody who runs is who should, by the naive budgets.
    fn check(&self) {
        let urgent = |key: usize| match self.guests[key].reservation.claim {
            Claim::Reserved { .. } => self.guests[key].remaining > 0,
            Claim::Alone => true,
            Claim::BestEffort => false,
        };
        for processor in 0..self.processors {
            let ready = |&key: &usize| {
                self.table.0[key].state() == State::Ready && self.table.0[key].home() == processor
            };
            let waiting: Vec<usize> = (0..self.guests.len()).filter(ready).collect();
            let first =
                waiting.iter().filter(|&&key| urgent(key)).map(|&key| self.guests[key].deadline).min();
            if self.working[processor] > self.now {
                continue;
            }
            match self.running[processor] {
                Some(key) => {
                    let guest = &self.guests[key];
                    if let Claim::Reserved { work_conserving: false, .. } = guest.reservation.claim {
                        assert!(guest.remaining > 0, "{key} runs on without budget at {}", self.now);
                    }
                    if let Some(first) = first {
                        assert!(urgent(key) && guest.deadline <= first, "{key} runs at {}", self.now);
                    }
                }
                None => {
                    assert_eq!(first, None, "processor {processor} idles at {}", self.now);
                    for key in 0..self.guests.len() {
                        let guest = &self.guests[key];
                        let all = self.lent.get(&key).into_iter().flatten().chain([&key]);
                        let may = all.fold(ANY, |all, &key| all & self.guests[key].reservation.allowed)
                            & 1 << processor
                            != 0;
                        let free = !self.guests.iter().enumerate().any(|(other, guest)| {
                            guest.reservation.claim == Claim::Alone && self.table.0[other].home() == processor
                        });
                        assert!(
                            !(free && may && guest.reservation.claim == Claim::BestEffort)
                                || self.table.0[key].state() != State::Ready,
                            "{processor} idles and {key} waits"
                        );
                    }
                }
            }
        }
        for (key, guest) in self.guests.iter().enumerate() {
            if let Claim::Reserved { .. } = guest.reservation.claim
                && guest.remaining > 0
                && self.table.0[key].state() == State::Ready
            {
                assert!(self.now <= guest.deadline + STEP, "{key} has missed {}", guest.deadline);
            }
        }
    }

    fn run(&mut self, ticks: u64) {
        for _ in 0..ticks {
            self.tick();
        }
    }
}

/// The most ticks that fall into any window of so many.
fn densest(runs: &[(u64, u64)], window: u64) -> u64 {
    let within = |start: u64| -> u64 {
        runs.iter().map(|&(from, to)| to.min(start + window).saturating_sub(from.max(start))).sum()
    };
    runs.iter().map(|&(from, _)| within(from)).max().unwrap_or(0)
}

fn reserved(budget: u64, period: u64) -> Claim {
    Claim::Reserved { budget, period, work_conserving: false }
}

const ANY: u16 = u16::MAX;

fn reserved_of(simulation: &Simulation, key: usize) -> Option<(u64, u64)> {
    match simulation.guests[key].reservation.claim {
        Claim::Reserved { budget, period, .. } => Some((budget, period)),
        _ => None,
    }
}

/// Nobody with a budget has had more than it anywhere, and those who always want to run have had all of it.
fn judge(simulation: &Simulation, ticks: u64) {
    for (key, guest) in simulation.guests.iter().enumerate() {
        let Some((budget, period)) = reserved_of(simulation, key) else { continue };
        let conserving = matches!(guest.reservation.claim, Claim::Reserved { work_conserving: true, .. });
        if !conserving {
            assert!(densest(&guest.runs, period) <= 2 * budget, "{key}");
            for periods in [3, 10] {
                let most = (periods + 2) * budget;
                assert!(densest(&guest.runs, periods * period) <= most, "{key}");
            }
        }
        if guest.habit == Habit::Spin {
            let least = (ticks / period).saturating_sub(1) * budget;
            assert!(guest.used >= least, "{key}: {} of {least}", guest.used);
            assert!(conserving || guest.used <= (ticks / period + 1) * budget, "{key}");
        }
    }
}

/// So many times less is simulated under Miri, whose ticks take a thousand times longer.
const FEWER: u64 = if cfg!(miri) { 50 } else { 1 };

fn any_habit(random: &mut Random, budget: u64) -> Habit {
    let run = 1 + random.next() % (2 * budget);
    let pause = 1 + random.next() % 3000;
    match random.below(3) {
        0 => Habit::Spin,
        1 => Habit::Sleep(run, pause),
        _ => Habit::Toggle(run, pause),
    }
}

#[test]
fn every_admitted_deadline_is_met_and_nobody_gets_more() {
    for seed in 0..24_u64.div_ceil(FEWER) {
        let mut random = Random::new(seed);
        let processors = 1 + random.below(4);
        let mut simulation = Simulation::new(processors);
        let mut promised = 0;
        let (mut refused, mut admitted) = (0, 0);
        while refused < 4 {
            let period = 500 + random.next() % 4000;
            let budget = 1 + random.next() % (period / 3);
            let habit = any_habit(&mut random, budget);
            let claim = Claim::Reserved { budget, period, work_conserving: random.chance(4) };
            let allowed = if random.chance(3) { 1 << random.below(processors) } else { ANY };
            match simulation.add(habit, claim, allowed) {
                Ok(key) => {
                    admitted += 1;
                    promised += simulation.guests[key].reservation.bandwidth();
                }
                Err(error) => {
                    assert_eq!(error, Error::NoCapacity);
                    refused += 1;
                }
            }
            if random.chance(3) {
                let habit = any_habit(&mut random, 1000);
                simulation.add(habit, Claim::BestEffort, ANY).unwrap();
            }
        }
        assert!(admitted > 0 && promised <= ADMITTED * processors as u32);
        simulation.work = seed % 2 == 0;
        if simulation.work {
            let poke = simulation.schedule.set_pending(true, simulation.now);
            simulation.poke(poke);
        }
        let ticks = 60_000 / FEWER.min(20);
        simulation.run(ticks);
        judge(&simulation, ticks);
        if simulation.work {
            let least = ticks * u64::from(OWN) / u64::from(WHOLE) * 9 / 10;
            assert!(simulation.work_done >= least, "{} of {least}", simulation.work_done);
        }
    }
}

#[test]
fn a_processor_owned_alone_serves_nobody_else_and_has_no_timer() {
    let mut simulation = Simulation::new(3);
    for _ in 0..6 {
        simulation.add(Habit::Sleep(700, 300), Claim::BestEffort, ANY).unwrap();
        simulation.add(Habit::Spin, Claim::BestEffort, ANY).unwrap();
    }
    simulation.add(Habit::Spin, reserved(400, 1000), ANY).unwrap();
    simulation.run(20_000 / FEWER);
    // Processor 0 is for everybody, so one of the others becomes its own.
    let owner = simulation.add(Habit::Sleep(500, 100), Claim::Alone, ANY).unwrap();
    let home = simulation.table.0[owner].home();
    assert_ne!(home, 0);
    assert_eq!(simulation.add(Habit::Spin, Claim::Alone, 1), Err(Error::NoCapacity));
    assert_eq!(simulation.add(Habit::Spin, reserved(100, 1000), 1 << home), Err(Error::NoCapacity));
    let interrupts = simulation.interrupts[home];
    let poke = simulation.schedule.set_pending(true, simulation.now);
    assert_eq!(poke, Poke::Switch(0));
    simulation.poke(poke);
    simulation.work = true;
    for _ in 0..30_000 / FEWER {
        simulation.tick();
        assert!(simulation.running[home].is_none_or(|running| running == owner));
        assert_eq!(simulation.schedule.due(&simulation.table, home), u64::MAX);
        assert!(!simulation.schedule.may_work(home));
    }
    assert_eq!(simulation.interrupts[home], interrupts);
    assert!(simulation.guests[owner].used >= 30_000 / FEWER / 600 * 500);
    assert_eq!(simulation.guests[owner].max_wait, 0);
    // Given up, it is everybody's again.
    let (schedule, table) = (&mut simulation.schedule, &mut simulation.table);
    let pokes = schedule.set(table, owner, Reservation::NONE, simulation.now).unwrap();
    simulation.guests[owner].reservation = Reservation::NONE;
    simulation.look(pokes);
    let idle = simulation.idle[home];
    simulation.run(30_000 / FEWER);
    assert_eq!(simulation.idle[home], idle);
}

#[test]
fn who_is_bound_keeps_its_processors() {
    let mut simulation = Simulation::new(3);
    simulation.add(Habit::Spin, Claim::BestEffort, 0b10).unwrap();
    simulation.add(Habit::Spin, Claim::BestEffort, 0b10).unwrap();
    assert_eq!(simulation.add(Habit::Spin, Claim::Alone, 0b11), Err(Error::NoCapacity));
    let ticks = 20_000 / FEWER;
    simulation.run(ticks);
    // Nobody may run on processors 0 and 2, though two share processor 1.
    let most = ticks * 19 / 20;
    assert!(simulation.idle[0] > most && simulation.idle[2] > most);
    assert!(simulation.guests.iter().all(|guest| guest.used.abs_diff(ticks / 2) <= TURN));
    let owner = simulation.add(Habit::Spin, Claim::Alone, ANY).unwrap();
    assert_eq!(simulation.table.0[owner].home(), 2);
}

#[test]
fn those_without_budget_share_alike_and_leave_nothing_unused() {
    for (processors, guests) in [(1, 5), (2, 2), (2, 8), (4, 32)] {
        let mut simulation = Simulation::new(processors);
        for _ in 0..guests {
            simulation.add(Habit::Spin, Claim::BestEffort, ANY).unwrap();
        }
        let ticks = 40 * TURN / FEWER.min(20);
        simulation.run(ticks);
        assert_eq!(simulation.idle.iter().sum::<u64>(), 0);
        let share = ticks * processors as u64 / guests;
        for guest in &simulation.guests {
            assert!(guest.used.abs_diff(share) <= 2 * TURN, "{} of {share}", guest.used);
        }
    }
}

#[test]
fn a_budget_is_not_refilled_by_sleeping_or_switching_off() {
    // A hundred patterns of running and waiting, beside the like of them: none gets beyond its bandwidth.
    let few = |step| if FEWER > 1 { step } else { 1 };
    for pause in [1, 7, 50, 199, 999].into_iter().step_by(few(5)) {
        for run in [1, 33, 199, 200, 201].into_iter().step_by(few(5)) {
            let mut simulation = Simulation::new(1);
            simulation.add(Habit::Sleep(run, pause), reserved(200, 1000), ANY).unwrap();
            simulation.add(Habit::Toggle(run, pause), reserved(200, 1000), ANY).unwrap();
            simulation.add(Habit::Spin, reserved(200, 1000), ANY).unwrap();
            let ticks = 100_000 / FEWER;
            simulation.run(ticks);
            for guest in &simulation.guests {
                assert!(guest.used <= (ticks / 1000 + 1) * 200, "{run} {pause}: {}", guest.used);
            }
            judge(&simulation, ticks);
        }
    }
}

#[test]
fn claims_change_while_everything_runs() {
    for seed in 100..100 + 10_u64.div_ceil(FEWER) {
        let mut random = Random::new(seed);
        let processors = 2 + random.below(3);
        let mut simulation = Simulation::new(processors);
        for _ in 0..12 {
            let habit = any_habit(&mut random, 800);
            simulation.add(habit, Claim::BestEffort, ANY).unwrap();
        }
        let mut seen = [0; 4];
        for _ in 0..300 / FEWER {
            let ticks = random.next() % 400;
            simulation.run(ticks);
            let key = random.below(12);
            let period = 300 + random.next() % 4000;
            let budget = 1 + random.next() % (period * 2 / 3);
            let claim = match random.below(6) {
                0 => Claim::Alone,
                1 | 2 => Claim::BestEffort,
                n => Claim::Reserved { budget, period, work_conserving: n == 3 },
            };
            let reservation = Reservation { claim, allowed: ANY };
            let old = simulation.table.0[key].reservation();
            let (schedule, table) = (&mut simulation.schedule, &mut simulation.table);
            let Ok(pokes) = schedule.set(table, key, reservation, simulation.now) else {
                assert_eq!(simulation.table.0[key].reservation(), old);
                seen[3] += 1;
                continue;
            };
            seen[match claim {
                Claim::Alone => 0,
                Claim::BestEffort => 1,
                Claim::Reserved { .. } => 2,
            }] += 1;
            let guest = &mut simulation.guests[key];
            guest.reservation = reservation;
            (guest.remaining, guest.deadline) = match claim {
                Claim::Reserved { budget, period, .. } => (budget as i64, simulation.now + period),
                _ => (0, 0),
            };
            simulation.look(pokes);
            let promised: u32 = simulation.guests.iter().map(|guest| guest.reservation.bandwidth()).sum();
            assert!(promised <= processors as u32 * WHOLE - (WHOLE - ADMITTED));
        }
        assert!(FEWER > 1 || seen.iter().all(|&count| count > 0), "{seen:?}");
    }
}

#[test]
fn lent_time_is_the_lenders() {
    let mut simulation = Simulation::new(2);
    let caller = simulation.add(Habit::Spin, reserved(300, 1000), 1).unwrap();
    let server = simulation.add(Habit::Sleep(1, u64::MAX / 2), Claim::BestEffort, ANY).unwrap();
    let third = simulation.add(Habit::Sleep(1, u64::MAX / 2), Claim::BestEffort, ANY).unwrap();
    simulation.run(100);
    let Simulation { schedule, table, now, .. } = &mut simulation;
    assert_eq!(schedule.running(0), Some(caller));
    assert!(schedule.lend(table, caller, server));
    assert!(!schedule.lend(table, server, server), "it has borrowed already");
    assert!(!schedule.lend(table, server, caller), "it has lent");
    assert!(schedule.lend(table, server, third));
    assert_eq!(schedule.state(table, caller), State::Blocked);
    assert_eq!(schedule.state(table, server), State::Blocked);
    assert_eq!(schedule.state(table, third), State::Running);
    assert_eq!(schedule.make_ready(table, caller, *now), Poke::Nobody);
    // The caller's budget ends, and comes again for who has borrowed it.
    let end = schedule.due(table, 0);
    assert!(schedule.must_switch(table, 0, end));
    let _ = schedule.preempt(table, 0, end);
    assert_eq!(schedule.pick(table, 0, end), Pick::Idle);
    assert_eq!(schedule.state(table, third), State::Ready);
    let again = schedule.due(table, 0);
    assert_eq!(schedule.expire(table, 0, again), None);
    assert_eq!(schedule.pick(table, 0, again), Pick::Run(third));
    assert!(!schedule.give_back(table, third, caller), "it was not the caller who lent to it");
    assert!(schedule.give_back(table, third, server));
    assert!(schedule.give_back(table, server, caller));
    assert!(!schedule.give_back(table, server, caller));
    assert!(!schedule.give_back(table, caller, server));
    // It is its home that has to be told when who has given time back waits for a time.
    assert_eq!(table.0[server].home(), 1);
    assert_eq!(schedule.wait_until(table, server, again + 5), Poke::Timer(1));
    assert_eq!(schedule.due(table, 1), again + 5);
    assert_eq!(schedule.state(table, caller), State::Running);
    let used = |key: usize| table.0[key].times(again).0;
    assert_eq!((used(caller), used(server), used(third)), (300, 1, 1));
}

#[test]
fn reservations_in_nanoseconds() {
    let mut schedule = Schedule::<usize>::new();
    schedule.start(2, 62_500_000);
    let good = schedule.reservation(2_000_000, 10_000_000, true, false, 0).unwrap();
    let claim = Claim::Reserved { budget: 125_000, period: 625_000, work_conserving: true };
    assert_eq!(good, Reservation { claim, allowed: 0b11 });
    assert_eq!(good.bandwidth(), 200_000);
    assert_eq!(schedule.nanoseconds(125_000), 2_000_000);
    for (budget, period, conserving, alone, allowed) in [
        (1, 1_000_000, false, false, 0),
        (0, 1_000_000, false, false, 0),
        (2_000_000, 1_000_000, false, false, 0),
        (1_000_000, 1_000_000_001, false, false, 0),
        (1_000_000, 2_000_000, false, true, 0),
        (0, 0, true, false, 0),
        (1_000_000, 2_000_000, false, false, 0b100),
    ] {
        assert!(schedule.reservation(budget, period, conserving, alone, allowed).is_err());
    }
}
