//! Processor time: what logical processors are charged, and do with it, against what was set, over one second. They spin, make calls, wait for
//! timers and switch themselves off and on (the guest `worker`), beside others that take all that is left.

use alloc::{format, string::String, vec::Vec};
use core::time::Duration;

use handover_guest::{
    PartitionId,
    abi::{Error, ProcessorClaim},
    hvc, println, timer,
};
use worker::{Habit, Order, PROCESSORS, Tally};

use crate::{
    pause::sleep_until,
    stage::{Stage, Verdict, ensure},
    subject::Subject,
};

/// How long is counted, in nanoseconds.
const SECOND: u64 = 1_000_000_000;
/// The usual period, in nanoseconds.
const PERIOD: u64 = 10_000_000;
/// Millionths of the physical processors that are given to the workers.
const LOAD: u64 = 700_000;
/// The most that one of them gets on average, in millionths.
const MOST: u64 = 600_000;
/// A hundredth.
const TOLERANCE: u64 = 100;
/// What a step of the control OS's may take, which a guest's timer then waits for, in nanoseconds.
const STEP: u64 = 20_000;

/// One logical processor of a worker.
struct Member {
    habit: Habit,
    /// In each period, in nanoseconds.
    budget: u64,
    period: u64,
}

/// What became of it.
struct Outcome {
    /// What it was to be charged, in nanoseconds.
    set: u64,
    charged: u64,
    tally: Tally,
}

/// A partition of members.
struct Worker {
    subject: Subject,
    /// The examiner's count when its own was 0.
    started: u64,
}

pub(crate) fn run(stage: &mut Stage) -> Verdict {
    let machine = hvc::machine_info().map_err(|error| format!("no machine: {error}"))?;
    ensure!(timer::frequency() == SECOND, "a tick is no nanosecond");
    let own = hvc::identify().map_err(|error| format!("who am I? {error}"))?.partition;
    // So that it looks in time, and not when the others leave it a turn.
    claim(own, 0, 100_000, 1_000_000)?;
    let rest = Worker::run(stage, "rest")?;
    rest.order([0, 0, u64::MAX / 2], &[Habit::Spin; 4])?;
    for kinds in [
        &[Kind::Spin, Kind::Spin][..],
        &[Kind::Storm, Kind::Toggle],
        &[Kind::Periodic, Kind::Doze],
        &MIXED[..],
        &MIXED.repeat(4),
    ] {
        let members = members(kinds, u64::from(machine.processors));
        judge(u64::from(machine.processors), &members, &round(stage, &members)?)?;
    }
    if machine.processors == 1 { beside_spinning(stage) } else { Ok(()) }
}

/// What a member does; how much, its budget says.
#[derive(Clone, Copy)]
enum Kind {
    Spin,
    Storm,
    Periodic,
    Doze,
    Toggle,
}

const MIXED: [Kind; PROCESSORS] = [
    Kind::Storm,
    Kind::Spin,
    Kind::Spin,
    Kind::Periodic,
    Kind::Periodic,
    Kind::Doze,
    Kind::Toggle,
    Kind::Toggle,
];

/// Shares out the physical processors, to every second member more.
fn members(kinds: &[Kind], physical: u64) -> Vec<Member> {
    let count = kinds.len() as u64;
    let period = match physical {
        // What two switches in each period take is less than a hundredth of any budget.
        1 if count > 16 => 2 * PERIOD,
        1 => PERIOD,
        // A budget more or less in a second is less than a hundredth.
        _ => PERIOD / 2,
    };
    let average = (LOAD * physical / count).min(MOST);
    let member = |(&kind, index): (&Kind, u64)| {
        let budget = average * period / SECOND * if index.is_multiple_of(2) { 1250 } else { 750 };
        // Microseconds, of which at least so many pass for everybody while each physical processor works one.
        let work = (budget / 1000 / physical) as u32;
        let habit = match kind {
            Kind::Spin => Habit::Spin,
            Kind::Storm => Habit::Storm,
            // Less than it may have.
            Kind::Periodic => Habit::Periodic { period: (period / 1000) as u32, work: work / 2 },
            // More.
            Kind::Doze => Habit::Doze { work: work * 3, pause: (period / 4000) as u32 },
            Kind::Toggle => Habit::Toggle { work: work / 2 },
        };
        Member { habit, budget, period }
    };
    kinds.iter().zip(0..).map(member).collect()
}

