//! All partitions of a manifest, from the first one's creation to the machine's end.

use std::time::Instant;

use handover_control::{
    Account, EndReason, Listed, Machine, PartitionId, PartitionState, Service, Services,
    abi::resources::{SERVICE, SERVICE_NAME},
};
use handover_loader::{
    archive::Failure,
    control::Control,
    partition::{self, Content},
};
use handover_manifest::{Duration, Manifest, Partition, Provider, Ready};

use crate::{
    memory::Memory,
    supervise::{Next, Past, STATUS_FAULT, Supervisor, end_line},
};

/// The running system.
#[derive(Debug)]
pub struct System<'a> {
    machine: Machine,
    manifest: &'a Manifest,
    contents: Vec<Content<'a>>,
    /// Those that have been made and have not ended.
    ids: Vec<Option<PartitionId>>,
    /// Those that have ended, and can be started again.
    ended: Vec<Option<PartitionId>>,
    supervisor: Supervisor,
    start: Start,
    say: fn(&str),
}

/// How far the partitions have been started, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    /// This one is the next.
    Next(usize),
    /// This one is to be ready by then, before the next.
    Waiting(usize, Instant),
    Done,
}

/// What to look at while a partition is not ready yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watch {
    /// Its index in the manifest.
    pub index: usize,
    /// Its services, all of which have to accept a channel; none, if it says itself when it is ready.
    pub services: Vec<Service>,
}

/// A partition that runs, when the machine is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Running {
    /// Which.
    pub partition: PartitionId,
    /// How long it has to shut down when it is asked to; it is not, without.
    pub shutdown: Option<Duration>,
}

impl<'a> System<'a> {
    /// Makes every partition and fills every one: a device tree can name partitions that start later. [`System::advance`] starts them.
    /// `known` is what a former init has left, and is taken over: what has ended since is dealt with by [`System::catch_up`].
    /// `remember` is called when there is more for the next one to know.
    ///
    /// # Errors
    ///
    /// A partition cannot be made or filled.
    pub fn make(
        machine: Machine,
        manifest: &'a Manifest,
        contents: Vec<Content<'a>>,
        known: &Memory,
        say: fn(&str),
        remember: impl Fn(&System<'_>),
    ) -> Result<System<'a>, Failure> {
        let mut supervisor = Supervisor::new(manifest);
        let remembered =
            |partition: &Partition| known.partition(&partition.name).cloned().unwrap_or_default();
        let listed: Vec<_> = manifest.partitions.iter().map(remembered).collect();
        let past = listed.iter().map(|&Listed { restarts, ended, .. }| Past { restarts, ended });
        supervisor.remember(known.status, &past.collect::<Vec<_>>());
        let of =
            |ended: bool| listed.iter().map(move |known| known.id.filter(|_| known.ended == ended)).collect();
        let (ids, ended) = (of(false), of(true));
        let mut system =
            System { machine, manifest, contents, ids, ended, supervisor, start: Start::Done, say };
        for (index, partition) in manifest.partitions.iter().enumerate() {
            if let Some(id @ None) = system.ids.get_mut(index)
                && system.supervisor.runs(index)
            {
                *id = Some(partition::create(&mut &system.machine, partition)?);
                remember(&system);
            }
        }
        let new: Vec<_> = system.ids.iter().map(|id| id.is_some_and(|id| system.is_new(id))).collect();
        for (index, _) in new.iter().enumerate().filter(|(_, new)| **new) {
            system.complete(index)?;
        }
        // What has not started yet goes on with its turn.
        system.start = new.iter().position(|new| *new).map_or(Start::Done, Start::Next);
        Ok(system)
    }

    /// Who there is, those that have ended among them: they may come again.
    fn known(&self) -> Vec<Option<PartitionId>> {
        self.ids.iter().zip(&self.ended).map(|(&id, &ended)| id.or(ended)).collect()
    }

    fn is_new(&self, id: PartitionId) -> bool {
        self.machine.partition(id).state().is_ok_and(|(state, _)| state == PartitionState::Created)
    }

    /// Fills a partition that has not started. Its former init may have died while it made that anew: then it has no memory yet.
    fn complete(&mut self, index: usize) -> Result<(), Failure> {
        let (Some(partition), Some(&Some(id)), Some(content)) =
            (self.manifest.partitions.get(index), self.ids.get(index), self.contents.get(index))
        else {
            return Ok(());
        };
        let charge = self.machine.partition(id).account(Account::Memory);
        let charge = charge.map_err(|error| Failure(format!("{}: {error}", partition.name)))?;
        let mut control = &self.machine;
        if charge.used == 0 {
            partition::give(&mut control, partition, id)?;
        }
        partition::fill(&mut control, self.manifest, index, content, &self.known())
    }

