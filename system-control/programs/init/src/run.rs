//! From the manifest to the machine's end.

use std::{
    collections::HashSet,
    fmt, io,
    path::Path,
    sync::mpsc::{RecvTimeoutError, SyncSender, channel},
    time::{Duration, Instant},
};

use handover_control::{
    Given, Machine, MappedFile, Order, Orders, PARTITIONS, PartitionId, SERVICES, Signals,
    abi::resources::{Ask, Outcome, Request},
    requests::Query,
};
use handover_loader::{archive::Failure, partition::Content};
use handover_manifest::Manifest;
use init::{
    front::{Front, Settled},
    memory::Memory,
    programs::{self, Queries, Restarts},
    shares::{self, Account},
    supervise::{STATUS_MAX, STATUS_NOT_STARTED},
    system::{Running, System, Watch},
};

use crate::events::{Connections, Event, Events, Incoming};
use crate::messages::say;

/// The manifest, as `cargo xtask` has put it into the boot archive.
const MANIFEST: &str = "/manifest.toml";
/// How long programs that provide services may take before the partitions start without them.
const PROGRAMS_READY: Duration = Duration::from_secs(10);
/// How long programs may take to end when they are told to.
const PROGRAMS_END: Duration = Duration::from_millis(500);
/// How long init waits when there is nothing to wait for.
const LONG: Duration = Duration::from_secs(3600);

/// Why init cannot go on: a sentence without a full stop.
pub struct Fatal(String);

impl fmt::Display for Fatal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<handover_control::Error> for Fatal {
    fn from(error: handover_control::Error) -> Fatal {
        Fatal(error.to_string())
    }
}

/// Runs the system to its end. Returns only if the machine cannot be ended, or before it is in use.
pub fn run() -> Fatal {
    let machine = match Machine::open() {
        Ok(machine) => machine,
        Err(error) => return error.into(),
    };
    let status = boot(&machine).unwrap_or_else(|failure| {
        say(&failure.to_string());
        STATUS_NOT_STARTED
    });
    machine.off(status).into()
}

fn failed(what: &str, error: &dyn fmt::Display) -> Failure {
    Failure(format!("{what}: {error}"))
}

/// The machine's status.
fn boot(machine: &Machine) -> Result<u64, Failure> {
    let manifest =
        handover_manifest::read(Path::new(MANIFEST)).map_err(|error| Failure(error.to_string()))?;
    let files: Vec<_> = manifest.partitions.iter().map(Files::open).collect::<Result<_, _>>()?;
    let contents = files.iter().zip(&manifest.partitions).map(|(files, partition)| files.content(partition));
    let contents: Vec<Content<'_>> = contents.collect::<Result<_, _>>()?;
    let former = Memory::read(Path::new(PARTITIONS))
        .map_err(|error| failed("what the former init has left is unreadable", &error))?;

    let memory =
        programs::memory().map_err(|error| failed("what memory there is cannot be found out", &error))?;
    let accounts = shares::divide(&manifest.programs, memory).map_err(Failure)?;
    let (sender, incoming) = channel();
    let events = Events(sender);
    let signals = Signals::open().map_err(|error| failed("signals cannot be read", &error))?;
    events.signals(signals).map_err(|error| failed("no thread can be made", &error))?;
    let orders = Orders::open().map_err(|error| failed("orders cannot be taken", &error))?;
    events.orders(orders).map_err(|error| failed("no thread can be made", &error))?;
    if manifest.takes_requests() {
        events.requests().map_err(|error| failed("requests cannot be listened for", &error))?;
    }

    if former.is_some() {
        say("the former init has ended: this one goes on where it was");
    }
    let known = former.clone().unwrap_or_default();
    let system = System::make(machine.clone(), &manifest, contents, &known, say, remember)?;
    let mut init = Init {
        machine,
        manifest: &manifest,
        system,
        front: Front::new(&manifest),
        events,
        connections: Connections::default(),
        queries: None,
        restarts: manifest.programs.iter().map(|_| Restarts::default()).collect(),
        unready: HashSet::new(),
        processes: vec![None; manifest.programs.len()],
        accounts,
        programs_until: Instant::now() + PROGRAMS_READY,
    };
    remember(&init.system);
    if former.is_some()
        && let Some(status) = init.system.catch_up()
    {
        return Ok(init.finish(&incoming, status));
    }
    init.start_programs();
    init.follow(&incoming)
}

/// Leaves for the next init, and for programs, what they have to know.
fn remember(system: &System<'_>) {
    let written = system.memory().write(Path::new(PARTITIONS));
    if let Err(error) = written.and_then(|()| system.services().write(Path::new(SERVICES))) {
        say(&format!("what the next init has to know cannot be written: {error}"));
    }
}

/// A partition's files, mapped where they lie.
struct Files {
    kernel: MappedFile,
    initramfs: Option<MappedFile>,
}

impl Files {
    fn open(partition: &handover_manifest::Partition) -> Result<Files, Failure> {
        let open = |name: &String| {
            let path = Path::new("/").join(name);
            // SAFETY: the boot archive's files never change.
            unsafe { MappedFile::open(&path) }
                .map_err(|error| failed(&format!("{} cannot be read", path.display()), &error))
        };
        Ok(Files {
            kernel: open(&partition.kernel)?,
            initramfs: partition.initramfs.as_ref().map(open).transpose()?,
        })
    }