fn claim(id: PartitionId, processor: u32, budget: u64, period: u64) -> Verdict {
    let claim = ProcessorClaim { budget, period, ..Default::default() };
    hvc::processor_set(id, processor, claim)
        .map_err(|error| format!("{id} cannot be promised {budget} of {period} ns: {error}"))
}

impl Worker {
    fn run(stage: &Stage, name: &str) -> Result<Worker, String> {
        let id = stage.make(name, &[])?;
        stage.start(name, id)?;
        let started = timer::now();
        Ok(Worker { subject: Subject::meet(id)?, started })
    }

    /// When to begin, and from when to when to count, as the examiner counts.
    fn order(&self, times: [u64; 3], habits: &[Habit]) -> Verdict {
        let [begin, start, end] = times.map(|count| count.saturating_sub(self.started));
        let mut all = [Habit::Off; PROCESSORS];
        all[..habits.len()].copy_from_slice(habits);
        self.subject.say(Order { begin, start, end, habits: all }.to_words())
    }
}

/// When a logical processor has been charged how much.
fn charged(id: PartitionId, processor: u32) -> Result<(u64, u64), Error> {
    loop {
        let before = timer::now();
        let used = hvc::processor_read(id, processor)?.used;
        // Unless somebody else ran meanwhile.
        if timer::now() - before < STEP {
            return Ok((before, used));
        }
    }
}

/// Lets these work for a second.
fn round(stage: &Stage, members: &[Member]) -> Result<Vec<Outcome>, String> {
    let mut workers = Vec::new();
    for members in members.chunks(PROCESSORS) {
        workers.push(Worker::run(stage, if members.len() == 2 { "pair" } else { "eight" })?);
    }
    let places: Vec<_> = (0..members.len())
        .map(|index| (workers[index / PROCESSORS].subject.id, (index % PROCESSORS) as u32))
        .collect();
    // Large ones first: they leave gaps for the others.
    for odd in [0, 1] {
        for (&(id, processor), member) in places.iter().zip(members).skip(odd).step_by(2) {
            claim(id, processor, member.budget, member.period)?;
        }
    }
    let begin = timer::after(Duration::from_millis(50));
    // All begin at once, and near the end of their periods all have been served.
    let start = begin + 10 * PERIOD + members[0].period * 19 / 20;
    for (worker, members) in workers.iter().zip(members.chunks(PROCESSORS)) {
        let habits: Vec<_> = members.iter().map(|member| member.habit).collect();
        worker.order([begin, start, start + SECOND], &habits)?;
    }
    let read = || -> Result<Vec<(u64, u64)>, String> {
        let all = places.iter().map(|&(id, processor)| charged(id, processor));
        all.collect::<Result<_, _>>().map_err(|error| format!("what was charged cannot be read: {error}"))
    };
    sleep_until(start)?;
    let before = read()?;
    sleep_until(start + SECOND)?;
    let after = read()?;
    let mut tallies = Vec::new();
    for mut worker in workers {
        let words = worker.subject.wait()?;
        tallies.extend(words.chunks_exact(2).map(|words| Tally::from_words([words[0], words[1]])));
        worker.subject.end(stage)?;
    }
    let outcome = |index: usize| {
        let ((from, used), (to, used_then), member) = (before[index], after[index], &members[index]);
        let set = u128::from(to - from) * u128::from(member.budget) / u128::from(member.period);
        Outcome { set: set as u64, charged: used_then - used, tally: tallies[index] }
    };
    Ok((0..members.len()).map(outcome).collect())
}

/// How far a value is from what was set, in millionths of that.
fn off(value: u64, set: u64) -> u64 {
    value.abs_diff(set) * 1_000_000 / set.max(1)
}