    /// What the next init has to know.
    #[must_use]
    pub fn memory(&self) -> Memory {
        let (status, past) = self.supervisor.past();
        let partitions = self.manifest.partitions.iter().zip(self.known()).zip(past);
        let partitions = partitions.map(|((partition, id), Past { restarts, ended })| Listed {
            name: partition.name.clone(),
            id,
            restarts,
            ended,
        });
        Memory { status, partitions: partitions.collect() }
    }

    /// Who provides which service now.
    #[must_use]
    pub fn services(&self) -> Services {
        let own = (&mut &self.machine).own_id().unwrap_or(PartitionId::new(0));
        let own_service = Service { name: SERVICE_NAME.into(), id: SERVICE, partition: own };
        let services = self.manifest.services().map(|service| Service {
            name: service.name.to_owned(),
            id: handover_control::ServiceId::new(service.id),
            partition: self.provider(service.provider, own),
        });
        Services(services.chain([own_service]).collect())
    }

    fn provider(&self, provider: Provider, own: PartitionId) -> PartitionId {
        match provider {
            Provider::Program(_) => own,
            Provider::Partition(index) => {
                self.ids.get(index).copied().flatten().unwrap_or(PartitionId::new(0))
            }
        }
    }

    /// The name of a partition that runs.
    #[must_use]
    pub fn name_of(&self, id: PartitionId) -> Option<&'a str> {
        let index = self.ids.iter().position(|&known| known == Some(id))?;
        self.manifest.partitions.get(index).map(|partition| partition.name.as_str())
    }

    /// Starts what can be started now, in order. What to watch, if one has to be ready first.
    ///
    /// # Errors
    ///
    /// A partition cannot be started.
    pub fn advance(&mut self, now: Instant) -> Result<Option<Watch>, Failure> {
        loop {
            let index = match self.start {
                Start::Next(index) => index,
                Start::Waiting(index, deadline) if now >= deadline => {
                    let partition = self.manifest.partitions.get(index);
                    let (name, span) =
                        partition.map_or(("", Duration(0)), |one| (&one.name, one.ready_timeout));
                    (self.say)(&format!(
                        "{name} is not ready after {span}: the next one starts all the same"
                    ));
                    self.start = Start::Next(index + 1);
                    continue;
                }
                Start::Waiting(..) | Start::Done => return Ok(None),
            };
            let (Some(partition), Some(content)) =
                (self.manifest.partitions.get(index), self.contents.get(index))
            else {
                self.start = Start::Done;
                return Ok(None);
            };
            self.start = Start::Next(index + 1);
            // One that has gone already cannot be started: it was destroyed before its turn.
            let Some(&Some(id)) = self.ids.get(index) else { continue };
            // Somebody at the console may have started it before its turn, or ended it.
            if !self.is_new(id) {
                continue;
            }
            partition::start(&mut &self.machine, partition, content, id)?;
            if partition.ready != Ready::Started {
                let deadline = now + std::time::Duration::from_nanos(partition.ready_timeout.0);
                self.start = Start::Waiting(index, deadline);
                return Ok(Some(self.watch(index, partition)));
            }
        }
    }

    fn watch(&self, index: usize, partition: &Partition) -> Watch {
        let provided = |service: &Service| {
            partition.ready == Ready::Service && partition.provides.contains(&service.name)
        };
        let Services(services) = self.services();
        Watch { index, services: services.into_iter().filter(provided).collect() }
    }

    /// When [`System::advance`] has something to do at the latest.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        match self.start {
            Start::Waiting(_, deadline) => Some(deadline),
            _ => None,
        }
    }

    /// A partition is ready.
    pub fn ready(&mut self, index: usize) {
        if matches!(self.start, Start::Waiting(waited, _) if waited == index) {
            self.start = Start::Next(index + 1);
        }
    }

    /// A partition says that it is ready.
    pub fn told_ready(&mut self, id: PartitionId) {
        if let Some(index) = self.ids.iter().position(|&known| known == Some(id))
            && self.manifest.partitions.get(index).is_some_and(|partition| partition.ready == Ready::Told)
        {
            self.ready(index);
        }
    }

    /// Deals with whatever has ended unseen. The machine's exit status when that was the last one.
    pub fn catch_up(&mut self) -> Option<u64> {
        for id in self.ids.clone().into_iter().flatten() {
            let state = self.machine.partition(id).state();
            if !matches!(state, Ok((PartitionState::Created | PartitionState::Active, _)))
                && let Some(status) = self.ended(id)
            {
                return Some(status);
            }
        }
        match self.supervisor.next() {
            Next::Finish(status) => Some(status),
            Next::Wait | Next::Restart => None,
        }
    }

    /// A partition has ended. The machine's exit status when this was the last one.
    pub fn ended(&mut self, id: PartitionId) -> Option<u64> {
        let index = self.ids.iter().position(|&known| known == Some(id))?;
        let (reason, status) = self.say_end(id);
        let name = self.name_of(id).unwrap_or_default();
        // Whoever waits for it waits in vain.
        self.ready(index);
        let next = match self.supervisor.ended(index, reason, status) {
            Next::Restart => match self.restart(index, id) {
                Ok(()) => {
                    (self.say)(&format!("{name} runs again, as partition {id}"));
                    return None;
                }
                Err(failure) => {
                    (self.say)(&failure.to_string());
                    self.forget(index, id);
                    self.supervisor.not_restarted(index)
                }
            },
            next => {
                self.keep(index, id);
                next
            }
        };
        match next {
            Next::Finish(status) => Some(status),
            Next::Wait | Next::Restart => None,
        }
    }

    /// Tells how a partition has ended.
    fn say_end(&self, id: PartitionId) -> (EndReason, u64) {
        let name = self.name_of(id).unwrap_or_default();
        let (reason, status) = (&mut &self.machine).end_of(id).unwrap_or_else(|error| {
            (self.say)(&format!("how {name} has ended cannot be found out, it counts as a fault: {error}"));
            (EndReason::Fault, STATUS_FAULT)
        });
        (self.say)(&end_line(name, reason, status));
        (reason, status)
    }

    /// A partition has ended while the machine ends: it is not restarted.
    pub fn ended_last(&mut self, id: PartitionId) {
        let Some(index) = self.ids.iter().position(|&known| known == Some(id)) else { return };
        self.say_end(id);
        self.keep(index, id);
    }

    /// Starts a partition that has ended again.
    ///
    /// # Errors
    ///
    /// There is none of this name, or it has not ended, or it cannot be started: then nothing is left of it.
    pub fn start(&mut self, name: &str) -> Result<(), Failure> {
        let (index, partition) = self
            .manifest
            .partition(name)
            .ok_or_else(|| Failure(format!("no partition is called `{}`", name.escape_debug())))?;
        if self.supervisor.runs(index) {
            return Err(Failure(format!("{name} has not ended")));
        }
        let kept = self.ended.get(index).copied().flatten();
        let id = kept.map_or_else(|| partition::create(&mut &self.machine, partition), Ok)?;
        if let (Some(slot), Some(ended)) = (self.ids.get_mut(index), self.ended.get_mut(index)) {
            (*slot, *ended) = (Some(id), None);
        }
        let started = if kept.is_some() { self.restart(index, id) } else { self.fill_and_start(index, id) };
        started.inspect_err(|_| self.forget(index, id))?;
        self.supervisor.begins(index);
        (self.say)(&format!("{name} runs again, as partition {id}"));
        Ok(())
    }

    /// Keeps what has ended, so that it can come again under its id.
    fn keep(&mut self, index: usize, id: PartitionId) {
        if let (Some(slot), Some(ended)) = (self.ids.get_mut(index), self.ended.get_mut(index)) {
            (*slot, *ended) = (None, Some(id));
        }
    }

    fn forget(&mut self, index: usize, id: PartitionId) {
        let name = self.manifest.partitions.get(index).map_or("", |partition| &partition.name);
        partition::forget(&mut &self.machine, name, id);
        if let (Some(slot), Some(ended)) = (self.ids.get_mut(index), self.ended.get_mut(index)) {
            (*slot, *ended) = (None, None);
        }
    }

    /// Makes a partition that has ended what it was at first, under its id: who used its services connects again.
    fn restart(&mut self, index: usize, id: PartitionId) -> Result<(), Failure> {
        let Some(partition) = self.manifest.partitions.get(index) else { return Err(nobody()) };
        let reset = self.machine.partition(id).reset();
        reset.map_err(|error| Failure(format!("{}: {error}", partition.name)))?;
        partition::give(&mut &self.machine, partition, id)?;
        self.fill_and_start(index, id)
    }

    fn fill_and_start(&mut self, index: usize, id: PartitionId) -> Result<(), Failure> {
        let (Some(partition), Some(content)) =
            (self.manifest.partitions.get(index), self.contents.get(index))
        else {
            return Err(nobody());
        };
        partition::fill(&mut &self.machine, self.manifest, index, content, &self.known())?;
        partition::start(&mut &self.machine, partition, content, id)
    }

    /// Who runs, the last one first.
    #[must_use]
    pub fn running(&self) -> Vec<Running> {
        let all = self.manifest.partitions.iter().zip(&self.ids).rev();
        let running = |(partition, id): (&Partition, &Option<PartitionId>)| {
            Some(Running { partition: (*id)?, shutdown: partition.shutdown })
        };
        all.filter_map(running).collect()
    }

    /// Stops a partition, if it still runs.
    pub fn stop(&mut self, id: PartitionId) {
        let Some(index) = self.ids.iter().position(|&known| known == Some(id)) else { return };
        let name = self.name_of(id).unwrap_or_default();
        match (&mut &self.machine).stop(id) {
            Ok(()) => (self.say)(&end_line(name, EndReason::Stopped, 0)),
            Err(error) => (self.say)(&format!("{name} cannot be stopped: {error}")),
        }
        self.keep(index, id);
    }
}

fn nobody() -> Failure {
    Failure("a partition that no manifest names was to be restarted".into())
}
