//! Processors and time that are lent, passed on, given back and recalled while everything else goes on, against chains kept naively: who pays is who
//! has lent, who runs is who has borrowed last.

use handover_core::schedule::{Claim, Pick, Poke, Reservation, State};

use super::machine::Random;
use super::{ANY, FEWER, Guest, Habit, Simulation, densest, reserved, reserved_of};

impl Simulation {
    /// Whose budget pays for a logical processor.
    pub fn payer(&self, key: usize) -> usize {
        self.lent.iter().find(|(_, chain)| chain.contains(&key)).map_or(key, |(&payer, _)| payer)
    }

    /// Who runs when it is somebody's turn.
    pub fn runner(&self, payer: usize) -> usize {
        self.lent.get(&payer).and_then(|chain| chain.last()).copied().unwrap_or(payer)
    }

    /// Whether it neither lends nor borrows, and waits.
    fn is_free(&self, key: usize) -> bool {
        self.payer(key) == key && self.runner(key) == key && self.table.0[key].state() == State::Blocked
    }

    fn may_borrow(&self, key: usize, processor: usize) -> bool {
        let stays = self.running[processor].is_some_and(|payer| self.table.0[payer].home() == processor);
        stays && self.is_free(key) && self.guests[key].reservation.allowed & 1 << processor != 0
    }

    /// The naive budget of one that wakes.
    pub fn renew(guest: &mut Guest, now: u64) {
        guest.ready_at = now;
        if let Claim::Reserved { budget, period, .. } = guest.reservation.claim {
            let left = guest.deadline.saturating_sub(now);
            if left == 0 || guest.remaining.max(0) as u64 * period > left * budget {
                guest.remaining = budget as i64 + guest.remaining.min(0);
                guest.deadline = now + period;
            }
        }
    }

    /// It waits, on its own time, for a while.
    fn pause(&mut self, key: usize, random: &mut Random) {
        self.guests[key].back = self.now + 1 + random.next() % 3000;
    }

    /// The same for one that has just given back what was lent to it.
    fn wait_until(&mut self, key: usize, random: &mut Random) {
        self.pause(key, random);
        let poke = self.schedule.wait_until(&mut self.table, key, u64::MAX);
        assert_eq!(poke, Poke::Timer(self.table.0[key].processor()));
    }

    fn lend(&mut self, processor: usize, to: usize) -> bool {
        let Some(payer) = self.running[processor] else { return false };
        let expected = self.may_borrow(to, processor);
        let from = self.runner(payer);
        let before = self.schedule.due(&self.table, processor);
        assert_eq!(self.schedule.lend(&mut self.table, from, to), expected);
        assert!(self.schedule.due(&self.table, processor) >= before);
        if expected {
            self.lent.entry(payer).or_default().push(to);
        }
        expected
    }

    fn give_back(&mut self, processor: usize, random: &mut Random) -> bool {
        let Some(payer) = self.running[processor] else { return false };
        let from = self.runner(payer);
        let popped = self.lent.get_mut(&payer).and_then(Vec::pop);
        self.lent.retain(|_, chain| !chain.is_empty());
        let lender = self.runner(payer);
        for other in 0..self.guests.len() {
            let lent = popped.is_some() && other == lender;
            assert!(lent || !self.schedule.give_back(&mut self.table, from, other), "{other} has not lent");
        }
        let Some(from) = popped else { return false };
        let before = self.schedule.due(&self.table, processor);
        assert!(self.schedule.give_back(&mut self.table, from, lender));
        assert_eq!(self.schedule.due(&self.table, processor), before);
        self.wait_until(from, random);
        true
    }

    fn pass_on(&mut self, processor: usize, to: usize, random: &mut Random) -> bool {
        let Some(payer) = self.running[processor] else { return false };
        let from = self.runner(payer);
        let chain = self.lent.get(&payer).cloned().unwrap_or_default();
        let lender = chain.iter().rev().nth(1).copied().unwrap_or(payer);
        let expected = !chain.is_empty() && self.may_borrow(to, processor);
        assert_eq!(self.schedule.pass_on(&mut self.table, from, lender, to), expected);
        if !expected {
            return false;
        }
        if let Some(last) = self.lent.get_mut(&payer).and_then(|chain| chain.last_mut()) {
            *last = to;
        }
        self.wait_until(from, random);
        true
    }