/// Everybody has got what was set, and no more.
fn judge(physical: u64, members: &[Member], outcomes: &[Outcome]) -> Verdict {
    let (mut most_charged, mut most_work, mut delay, mut calls, mut toggled) = (0, 0, 0, 0, 0);
    for (index, (member, &Outcome { set, charged, tally })) in members.iter().zip(outcomes).enumerate() {
        let Member { habit, budget, period } = *member;
        let what = format!(
            "processor {index} ({habit:?}, {budget} of {period} ns), {set} ns set, {charged} charged, {tally:?}"
        );
        ensure!(charged <= set + set / TOLERANCE, "too much: {what}");
        let least = match habit {
            Habit::Off => 0,
            Habit::Spin | Habit::Storm => set - set / TOLERANCE,
            // It has done less than it may, each time before the next.
            Habit::Periodic { work, .. } => {
                let bound = period - u64::from(work) * 1000 * physical + STEP;
                ensure!(tally.late == 0 && u64::from(tally.times) >= SECOND / period - 1, "late: {what}");
                ensure!(u64::from(tally.delay) <= bound, "delayed by more than {bound}: {what}");
                delay = delay.max(tally.delay);
                0
            }
            // What is left of its budget when it begins to wait may be gone: one in four periods.
            Habit::Doze { .. } => set * 7 / 10,
            // Half a budget in each period, and it may be a period before it is switched on again.
            Habit::Toggle { .. } => set / 4,
        };
        ensure!(charged >= least, "too little: {what}");
        match habit {
            Habit::Spin | Habit::Storm => most_charged = off(charged, set).max(most_charged),
            Habit::Toggle { .. } => toggled += tally.times,
            _ => {}
        }
        calls += if habit == Habit::Storm { tally.times } else { 0 };
        if habit == Habit::Spin && physical == 1 {
            let work = u64::from(tally.work) * 1000;
            ensure!(off(work, set) <= 1_000_000 / TOLERANCE, "it worked {work} ns: {what}");
            most_work = off(work, set).max(most_work);
        }
    }
    let (count, charged, work) = (members.len(), most_charged, most_work);
    println!(
        "examiner: {count} on {physical}: {charged} ppm off in what is charged, {work} in work; {delay} ns late; {calls} calls, {toggled} switched on"
    );
    Ok(())
}

/// The worst delay of a periodic guest beside seven that spin, all but a few hundredths of the processor promised, when its period is the shortest and when it
/// is the longest.
fn beside_spinning(stage: &Stage) -> Verdict {
    const SHORT: u64 = PERIOD / 10;
    let spins = |budget, period| Member { habit: Habit::Spin, budget, period };
    let waits = |work: u32, period: u64| Member {
        habit: Habit::Periodic { period: (period / 1000) as u32, work },
        budget: period / 10,
        period,
    };
    // By its deadline, a period after its timer is due, it has got its budget (the earliest deadline goes first, and more than can be met is not
    // admitted); so it begins no later than the work that it then does allows. The others' periods are not in step.
    let others = (1..8).map(|index| spins(PERIOD / 10, PERIOD + index * 130_000));
    delayed(stage, waits(60, SHORT), others, SHORT - 60_000)?;
    // All others' deadlines come first, the examiner's too. All of them have had their budgets before any has a new period.
    let before = 8 * SHORT / 10;
    delayed(stage, waits(600, PERIOD), (1..8).map(|_| spins(SHORT / 10, SHORT)), before + STEP)
}

/// Measures the first one's.
fn delayed(stage: &Stage, first: Member, others: impl Iterator<Item = Member>, bound: u64) -> Verdict {
    let period = first.period;
    let mut members = Vec::from([first]);
    members.extend(others);
    let outcomes = round(stage, &members)?;
    judge(1, &members[..1], &outcomes[..1])?;
    let delay = outcomes[0].tally.delay;
    println!(
        "examiner: worst delay beside seven that spin, each {period} ns: {delay} ns; the bound is {bound}"
    );
    ensure!(u64::from(delay) <= bound, "it waited {delay} ns");
    Ok(())
}
