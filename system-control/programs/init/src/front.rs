//! Guests' requests for resources, on their way through the program that decides them.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use handover_control::{
    Account, Machine, PartitionId,
    abi::{Error, resources::Outcome},
    requests::{Decision, Query, Verdict},
};
use handover_manifest::{Manifest, Partition, Requests, Verdict as Default};

use crate::grant::{devices, raise};

/// Requests that wait for their verdict. `R` is what takes the answer.
#[derive(Debug)]
pub struct Front<R> {
    rules: Requests,
    /// The manifest's, which say what devices they may ask for.
    partitions: Vec<Partition>,
    pending: BTreeMap<u64, Pending<R>>,
    tickets: u64,
}

#[derive(Debug)]
struct Pending<R> {
    query: Query,
    deadline: Instant,
    reply: R,
}

/// A request that was decided, and what came of it.
#[derive(Debug)]
pub struct Settled<R> {
    /// What was asked for.
    pub query: Query,
    /// What came of it.
    pub outcome: Outcome,
    /// What takes the answer.
    pub reply: R,
}

impl<R> Front<R> {
    /// With nothing pending.
    #[must_use]
    pub fn new(manifest: &Manifest) -> Front<R> {
        let (rules, partitions) = (manifest.requests, manifest.partitions.clone());
        Front { rules, partitions, pending: BTreeMap::new(), tickets: 0 }
    }

    /// A partition asks for more of a resource: the query for whoever decides.
    ///
    /// # Errors
    ///
    /// What it has cannot be found out, and the answer with it.
    pub fn ask(
        &mut self,
        machine: &Machine,
        (partition, name): (PartitionId, &str),
        (account, amount): (Account, u64),
        reply: R,
        now: Instant,
    ) -> Result<Query, (R, Outcome)> {
        let charge = match machine.partition(partition).account(account) {
            Ok(charge) => charge,
            Err(error) => {
                return Err((reply, Outcome::Failed(error.control().unwrap_or(Error::NotSupported))));
            }
        };
        self.tickets += 1;
        let query = Query {
            ticket: self.tickets,
            partition,
            name: name.to_owned(),
            account,
            amount,
            account_used: charge.used,
            account_limit: charge.limit,
        };
        let deadline = now + Duration::from_nanos(self.rules.timeout.0);
        self.pending.insert(query.ticket, Pending { query: query.clone(), deadline, reply });
        Ok(query)
    }

    /// A verdict has come. `None` if it is about nothing that waits: it is too late, or made up.
    pub fn decided(&mut self, machine: &Machine, decision: Decision) -> Option<Settled<R>> {
        let pending = self.pending.remove(&decision.ticket)?;
        Some(settle(machine, &self.partitions, pending, decision.verdict))
    }

    /// Nobody decides this one: it gets the default.
    pub fn undecided(&mut self, machine: &Machine, ticket: u64) -> Option<Settled<R>> {
        let verdict = self.default();
        self.decided(machine, Decision { ticket, verdict })
    }

    /// Those whose time is up get the default.
    pub fn expired(&mut self, machine: &Machine, now: Instant) -> Vec<Settled<R>> {
        let late = self.pending.values().filter(|pending| pending.deadline <= now);
        let late: Vec<u64> = late.map(|pending| pending.query.ticket).collect();
        late.into_iter().filter_map(|ticket| self.undecided(machine, ticket)).collect()
    }

    /// When the next one's time is up.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.pending.values().map(|pending| pending.deadline).min()
    }

    /// All that wait, the oldest first: for a program that has just started to decide.
    pub fn queries(&self) -> impl Iterator<Item = &Query> {
        self.pending.values().map(|pending| &pending.query)
    }

    fn default(&self) -> Verdict {
        match self.rules.default {
            Default::Grant => Verdict::Grant,
            Default::Refuse => Verdict::Refuse,
        }
    }
}

/// Acts on a verdict.
fn settle<R>(
    machine: &Machine,
    partitions: &[Partition],
    Pending { query, reply, .. }: Pending<R>,
    verdict: Verdict,
) -> Settled<R> {
    let amount = match verdict {
        Verdict::Grant => query.amount,
        Verdict::Change(amount) => amount,
        Verdict::Refuse => return Settled { query, outcome: Outcome::Refused, reply },
    };
    let partition = machine.partition(query.partition);
    let manifest = partitions.iter().find(|manifest| manifest.name == query.name);
    let granted = match manifest {
        Some(manifest) if query.account == Account::Devices => devices(machine, &partition, manifest, amount),
        _ => match raise(&partition, query.account, amount) {
            Err(error) => Outcome::Failed(error),
            Ok(()) => Outcome::Granted(amount),
        },
    };
    let outcome = match granted {
        Outcome::Granted(amount) if amount != query.amount => Outcome::Changed(amount),
        Outcome::Changed(amount) if amount == query.amount => Outcome::Granted(amount),
        outcome => outcome,
    };
    Settled { query, outcome, reply }
}

#[cfg(test)]
mod tests {
    use super::*;
    use handover_control::{Setup, model::Model};

    const MIB: u64 = 1 << 20;

    struct Bench {
        model: Model,
        machine: Machine,
        front: Front<&'static str>,
        now: Instant,
    }

