//! All partitions of a manifest, from the first one's creation to the machine's end.

use alloc::{format, string::String, vec::Vec};
use handover_abi::{EndReason, Error, PartitionId, Signal, SignalKind};
use handover_manifest::Manifest;

use handover_loader::{
    archive::{Failure, open},
    control::Control,
    partition::{self, Content},
};

use crate::supervise::{Next, Supervisor, end_line};

/// The reason in a refusal of system-control's: it offers no services.
pub const REFUSED_NO_SERVICE: u32 = 1;

/// The running system.
#[derive(Debug)]
pub struct System<'a> {
    manifest: Manifest,
    contents: Vec<Content<'a>>,
    ids: Vec<Option<PartitionId>>,
    supervisor: Supervisor,
}

impl<'a> System<'a> {
    /// Reads the boot archive, makes every partition, fills every one, and then starts them in order: a device tree can name partitions
    /// that start later, and those start so soon after that their services are there.
    pub fn boot(control: &mut impl Control, files: &'a [u8]) -> Result<System<'a>, Failure> {
        let (archive, manifest) = open(files)?;
        let contents: Result<Vec<Content<'a>>, Failure> =
            manifest.partitions.iter().map(|partition| Content::find(&archive, partition)).collect();
        let contents = contents?;
        let mut ids = Vec::new();
        for partition in &manifest.partitions {
            ids.push(Some(partition::create(control, partition)?));
        }
        for (index, content) in contents.iter().enumerate() {
            partition::fill(control, &manifest, index, content, &ids)?;
        }
        for ((partition, content), id) in manifest.partitions.iter().zip(&contents).zip(ids.iter().flatten())
        {
            partition::start(control, partition, content, *id)?;
        }
        let supervisor = Supervisor::new(&manifest);
        Ok(System { manifest, contents, ids, supervisor })
    }

    /// Answers a control signal. The machine's exit status when this was the last one.
    pub fn answer(&mut self, control: &mut impl Control, signal: Signal) -> Option<u64> {
        let next = match signal.kind {
            SignalKind::Connect => {
                self.refuse(control, signal);
                Next::Wait
            }
            // Nobody has the right to ask system-control.
            SignalKind::ShutdownRequest => Next::Wait,
            SignalKind::PartitionEnded => self.ended(control, signal.partition),
        };
        let Next::Finish(status) = next else { return None };
        self.stop_rest(control);
        Some(status)
    }

    fn refuse(&self, control: &mut impl Control, signal: Signal) {
        // Who asked may have taken the request back, as often as it likes: that is no news.
        if let Err(error) = control.refuse(signal.token, REFUSED_NO_SERVICE)
            && error != Error::BadHandle
        {
            let name = self.name_of(signal.partition);
            control.say(format_args!(
                "{name}'s request for service {} cannot be refused: {error}",
                signal.argument
            ));
        }
    }

    fn ended(&mut self, control: &mut impl Control, id: PartitionId) -> Next {
        let Some(index) = self.ids.iter().position(|&known| known == Some(id)) else { return Next::Wait };
        let name = self.name_of(id);
        let (reason, status) = control.end_of(id).unwrap_or_else(|error| {
            control
                .say(format_args!("how {name} has ended cannot be found out, it counts as a fault: {error}"));
            (EndReason::Fault, 0)
        });
        control.say(format_args!("{}", end_line(&name, reason, status)));
        if let Some(slot) = self.ids.get_mut(index) {
            *slot = None;
        }
        partition::forget(control, &name, id);
        match self.supervisor.ended(index, reason, status) {
            Next::Restart => match self.restart(control, index) {
                Ok(id) => {
                    self.say_restarted(control, index, id);
                    Next::Wait
                }
                Err(failure) => {
                    control.say(format_args!("{failure}"));
                    self.supervisor.not_restarted(index)
                }
            },
            next => next,
        }
    }

    /// Makes a partition again from its files, under a new id.
    fn restart(&mut self, control: &mut impl Control, index: usize) -> Result<PartitionId, Failure> {
        let (Some(partition), Some(content), Some(slot)) =
            (self.manifest.partitions.get(index), self.contents.get(index), self.ids.get_mut(index))
        else {
            return Err(Failure("a partition that no manifest names was to be restarted".into()));
        };
        let id = partition::create(control, partition)?;
        *slot = Some(id);
        let filled = partition::fill(control, &self.manifest, index, content, &self.ids);
        filled.and_then(|()| partition::start(control, partition, content, id)).inspect_err(|_| {
            if let Some(slot) = self.ids.get_mut(index) {
                *slot = None;
            }
            partition::forget(control, &partition.name, id);
        })?;
        Ok(id)
    }

    /// An id never comes back, and a device tree is read once: who uses the restarted partition's services has to start again too.
    fn say_restarted(&self, control: &mut impl Control, index: usize, id: PartitionId) {
        let partitions = &self.manifest.partitions;
        let Some(restarted) = partitions.get(index) else { return };
        let name = &restarted.name;
        control.say(format_args!("{name} runs again, as partition {id}"));
        for (user, partition) in partitions.iter().enumerate().filter(|(user, _)| *user != index) {
            let lost: Vec<&str> = partition
                .uses
                .iter()
                .filter(|used| restarted.provides.contains(used))
                .map(String::as_str)
                .collect();
            if !lost.is_empty() && self.supervisor.runs(user) {
                let (user, lost) = (&partition.name, lost.join(", "));
                control.say(format_args!(
                    "{user} knows only the former {name}: it has no {lost} until it restarts too"
                ));
            }
        }
    }

    fn stop_rest(&mut self, control: &mut impl Control) {
        for (slot, partition) in self.ids.iter_mut().zip(&self.manifest.partitions) {
            let (name, Some(id)) = (&partition.name, slot.take()) else { continue };
            match control.stop(id) {
                Ok(()) => control.say(format_args!("{}", end_line(name, EndReason::Stopped, 0))),
                Err(error) => control.say(format_args!("{name} cannot be stopped: {error}")),
            }
        }
    }

    fn name_of(&self, id: PartitionId) -> String {
        let index = self.ids.iter().position(|&known| known == Some(id));
        let partition = index.and_then(|index| self.manifest.partitions.get(index));
        partition.map_or_else(|| format!("partition {id}"), |partition| partition.name.clone())
    }
}