    fn content(&self, partition: &handover_manifest::Partition) -> Result<Content<'_>, Failure> {
        Content::plan(&self.kernel, self.initramfs.as_deref(), partition.memory.0).map_err(|error| {
            Failure(format!("{} cannot be started from `{}`: {error}", partition.name, partition.kernel))
        })
    }
}

struct Init<'a> {
    machine: &'a Machine,
    manifest: &'a Manifest,
    system: System<'a>,
    front: Front<SyncSender<Outcome>>,
    events: Events,
    connections: Connections,
    /// To the program that decides, while it runs.
    queries: Option<Queries>,
    restarts: Vec<Restarts>,
    /// Each program's.
    accounts: Vec<Option<Account>>,
    /// Each program's process, while it runs.
    processes: Vec<Option<u32>>,
    /// Programs that the partitions wait for.
    unready: HashSet<usize>,
    programs_until: Instant,
}

impl Init<'_> {
    /// Follows events until the machine is to end.
    fn follow(&mut self, incoming: &Incoming) -> Result<u64, Failure> {
        loop {
            let now = Instant::now();
            for settled in self.front.expired(self.machine, now) {
                answer(settled);
            }
            if self.unready.is_empty() || now >= self.programs_until {
                self.unready.clear();
                while let Some(watch) = self.system.advance(now)? {
                    self.watch(watch);
                }
            }
            let programs = (!self.unready.is_empty()).then_some(self.programs_until);
            let deadline =
                [programs, self.front.deadline(), self.system.deadline()].into_iter().flatten().min();
            let wait = deadline.map_or(LONG, |deadline| deadline.saturating_duration_since(Instant::now()));
            match incoming.recv_timeout(wait) {
                Ok(event) => {
                    if let Some(status) = self.handle(event)? {
                        return Ok(self.finish(incoming, status));
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(Failure("nothing more can happen".into())),
            }
        }
    }

    /// The machine's status, if that was the end.
    fn handle(&mut self, event: Event) -> Result<Option<u64>, Failure> {
        match event {
            Event::Ended(partition) => {
                let status = self.system.ended(partition);
                remember(&self.system);
                return Ok(status);
            }
            Event::PartitionReady(index) => self.system.ready(index),
            Event::ProgramReady(index) => _ = self.unready.remove(&index),
            Event::ProgramEnded(index, status) => self.program_ended(index, status),
            Event::Decided(decision) => {
                if let Some(settled) = self.front.decided(self.machine, decision) {
                    answer(settled);
                }
            }
            Event::Asked(partition, request, reply) => self.asked(partition, request, reply),
            Event::Ordered(given) => return Ok(self.ordered(given)),
            Event::Connection(partition, admitted) => {
                let _gone = admitted.send(self.connections.admit(partition));
            }
            Event::Disconnected(partition) => self.connections.ended(partition),
            Event::Lost(what, error) => {
                return Err(failed(&format!("{what} cannot be taken any more"), &error));
            }
        }
        Ok(None)
    }

    fn watch(&mut self, watch: Watch) {
        if watch.services.is_empty() {
            return;
        }
        if let Err(error) = self.events.probe(watch.index, watch.services) {
            say(&format!("readiness cannot be waited for: {error}"));
        }
    }

    fn start_programs(&mut self) {
        for (index, program) in self.manifest.programs.iter().enumerate() {
            if !program.provides.is_empty() || program.decides {
                self.unready.insert(index);
            }
            self.start_program(index);
        }
    }

    fn start_program(&mut self, index: usize) {
        let Some(program) = self.manifest.programs.get(index) else { return };
        let started =
            programs::start(program, self.accounts.get(index).copied().flatten()).and_then(|started| {
                if let Some(process) = self.processes.get_mut(index) {
                    *process = Some(started.child.id());
                }
                self.events.program(index, started.ready, started.child)?;
                if let Some(decisions) = started.decisions {
                    self.events.decisions(decisions)?;
                }
                Ok(started.queries)
            });
        match started {
            Ok(Some(queries)) => {
                // Those that wait already are its to decide, too.
                self.queries = Some(queries);
                let waiting: Vec<Query> = self.front.queries().cloned().collect();
                waiting.iter().for_each(|query| self.query(query));
            }
            Ok(None) => {}
            Err(error) => {
                say(&format!("program {} cannot be started: {error}", program.name()));
                self.unready.remove(&index);
            }
        }
    }

    fn program_ended(&mut self, index: usize, status: io::Result<std::process::ExitStatus>) {
        let (Some(program), Some(restarts)) =
            (self.manifest.programs.get(index), self.restarts.get_mut(index))
        else {
            return;
        };
        self.unready.remove(&index);
        if let Some(process) = self.processes.get_mut(index) {
            *process = None;
        }
        if program.decides {
            self.queries = None;
        }
        match status {
            Ok(status) => {
                say(&programs::end_line(program.name(), status));
                if restarts.again(program, status) {
                    self.start_program(index);
                }
            }
            Err(error) => {
                say(&format!("how program {} has ended cannot be found out: {error}", program.name()))
            }
        }
    }

    fn asked(&mut self, partition: PartitionId, Request { ask, .. }: Request, reply: SyncSender<Outcome>) {
        let outcome = match ask {
            Ask::More { account, amount } => {
                let name = self.system.name_of(partition).unwrap_or_default();
                let asked =
                    self.front.ask(self.machine, (partition, name), (account, amount), reply, Instant::now());
                match asked {
                    Ok(query) if self.decides() => self.query(&query),
                    Ok(query) => {
                        self.front.undecided(self.machine, query.ticket).into_iter().for_each(answer)
                    }
                    Err((reply, outcome)) => _ = reply.try_send(outcome),
                }
                return;
            }
            Ask::Provider { service } => {
                let handover_control::Services(services) = self.system.services();
                let found = services.iter().find(|known| known.id == service);
                Outcome::Granted(found.map_or(0, |found| found.partition.get().into()))
            }
            Ask::Ready => {
                self.system.told_ready(partition);
                Outcome::Granted(0)
            }
        };
        // Who asked waits for this one answer; if not any more, it is nobody's.
        let _gone = reply.try_send(outcome);
    }

    /// Carries an order out. The machine's status, if that is its end.
    fn ordered(&mut self, given: Given) -> Option<u64> {
        let mut end = None;
        let result = match &given.order {
            Err(wrong) => Err(wrong.clone()),
            Ok(Order::Start(name)) => {
                let started = self.system.start(name);
                remember(&self.system);
                started.map_err(|failure| failure.to_string())
            }
            Ok(Order::End(status)) => {
                end = Some((*status).min(STATUS_MAX));
                Ok(())
            }
        };
        // Who ordered it may be gone.
        let _unheard = given.answer(match &result {
            Ok(()) => Ok(()),
            Err(why) => Err(why),
        });
        end
    }

    /// Whether any program decides, or will again.
    fn decides(&self) -> bool {
        self.manifest.programs.iter().any(|program| program.decides)
    }

    fn query(&mut self, query: &Query) {
        // A program that is dead or does not read decides nothing: the time limit does.
        if let Some(queries) = &mut self.queries {
            let _undecided = queries.ask(query);
        }
    }

    /// Ends what still runs, the last one first: it is asked, if the manifest gives it time for that, and then stopped. The machine's status.
    fn finish(&mut self, incoming: &Incoming, status: u64) -> u64 {
        for Running { partition, shutdown } in self.system.running() {
            if let Some(within) = shutdown {
                self.ask(incoming, partition, within);
            }
            self.system.stop(partition);
        }
        self.end_programs(incoming);
        status
    }

    /// Tells programs to end, and kills those that do not.
    fn end_programs(&mut self, incoming: &Incoming) {
        self.signal_programs(libc::SIGTERM);
        let deadline = Instant::now() + PROGRAMS_END;
        while self.processes.iter().any(Option::is_some) {
            match incoming.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(Event::ProgramEnded(index, status)) => self.program_ended_last(index, status),
                Ok(_) => {}
                Err(_) => break,
            }
        }
        for (program, _) in
            self.manifest.programs.iter().zip(&self.processes).filter(|(_, process)| process.is_some())
        {
            say(&format!("program {} does not end when it is told to, and is killed", program.name()));
        }
        self.signal_programs(libc::SIGKILL);
    }

    /// The last one first.
    fn signal_programs(&self, signal: libc::c_int) {
        for &process in self.processes.iter().rev().flatten() {
            // SAFETY: touches no memory. The process is a child that was not waited for, or its end is about to be told.
            unsafe { libc::kill(process as libc::pid_t, signal) };
        }
    }

    /// A program has ended when all ends.
    fn program_ended_last(&mut self, index: usize, status: io::Result<std::process::ExitStatus>) {
        if let Some(process) = self.processes.get_mut(index) {
            *process = None;
        }
        if let (Some(program), Ok(status)) = (self.manifest.programs.get(index), status) {
            say(&programs::end_line(program.name(), status));
        }
    }

    /// Asks a partition to shut down, and waits until it has or the time is over.
    fn ask(&mut self, incoming: &Incoming, partition: PartitionId, within: handover_manifest::Duration) {
        if let Err(error) = self.machine.partition(partition).shutdown(within.0) {
            return say(&error.to_string());
        }
        let deadline = Instant::now() + Duration::from_nanos(within.0);
        while self.system.name_of(partition).is_some() {
            match incoming.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(Event::Ended(partition)) => self.system.ended_last(partition),
                Ok(Event::ProgramEnded(index, status)) => self.program_ended_last(index, status),
                Ok(_) => {}
                Err(_) => {
                    return say(&format!(
                        "{} does not end within {within}",
                        self.system.name_of(partition).unwrap_or_default()
                    ));
                }
            }
        }
    }
}

fn answer(settled: Settled<SyncSender<Outcome>>) {
    // The asker may be gone.
    let _gone = settled.reply.try_send(settled.outcome);
}
