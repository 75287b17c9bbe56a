//! What becomes of the partitions, and of the machine with them.

use handover_control::EndReason;
use handover_manifest::{Manifest, RESTART_LIMIT, Restart};

/// What a fatal fault counts as among exit statuses (`EX_SOFTWARE` of sysexits.h).
pub const STATUS_FAULT: u64 = 70;
/// The machine's status where a partition cannot be created, filled or started (`EX_CONFIG` of sysexits.h).
pub const STATUS_NOT_STARTED: u64 = 78;
/// The largest status: a process that ends has eight bits for it, and 256 must not become 0.
pub const STATUS_MAX: u64 = 255;

/// What to do after a partition has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Wait for the next signal.
    Wait,
    /// Make the partition anew.
    Restart,
    /// Stop what still runs, and the machine with this status.
    Finish(u64),
}

/// Follows every partition of a manifest from its start to its end, by its index there.
#[derive(Clone, Debug)]
pub struct Supervisor {
    members: Vec<Member>,
    stay: bool,
    status: u64,
}

#[derive(Clone, Debug)]
struct Member {
    awaited: bool,
    ended: bool,
    restart: Restart,
    limit: Option<u32>,
    restarts: u32,
}

/// What a supervisor knows of a partition beyond its manifest; a former init's, for the next one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Past {
    /// How often it was made anew.
    pub restarts: u32,
    /// Whether it has ended for good.
    pub ended: bool,
}

impl Supervisor {
    /// All partitions of the manifest, running.
    #[must_use]
    pub fn new(manifest: &Manifest) -> Supervisor {
        let all = manifest.end_with.is_empty();
        let members = manifest.partitions.iter().map(|partition| Member {
            awaited: all || manifest.end_with.contains(&partition.name),
            ended: false,
            restart: partition.restart,
            limit: match partition.restart {
                Restart::Never => partition.restart_limit,
                _ => partition.restart_limit.or(Some(RESTART_LIMIT)),
            },
            restarts: 0,
        });
        Supervisor { members: members.collect(), stay: manifest.stay, status: 0 }
    }

    /// What happened under a former init.
    pub fn remember(&mut self, status: u64, past: &[Past]) {
        self.status = status;
        for (member, past) in self.members.iter_mut().zip(past) {
            (member.restarts, member.ended) = (past.restarts, past.ended);
        }
    }

    /// What is to be remembered.
    #[must_use]
    pub fn past(&self) -> (u64, Vec<Past>) {
        let past = self.members.iter().map(|&Member { restarts, ended, .. }| Past { restarts, ended });
        (self.status, past.collect())
    }

    /// A partition has ended.
    pub fn ended(&mut self, index: usize, reason: EndReason, status: u64) -> Next {
        let status = match reason {
            EndReason::Exited => status.min(STATUS_MAX),
            EndReason::Fault | EndReason::Watchdog => STATUS_FAULT,
            EndReason::None | EndReason::PoweredOff | EndReason::Stopped | EndReason::Reset => 0,
        };
        if self.restarts(index, reason, status) { Next::Restart } else { self.count(index, status) }
    }

    /// Whether a partition that has ended so is to be made anew; if so, it counts.
    fn restarts(&mut self, index: usize, reason: EndReason, status: u64) -> bool {
        let Some(member) = self.members.get_mut(index).filter(|member| !member.ended) else { return false };
        let wanted = match (reason, member.restart) {
            (EndReason::Reset, _) => true,
            // Somebody who may has stopped it.
            (EndReason::Stopped, _) | (_, Restart::Never) => false,
            (_, Restart::OnFailure) => status != 0,
            (_, Restart::Always) => true,
        };
        if !wanted || member.limit.is_some_and(|limit| member.restarts >= limit) {
            return false;
        }
        member.restarts += 1;
        true
    }

    /// A partition that was to be made anew could not be.
    pub fn not_restarted(&mut self, index: usize) -> Next {
        self.count(index, STATUS_NOT_STARTED)
    }

    /// A partition that had ended begins anew.
    pub fn begins(&mut self, index: usize) {
        if let Some(member) = self.members.get_mut(index) {
            (member.ended, member.restarts) = (false, 0);
        }
    }

    /// Whether a partition still runs.
    #[must_use]
    pub fn runs(&self, index: usize) -> bool {
        self.members.get(index).is_some_and(|member| !member.ended)
    }

    fn count(&mut self, index: usize, status: u64) -> Next {
        let Some(member) = self.members.get_mut(index).filter(|member| !member.ended) else {
            return Next::Wait;
        };
        member.ended = true;
        if member.awaited && self.status == 0 {
            self.status = status;
        }
        self.next()
    }

    /// What is to be done now, whatever happened before.
    #[must_use]
    pub fn next(&self) -> Next {
        if self.stay || self.members.iter().any(|member| member.awaited && !member.ended) {
            return Next::Wait;
        }
        Next::Finish(self.status)
    }
}