    /// Cuts a chain behind who has lent, if it has: who pays for it is in this state. What is cut off goes on at home, as far as all of it may be there.
    /// Returns who pays for that.
    fn cut(&mut self, lender: usize, state: State, random: &mut Random) -> Option<usize> {
        let payer = self.payer(lender);
        let chain = self.lent.get(&payer).cloned().unwrap_or_default();
        let at = chain.iter().position(|&key| key == lender).map_or(0, |index| index + 1);
        let off = &chain[at..];
        let fits = |index: &usize| {
            let home = self.table.0[off[*index]].home();
            off[*index..].iter().all(|&key| self.guests[key].reservation.allowed & 1 << home != 0)
        };
        let first = (0..off.len()).find(fits).or(off.len().checked_sub(1))?;
        let next = off[first];
        self.lent.insert(payer, chain[..at].to_vec());
        self.lent.insert(next, off[first + 1..].to_vec());
        self.lent.retain(|_, chain| !chain.is_empty());
        for &key in &off[..first] {
            self.pause(key, random);
        }
        if state == State::Blocked {
            self.pause(next, random);
        } else {
            self.pause(payer, random);
            Simulation::renew(&mut self.guests[next], self.now);
        }
        if let Some(here) = self.running.iter_mut().find(|running| **running == Some(payer)) {
            *here = Some(next);
            self.guests[next].runs.push((self.now, self.now));
        }
        Some(next)
    }

    fn recall(&mut self, lender: usize, random: &mut Random) -> bool {
        let state = self.table.0[self.payer(lender)].state();
        let next = self.cut(lender, state, random);
        let pokes = self.schedule.recall(&mut self.table, lender, self.now);
        match next {
            Some(next) => assert_eq!(self.table.0[next].state(), state, "what is cut off goes on as it was"),
            None => assert_eq!(pokes, 0),
        }
        self.look(pokes);
        next.is_some()
    }

    /// Another claim: it has lent nothing then, and borrowed nothing.
    fn claim(&mut self, key: usize, reservation: Reservation, random: &mut Random) -> bool {
        let payer = self.payer(key);
        let state = self.table.0[payer].state();
        let Ok(pokes) = self.schedule.set(&mut self.table, key, reservation, self.now) else { return false };
        let cut = self.cut(key, state, random);
        if let Some(next) = cut {
            assert_eq!(self.table.0[next].state(), state, "what is cut off goes on as it was");
        }
        if let Some(chain) = self.lent.get(&payer).filter(|_| payer != key) {
            let lender = match chain.iter().position(|&other| other == key) {
                Some(at) if at > 0 => chain[at - 1],
                _ => payer,
            };
            self.cut(lender, if cut.is_some() { State::Blocked } else { state }, random);
        }
        let guest = &mut self.guests[key];
        guest.reservation = reservation;
        guest.runs = vec![(self.now, self.now)];
        (guest.remaining, guest.deadline) = match reservation.claim {
            Claim::Reserved { budget, period, .. } => (budget as i64, self.now + period),
            _ => (0, 0),
        };
        self.look(pokes);
        true
    }

    /// What is said of each is what the chains say.
    fn check_lent(&self) {
        for key in 0..self.guests.len() {
            let payer = self.payer(key);
            let lender = self.lent.get(&payer).filter(|_| payer != key).map(|chain| {
                let at = chain.iter().position(|&other| other == key).unwrap();
                if at == 0 { payer } else { chain[at - 1] }
            });
            assert_eq!(self.table.0[key].lender(), lender);
            let runs = self.runner(payer) == key;
            let expected = if runs { self.table.0[payer].state() } else { State::Blocked };
            assert_eq!(self.schedule.state(&self.table, key), expected);
            assert_eq!(self.table.0[key].times(self.now).0, self.guests[key].used, "{key} has paid");
        }
    }
}

