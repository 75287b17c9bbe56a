//! What wakes init, and the threads that wait for it. Each waits for one thing, so that nothing that does not come keeps the others.

use std::{
    fs::File,
    io::{self, Read},
    process::{Child, ExitStatus},
    sync::mpsc::{Receiver, Sender, SyncSender, sync_channel},
    thread,
    time::Duration,
};

use handover_control::{
    Channel, Event as Signal, Given, Listener, Orders, PartitionId, Service, Signals,
    abi::resources::{Answer, Outcome, Request, SERVICE},
    requests::{DECISION, Decision},
};

/// Connections of one partition, and of all together, that init serves at once.
const CONNECTIONS: (usize, usize) = (4, 128);
/// Bytes of a waiting thread's stack.
const STACK: usize = 64 << 10;
/// How long between two attempts at a service of a guest that starts.
const AGAIN: Duration = Duration::from_millis(10);

/// Something that has happened.
#[derive(Debug)]
pub enum Event {
    /// A partition has ended.
    Ended(PartitionId),
    /// A partition of this index in the manifest serves.
    PartitionReady(usize),
    /// A program of this index serves, or never will.
    ProgramReady(usize),
    /// A program of this index has ended.
    ProgramEnded(usize, io::Result<ExitStatus>),
    /// The program that decides has decided.
    Decided(Decision),
    /// A guest asks for something; the answer goes to the sender.
    Asked(PartitionId, Request, SyncSender<Outcome>),
    /// A program orders something.
    Ordered(Given),
    /// A connection is wanted (true) or has ended: whose.
    Connection(PartitionId, SyncSender<bool>),
    /// A connection has ended.
    Disconnected(PartitionId),
    /// Something that init cannot do without.
    Lost(&'static str, io::Error),
}

/// Where events go.
#[derive(Clone, Debug)]
pub struct Events(pub Sender<Event>);

impl Events {
    fn send(&self, event: Event) {
        // Nobody takes it when init is about to end the machine.
        let _unheard = self.0.send(event);
    }

    /// Has a thread wait for something.
    fn spawn(&self, name: &str, work: impl FnOnce(Events) + Send + 'static) -> io::Result<()> {
        let events = self.clone();
        let thread = thread::Builder::new().name(name.to_owned()).stack_size(STACK);
        thread.spawn(move || work(events)).map(drop)
    }

    /// Partitions' ends.
    pub fn signals(&self, mut signals: Signals) -> io::Result<()> {
        self.spawn("signals", move |events| {
            loop {
                match signals.next() {
                    Ok(Signal::Ended { partition, .. }) => events.send(Event::Ended(partition)),
                    Ok(Signal::Other { .. }) => {}
                    Err(error) => return events.send(Event::Lost("signals", error)),
                }
            }
        })
    }

    /// Programs' orders.
    pub fn orders(&self, mut orders: Orders) -> io::Result<()> {
        self.spawn("orders", move |events| {
            loop {
                match orders.next() {
                    Ok(given) => events.send(Event::Ordered(given)),
                    Err(error) => return events.send(Event::Lost("orders", error)),
                }
            }
        })
    }

    /// A program's readiness, its verdicts and its end.
    pub fn program(&self, index: usize, mut ready: File, mut child: Child) -> io::Result<()> {
        self.spawn("readiness", move |events| {
            // An end without a word is the program's end, and told as that.
            let _word = ready.read(&mut [0]);
            events.send(Event::ProgramReady(index));
        })?;
        self.spawn("program", move |events| events.send(Event::ProgramEnded(index, child.wait())))
    }

    /// A program's verdicts.
    pub fn decisions(&self, mut decisions: File) -> io::Result<()> {
        self.spawn("verdicts", move |events| {
            let mut bytes = [0; DECISION];
            while decisions.read_exact(&mut bytes).is_ok() {
                if let Some(decision) = Decision::from_bytes(&bytes) {
                    events.send(Event::Decided(decision));
                }
            }
        })
    }

    /// Whether all of a starting partition's services accept a channel.
    pub fn probe(&self, index: usize, services: Vec<Service>) -> io::Result<()> {
        self.spawn("readiness", move |events| {
            for service in services {
                while let Err(error) = Channel::connect(&service) {
                    match error.kind() {
                        io::ErrorKind::ConnectionRefused => thread::sleep(AGAIN),
                        // It has ended, which is told otherwise.
                        _ => return,
                    }
                }
            }
            events.send(Event::PartitionReady(index));
        })
    }

    /// Guests' requests.
    pub fn requests(&self) -> io::Result<()> {
        let listener = Listener::listen_on(SERVICE)?;
        self.spawn("requests", move |events| {
            loop {
                match listener.accept() {
                    Ok((channel, partition)) => events.connection(channel, partition),
                    Err(error) => return events.send(Event::Lost("requests", error)),
                }
            }
        })
    }

    fn connection(&self, channel: Channel, partition: PartitionId) {
        let (admitted, answer) = sync_channel(1);
        self.send(Event::Connection(partition, admitted));
        if answer.recv() != Ok(true) {
            return;
        }
        let served = self.spawn("request", move |events| {
            events.serve(&channel, partition);
            drop(channel);
            events.send(Event::Disconnected(partition));
        });
        if served.is_err() {
            self.send(Event::Disconnected(partition));
        }
    }

    /// Serves a connection until it closes, one request at a time: who floods it waits for itself.
    fn serve(&self, channel: &Channel, partition: PartitionId) {
        let (reply, answers) = sync_channel(1);
        while let Ok(Some(message)) = channel.receive() {
            let (tag, outcome) = match Request::from_bytes(&message.short) {
                Err(tag) => (tag, Outcome::Failed(handover_control::abi::Error::InvalidArgument)),
                Ok(request) => {
                    self.send(Event::Asked(partition, request, reply.clone()));
                    match answers.recv() {
                        Ok(outcome) => (request.tag, outcome),
                        Err(_) => return,
                    }
                }
            };
            if channel.send(&Answer { tag, outcome }.to_bytes()[..]).is_err() {
                return;
            }
        }
    }
}

/// Counts connections.
#[derive(Debug, Default)]
pub struct Connections(Vec<PartitionId>);

impl Connections {
    /// Whether one more of this partition's is served; if so, it counts.
    pub fn admit(&mut self, partition: PartitionId) -> bool {
        let of_it = self.0.iter().filter(|&&other| other == partition).count();
        let admitted = of_it < CONNECTIONS.0 && self.0.len() < CONNECTIONS.1;
        if admitted {
            self.0.push(partition);
        }
        admitted
    }

    /// One has ended.
    pub fn ended(&mut self, partition: PartitionId) {
        if let Some(at) = self.0.iter().position(|&other| other == partition) {
            self.0.swap_remove(at);
        }
    }
}

/// Where events come from.
pub type Incoming = Receiver<Event>;