/// One line for people: who ended, and how.
#[must_use]
pub fn end_line(name: &str, reason: EndReason, status: u64) -> String {
    match reason {
        EndReason::Exited => format!("{name} has exited with status {status}"),
        EndReason::PoweredOff => format!("{name} has switched itself off"),
        EndReason::Reset => format!("{name} has asked for a reset"),
        EndReason::Stopped => format!("{name} was stopped"),
        EndReason::Fault => format!("{name} died: fatal fault (the control OS's console tells where)"),
        EndReason::Watchdog => format!("{name} died: its watchdog was not kicked in time"),
        EndReason::None => format!("{name} has ended"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use handover_manifest::{
        Duration, Machine, MemorySize, Partition, Ready, Requests, Restart, SystemControl,
    };

    fn manifest(names: &[&str], end_with: &[&str]) -> Manifest {
        let partition = |name: &&str| Partition {
            name: (*name).into(),
            kernel: "k".into(),
            initramfs: None,
            command_line: None,
            processors: 1,
            memory: MemorySize(2 << 20),
            provides: vec![],
            uses: vec![],
            devices: vec![],
            devices_on_request: vec![],
            budget: None,
            period: None,
            work_conserving: false,
            bound_to: vec![],
            owns: vec![],
            colours: vec![],
            channel_colours: vec![],
            bus: None,
            traffic: None,
            restart: Restart::Never,
            restart_limit: None,
            ready: Ready::Started,
            ready_timeout: Duration(0),
            shutdown: None,
            watchdog: None,
        };
        Manifest {
            end_with: end_with.iter().map(|&name| name.into()).collect(),
            stay: false,
            system_control: SystemControl::default(),
            requests: Requests::default(),
            programs: vec![],
            machine: Machine { processors: 1, memory: MemorySize(1 << 30) },
            partitions: names.iter().map(partition).collect(),
        }
    }

    #[test]
    fn ends_with_all_and_the_first_failure() {
        let mut all = Supervisor::new(&manifest(&["a", "b", "c", "d"], &[]));
        assert_eq!(all.ended(2, EndReason::PoweredOff, 0), Next::Wait);
        assert_eq!(all.ended(0, EndReason::Fault, 0), Next::Wait);
        assert_eq!(all.ended(1, EndReason::Exited, 3), Next::Wait);
        assert!(all.runs(3) && !all.runs(0));
        assert_eq!(all.ended(3, EndReason::Exited, 0), Next::Finish(STATUS_FAULT));
    }

    #[test]
    fn ends_with_those_named_and_their_status_alone() {
        let mut some = Supervisor::new(&manifest(&["a", "b", "c"], &["b"]));
        assert_eq!(some.ended(0, EndReason::Fault, 0), Next::Wait);
        assert_eq!(some.ended(1, EndReason::Exited, 0), Next::Finish(0));
        assert!(some.runs(2));
    }

    #[test]
    fn a_reset_is_not_an_end() {
        let mut one = Supervisor::new(&manifest(&["a"], &[]));
        assert_eq!(one.ended(0, EndReason::Reset, 0), Next::Restart);
        assert!(one.runs(0));
        assert_eq!(one.not_restarted(0), Next::Finish(STATUS_NOT_STARTED));
        assert!(!one.runs(0));
    }

    #[test]
    fn restarts_as_the_manifest_says() {
        let with = |restart, restart_limit| {
            let mut manifest = manifest(&["a"], &[]);
            manifest.partitions[0].restart = restart;
            manifest.partitions[0].restart_limit = restart_limit;
            Supervisor::new(&manifest)
        };
        let mut failing = with(Restart::OnFailure, Some(2));
        assert_eq!(failing.ended(0, EndReason::Fault, 0), Next::Restart);
        assert_eq!(failing.ended(0, EndReason::Exited, 1), Next::Restart);
        assert_eq!(failing.ended(0, EndReason::Exited, 7), Next::Finish(7));
        assert_eq!(with(Restart::OnFailure, None).ended(0, EndReason::Exited, 0), Next::Finish(0));
        assert_eq!(with(Restart::OnFailure, None).ended(0, EndReason::Stopped, 0), Next::Finish(0));
        let mut always = with(Restart::Always, None);
        for _ in 0..RESTART_LIMIT {
            assert_eq!(always.ended(0, EndReason::PoweredOff, 0), Next::Restart);
        }
        assert_eq!(always.ended(0, EndReason::PoweredOff, 0), Next::Finish(0));
        let mut reset = with(Restart::Never, Some(1));
        assert_eq!(reset.ended(0, EndReason::Reset, 0), Next::Restart);
        assert_eq!(reset.ended(0, EndReason::Reset, 0), Next::Finish(0));
    }

    #[test]
    fn the_next_init_goes_on_where_the_last_one_was() {
        let manifest = manifest(&["a", "b"], &[]);
        let mut first = Supervisor::new(&manifest);
        assert_eq!(first.ended(0, EndReason::Exited, 4), Next::Wait);
        let (status, past) = first.past();
        let mut second = Supervisor::new(&manifest);
        second.remember(status, &past);
        assert_eq!(second.next(), Next::Wait);
        assert_eq!(second.ended(1, EndReason::Exited, 5), Next::Finish(4));
    }

    #[test]
    fn a_status_never_wraps_to_success() {
        let mut one = Supervisor::new(&manifest(&["a"], &[]));
        assert_eq!(one.ended(0, EndReason::Exited, 256), Next::Finish(255));
    }

    #[test]
    fn who_stays_never_ends_and_nobody_ends_twice() {
        let mut stays = Supervisor::new(&Manifest { stay: true, ..manifest(&["a"], &[]) });
        assert_eq!(stays.ended(0, EndReason::Exited, 1), Next::Wait);
        let mut two = Supervisor::new(&manifest(&["a", "b"], &[]));
        assert_eq!(two.ended(0, EndReason::Exited, 0), Next::Wait);
        assert_eq!(two.ended(0, EndReason::Exited, 1), Next::Wait);
        assert_eq!(two.ended(7, EndReason::Exited, 1), Next::Wait);
        assert_eq!(two.ended(1, EndReason::Exited, 0), Next::Finish(0));
    }

    #[test]
    fn lines() {
        assert_eq!(end_line("linux", EndReason::Exited, 0), "linux has exited with status 0");
        assert_eq!(
            end_line("crash", EndReason::Fault, 0),
            "crash died: fatal fault (the control OS's console tells where)"
        );
    }
}