    fn bench(default: Default) -> Bench {
        let model = Model::new(64 * MIB);
        let machine = model.machine();
        machine.create_empty(&Setup::new("guest", 1, 2 * MIB)).unwrap();
        let default = if default == Default::Grant { "grant" } else { "refuse" };
        let manifest = format!(
            "requests = {{ default = \"{default}\", timeout = \"100 ms\" }}\nmachine = {{ processors = 1, memory = \"256 MiB\" }}\n\
             [[partition]]\nname = \"guest\"\nkernel = \"guest:guest\"\nprocessors = 1\nmemory = \"2 MiB\"\n"
        );
        let front = Front::new(&handover_manifest::parse(&manifest, "front.toml".as_ref()).unwrap());
        Bench { model, machine, front, now: Instant::now() }
    }

    impl Bench {
        fn ask(&mut self, amount: u64, reply: &'static str) -> u64 {
            let who = (PartitionId::new(2), "guest");
            let query = self.front.ask(&self.machine, who, (Account::Ports, amount), reply, self.now);
            query.unwrap().ticket
        }

        fn ports(&self) -> u64 {
            self.model.partition(2).limits[Account::Ports as usize]
        }
    }

    #[test]
    fn nothing_is_granted_before_the_verdict() {
        let mut bench = bench(Default::Refuse);
        let before = bench.ports();
        let (first, second) = (bench.ask(10, "first"), bench.ask(20, "second"));
        assert_eq!(bench.ports(), before);
        let decision = Decision { ticket: second, verdict: Verdict::Change(5) };
        let settled = bench.front.decided(&bench.machine, decision).unwrap();
        assert_eq!((settled.reply, settled.outcome), ("second", Outcome::Changed(5)));
        assert_eq!(bench.ports(), before + 5);
        let settled =
            bench.front.decided(&bench.machine, Decision { ticket: first, verdict: Verdict::Grant }).unwrap();
        assert_eq!((settled.reply, settled.outcome), ("first", Outcome::Granted(10)));
        assert_eq!(bench.ports(), before + 15);
        // What was decided cannot be decided again, nor what was never asked.
        assert!(bench.front.decided(&bench.machine, decision).is_none());
        let made_up = Decision { ticket: 99, verdict: Verdict::Grant };
        assert!(bench.front.decided(&bench.machine, made_up).is_none());
        assert_eq!(bench.ports(), before + 15);
        let refused = bench.ask(1, "refused");
        let settled =
            bench.front.decided(&bench.machine, Decision { ticket: refused, verdict: Verdict::Refuse });
        assert_eq!(settled.unwrap().outcome, Outcome::Refused);
    }

    #[test]
    fn who_is_silent_is_passed_over() {
        for (default, outcome) in [(Default::Refuse, Outcome::Refused), (Default::Grant, Outcome::Granted(7))]
        {
            let mut bench = bench(default);
            let ticket = bench.ask(7, "late");
            let deadline = bench.front.deadline().unwrap();
            assert!(bench.front.expired(&bench.machine, deadline - Duration::from_millis(1)).is_empty());
            assert_eq!(bench.front.queries().count(), 1);
            let settled = bench.front.expired(&bench.machine, deadline);
            assert_eq!(settled.iter().map(|settled| settled.outcome).collect::<Vec<_>>(), [outcome]);
            assert_eq!(bench.front.deadline(), None);
            let late = Decision { ticket, verdict: Verdict::Grant };
            let before = bench.ports();
            assert!(bench.front.decided(&bench.machine, late).is_none());
            assert_eq!(bench.ports(), before);
        }
    }

    #[test]
    fn devices_are_those_that_the_manifest_names() {
        let mut bench = bench(Default::Grant);
        let who = (PartitionId::new(2), "guest");
        let limit = |bench: &Bench| bench.model.partition(2).limits[Account::Devices as usize];
        let before = limit(&bench);
        let query = bench.front.ask(&bench.machine, who, (Account::Devices, 2), "device", bench.now).unwrap();
        let settled = bench.front.undecided(&bench.machine, query.ticket).unwrap();
        // It may ask for none.
        assert_eq!((settled.outcome, limit(&bench)), (Outcome::Failed(Error::BadHandle), before));
    }

    #[test]
    fn who_has_ended_gets_nothing() {
        let mut bench = bench(Default::Grant);
        let ticket = bench.ask(7, "gone");
        bench.machine.partition(PartitionId::new(2)).destroy().unwrap();
        let settled = bench.front.undecided(&bench.machine, ticket).unwrap();
        assert_eq!(settled.outcome, Outcome::Failed(Error::BadHandle));
        let who = (PartitionId::new(2), "guest");
        let asked = bench.front.ask(&bench.machine, who, (Account::Ports, 1), "again", bench.now);
        assert_eq!(asked.unwrap_err(), ("again", Outcome::Failed(Error::BadHandle)));
    }

    #[test]
    fn no_amount_overflows() {
        let mut bench = bench(Default::Grant);
        let ticket = bench.ask(u64::MAX, "all");
        assert_eq!(
            bench.front.undecided(&bench.machine, ticket).unwrap().outcome,
            Outcome::Granted(u64::MAX)
        );
        assert_eq!(bench.ports(), u64::MAX);
    }
}