#[test]
fn calls_on_lent_time_among_everything_else() {
    let mut seen = [0; 5];
    for seed in 200..200 + 12_u64.div_ceil(FEWER) {
        let mut random = Random::new(seed);
        let processors = 1 + random.below(4);
        let mut simulation = Simulation::new(processors);
        for index in 0..14 {
            let period = 400 + random.next() % 4000;
            let budget = 1 + random.next() % (period / 5);
            let habit = Habit::Sleep(1 + random.next() % (2 * budget), 1 + random.next() % 3000);
            let claim = if index % 3 == 0 { Claim::BestEffort } else { reserved(budget, period) };
            let allowed = if random.chance(4) { 1 << random.below(processors) } else { ANY };
            if simulation.add(habit, claim, allowed).is_err() {
                simulation.add(habit, Claim::BestEffort, ANY).unwrap();
            }
        }
        for _ in 0..4000 / FEWER {
            simulation.run(random.next() % 20);
            let (processor, key) = (random.below(processors), random.below(14));
            let (what, done) = match random.below(8) {
                0..3 => (0, simulation.lend(processor, key)),
                3 | 4 => (1, simulation.give_back(processor, &mut random)),
                5 => (2, simulation.pass_on(processor, key, &mut random)),
                6 => (3, simulation.recall(key, &mut random)),
                _ => {
                    let period = 400 + random.next() % 4000;
                    let claim = match random.chance(2) {
                        true => reserved(1 + random.next() % (period / 5), period),
                        false => Claim::BestEffort,
                    };
                    let allowed = if random.chance(4) { 1 << random.below(processors) } else { ANY };
                    (4, simulation.claim(key, Reservation { claim, allowed }, &mut random))
                }
            };
            seen[what] += usize::from(done);
            simulation.check_lent();
        }
        for (key, guest) in simulation.guests.iter().enumerate() {
            let Some((budget, period)) = reserved_of(&simulation, key) else { continue };
            assert!(densest(&guest.runs, period) <= 2 * budget, "{key}");
            assert!(densest(&guest.runs, 10 * period) <= 12 * budget, "{key}");
        }
    }
    assert!(FEWER > 1 || seen.iter().all(|&count| count > 300), "{seen:?}");
}

/// A caller takes its time back while nobody runs in it: who runs for the one that it has called wants to run in that one's time.
#[test]
fn who_was_ready_in_lent_time_stays_ready() {
    for depth in 1..4 {
        let mut simulation = Simulation::new(1);
        let caller = simulation.add(Habit::Spin, Claim::BestEffort, ANY).unwrap();
        simulation.run(10);
        let chain: Vec<_> = (0..depth)
            .map(|_| simulation.add(Habit::Sleep(1, u64::MAX / 2), Claim::BestEffort, ANY).unwrap())
            .collect();
        simulation.run(200_000 / FEWER);
        assert_eq!(simulation.running[0], Some(caller));
        for &server in &chain {
            assert!(simulation.lend(0, server), "{depth}");
        }
        let now = simulation.now;
        let Simulation { schedule, table, .. } = &mut simulation;
        let _ = schedule.preempt(table, 0, now);
        assert_eq!(schedule.state(table, chain[depth - 1]), State::Ready);
        schedule.recall(table, caller, now);
        assert_eq!(schedule.state(table, chain[depth - 1]), State::Ready, "{depth}");
        assert_eq!(schedule.pick(table, 0, now), Pick::Run(chain[depth - 1]));
    }
}

#[test]
fn who_is_sent_elsewhere_takes_nobody_along() {
    for (which, other) in [(0, 1), (1, 0)] {
        let mut simulation = Simulation::new(2);
        let caller = simulation.add(Habit::Spin, Claim::BestEffort, ANY).unwrap();
        let server = simulation.add(Habit::Sleep(1, u64::MAX / 2), Claim::BestEffort, ANY).unwrap();
        simulation.run(100);
        let here = simulation.table.0[caller].home();
        assert!(simulation.lend(here, server));
        let key = [caller, server][which];
        let reservation = Reservation { claim: Claim::BestEffort, allowed: 1 << (1 - here) };
        let now = simulation.now;
        let pokes = simulation.schedule.set(&mut simulation.table, key, reservation, now).unwrap();
        assert_eq!(pokes, 0b11);
        let Simulation { schedule, table, .. } = &mut simulation;
        // The call goes on in the server's time, where it may be.
        assert_eq!((table.0[server].lender(), schedule.state(table, caller)), (None, State::Blocked));
        assert_eq!(schedule.state(table, server), State::Running);
        assert_eq!(table.0[key].home(), 1 - here);
        assert!(which == 0 || schedule.must_switch(table, here, now));
        // Nobody may lend to it from there, where it does not stay.
        assert!(!schedule.lend(table, server, [caller, server][other]));
    }
}
