//! A partition that does what the fuzzing one tells it: it hoards memory, gives regions, dies and comes back.

use core::{
    arch::asm,
    sync::atomic::{AtomicU64, Ordering},
};

use arrayvec::ArrayVec;
use handover_guest::{
    Boot, Causes, Channel, Error, PartitionId, Port, Region, Short, Status,
    abi::{Call, MessageWord, SHORT_WORDS},
    calls, events, hvc, interrupts, println, processor, psci, signals, timer,
};

use crate::{
    coverage::{self, Outcome},
    run::wait_until_off,
    stream::{PORTS, Stream},
    window,
};

/// Commands: the first word of a short message.
const HOARD: u64 = 1;
const RELEASE: u64 = 2;
/// The second word is log2 of the bytes; the answer is a message with a region.
const GIVE: u64 = 3;
const RESET: u64 = 4;
/// Gives one region of its hoard back, if there is more than one; the answer is a message.
const SHED: u64 = 5;
/// Answers direct calls until one has the word [`LEAVE`] first.
const SERVE: u64 = 6;
/// Calls. The second word says what goes with it: [`PLAIN`], [`LENDING`] or [`FROM_AFAR`].
const CALL: u64 = 7;

/// A call that ends [`SERVE`].
const LEAVE: u64 = 0x1ea7e;
const PLAIN: u64 = 0;
/// With a region of the hoard's or a new one.
const LENDING: u64 = 1;
/// What the reply brings is to land where there is no table yet.
const FROM_AFAR: u64 = 2;

/// Regions of 2 MiB, as many as its limit may ever be.
const HOARD_MAX: usize = 64;
const HOARD_SIZE: usize = 2 << 20;
/// Why a request is refused.
const REFUSED: u32 = 7;
/// Deaths that must show each state at least once.
const DEATHS: u32 = 400;
/// Processors' turns between two looks at the same thing.
const TURNS: u32 = 64;
/// Looks in a second.
const LOOKS: u64 = 20_000;
/// A service that nobody provides.
const NO_SERVICE: u64 = 0xffff;

/// Makes the image large, so that making the partition again takes system-control a while.
#[used]
static BALLAST: [u8; 768 << 10] = [0xb5; 768 << 10];

/// Whom the processors without anything else to do ask for a channel; 0: nobody any more.
static ASKED: AtomicU64 = AtomicU64::new(0);

/// Role `partner`.
pub(crate) fn serve(boot: &Boot) -> Result<Status, Error> {
    let Some(service) = boot.provided("partner") else {
        println!(
            "fuzz: the device tree lists no service \"partner\" of this partition; add it to the manifest"
        );
        return Ok(Status::FAILURE);
    };
    let mut channel: Option<Channel> = None;
    let mut hoard: ArrayVec<Region, HOARD_MAX> = ArrayVec::new();
    loop {
        let event = events::wait()?;
        if event.port == Port::CONTROL {
            while let Some(signal) = signals::next()? {
                let signals::Signal::Connect(request) = signal else { continue };
                if request.service == service && channel.is_none() {
                    channel = Some(request.accept()?);
                } else {
                    // Who asked may have gone.
                    let _gone: Result<(), Error> = request.refuse(REFUSED);
                }
            }
        }
        loop {
            let message = match channel.as_mut().map_or(Ok(None), Channel::receive) {
                Ok(Some(message)) => message,
                Ok(None) => break,
                // Who gave the commands has gone.
                Err(Error::PeerClosed) => {
                    channel = None;
                    break;
                }
                Err(error) => return Err(error),
            };
            let [command, argument, ..] = *message.short.words();
            match command {
                HOARD => {
                    while let Ok(region) = Region::create(HOARD_SIZE)
                        && hoard.try_push(region).is_ok()
                    {}
                }
                RELEASE => hoard.clear(),
                SHED if hoard.len() > 1 => _ = hoard.pop(),
                SERVE => {
                    if let Some(channel) = &mut channel {
                        serve_calls(channel);
                    }
                    continue;
                }
                CALL => {
                    if let Some(channel) = &mut channel {
                        make_call(channel, argument, hoard.last_mut());
                    }
                    continue;
                }
                RESET => psci::system_reset(),
                _ => {}
            }
            let Some(channel) = &channel else { continue };
            if command == GIVE {
                channel.send(Region::create(1 << argument)?)?;
            } else {
                let mut words = [0; SHORT_WORDS];
                words[0] = hoard.len() as u64;
                channel.send(Short::from_words(words))?;
            }
        }
    }
}

/// Answers calls, each with its region.
fn serve_calls(channel: &mut Channel) {
    let channels = core::slice::from_mut(channel);
    let mut short = Short::EMPTY;
    loop {
        let (region, last) = match calls::wait(channels, &mut short) {
            Ok(Some(call)) => (call.region, short.words()[0] == LEAVE),
            // There may be no room for what comes, until its caller gives up.
            Ok(None) | Err(_) => {
                // The events stay, to be taken later.
                while interrupts::take() {}
                processor::yield_now();
                continue;
            }
        };
        // Who called may have given up.
        let _gone = calls::reply(region, &short);
        if last {
            return;
        }
    }
}

fn make_call(channel: &mut Channel, how: u64, hoarded: Option<&mut Region>) {
    let mut short = Short::from(b"a call");
    let _answer = match how {
        LENDING => {
            let mut fresh = if hoarded.is_none() { Region::create(4096).ok() } else { None };
            hoarded.or(fresh.as_mut()).map(|region| channel.call_lending(region, &mut short))
        }
        FROM_AFAR => {
            let far = window::fresh(window::FRESH_GIBS - 2);
            let _set: Result<(), Error> = hvc::call_setup(channel.port(), far, 0);
            let word = MessageWord::new(channel.port(), None, 8);
            let mut words = [0; SHORT_WORDS];
            // SAFETY: no region goes with it, and what comes is given back at once.
            if let Ok(word) = unsafe { hvc::call(word, &mut words) }
                && let Some(region) = word.region()
            {
                // SAFETY: nothing refers to it.
                let _gone: Result<(), Error> = unsafe { hvc::region_destroy(region) };
            }
            // Where the channel believes that it is.
            let _set = channel.set_patience(0);
            None
        }
        _ => Some(channel.call(None, &mut short)),
    };
}

/// The partner as the fuzzing partition knows it.
pub(crate) struct Partner {
    pub(crate) id: u64,
    service: u64,
    pub(crate) port: u64,
    /// A port to somebody else, who serves nobody.
    pub(crate) stranger: u64,
}

/// Asks for a channel to a service and waits until there is an answer; the port.
pub(crate) fn open(stream: &mut Stream, partition: u64, service: u64) -> u64 {
    let answer = stream.call(Call::Connect, &[partition, service]);
    if !answer.done() {
        stream.fail(format_args!("no channel to partition {partition}: {:?}", answer.outcome));
        return 0;
    }
    let port = answer.x[1];
    PORTS.hide(port);
    wait_for(stream, port, Causes::CONNECTED | Causes::REFUSED | Causes::PEER_CLOSED);
    port
}

fn turns() {
    for _ in 0..TURNS {
        processor::yield_now();
    }
}

/// Waits until one of the causes holds at a port.
fn wait_for(stream: &Stream, port: u64, causes: Causes) {
    while !has(stream, port, causes) {
        turns();
    }
}

/// Whether one of the causes holds at a port, or nothing ever will.
fn has(stream: &Stream, port: u64, causes: Causes) -> bool {
    hvc::port_status(Port::new(port as u32)).map_or_else(
        |error| {
            stream.fail(format_args!("port {port}: {error}"));
            true
        },
        |status| status.causes.intersects(causes),
    )
}

impl Partner {
    /// Connects to it.
    pub(crate) fn open(stream: &mut Stream, id: PartitionId, service: u64, stranger: u64) -> Partner {
        let id = u64::from(id.get());
        let port = open(stream, id, service);
        Partner { id, service, port, stranger }
    }

    /// Has it answer direct calls, until [`Partner::leave`].
    pub(crate) fn serve(&mut self, stream: &mut Stream) {
        self.tell(stream, SERVE, 0);
    }

    pub(crate) fn leave(&mut self, stream: &mut Stream) {
        let mut arguments = [0; 17];
        arguments[0] = MessageWord::new(Port::new(self.port as u32), None, 16).to_register();
        arguments[1] = LEAVE;
        stream.call(Call::Call, &arguments);
    }

    /// Has it call, lending a region or not.
    pub(crate) fn call(&mut self, stream: &mut Stream, lending: bool) {
        self.tell(stream, CALL, if lending { LENDING } else { PLAIN });
    }

    /// Has it call once it has been answered.
    pub(crate) fn call_after(&mut self, stream: &mut Stream) {
        self.tell(stream, CALL, PLAIN);
    }

    /// Has it call; a region that the reply brings is to land where there is no table yet.
    pub(crate) fn call_from_afar(&mut self, stream: &mut Stream) {
        self.tell(stream, CALL, FROM_AFAR);
    }

    /// Has it give back a little of what it has hoarded.
    pub(crate) fn shed(&mut self, stream: &mut Stream) {
        self.command(stream, SHED);
    }

    fn tell(&self, stream: &mut Stream, command: u64, argument: u64) {
        let mut arguments = [0; 17];
        arguments[0] = MessageWord::new(Port::new(self.port as u32), None, 16).to_register();
        arguments[1] = command;
        arguments[2] = argument;
        let answer = stream.call(Call::Send, &arguments);
        if !answer.done() {
            stream.fail(format_args!("the partner cannot be told {command}: {:?}", answer.outcome));
        }
    }

    fn command(&self, stream: &mut Stream, command: u64) -> u64 {
        self.tell(stream, command, 0);
        wait_for(stream, self.port, Causes::MESSAGE | Causes::PEER_CLOSED);
        let answer = stream.call(Call::Receive, &[self.port, 0]);
        if !answer.done() {
            stream.fail(format_args!("the partner does not answer {command}: {:?}", answer.outcome));
        }
        answer.x[2]
    }

    /// Has it take as much memory as it may.
    pub(crate) fn hoard(&mut self, stream: &mut Stream) {
        if self.command(stream, HOARD) == 0 {
            stream.fail(format_args!("the partner gets no memory"));
        }
    }

    /// Has it give that back.
    pub(crate) fn release(&mut self, stream: &mut Stream) {
        self.command(stream, RELEASE);
    }

    /// Has it send a region of `1 << order` bytes, which then waits at the port that is returned.
    pub(crate) fn give(&mut self, stream: &mut Stream, order: u8) -> u64 {
        self.tell(stream, GIVE, u64::from(order));
        wait_for(stream, self.port, Causes::MESSAGE | Causes::PEER_CLOSED);
        self.port
    }

    /// Has it die and come back, under its id, and asks it for channels all the while.
    pub(crate) fn die(&mut self, stream: &mut Stream) {
        self.tell(stream, RESET, 0);
        while !has(stream, self.port, Causes::PEER_CLOSED) {
            ask(stream, self.id);
            turns();
        }
        stream.call(Call::Disconnect, &[self.port]);
        while ask(stream, self.id) != Outcome::Done {
            turns();
        }
        self.port = open(stream, self.id, self.service);
    }

    /// Has it die until each state of a partition's life has been seen. A partition that has been made and not started is seen only
    /// while system-control works on another processor.
    pub(crate) fn die_in_all_states(&mut self, stream: &mut Stream) {
        ASKED.store(self.id, Ordering::Relaxed);
        let helpers = 1..stream.setting.processors;
        for index in helpers.clone() {
            if let Err(error) = processor::start(index, help, index) {
                stream.fail(format_args!("processor {index} does not start: {error}"));
            }
        }
        for _ in 0..DEATHS {
            self.die(stream);
            if coverage::all_states_seen(stream.setting.processors) {
                break;
            }
        }
        ASKED.store(0, Ordering::Relaxed);
        wait_until_off(helpers);
    }

    /// Disconnects.
    pub(crate) fn close(self, stream: &mut Stream) {
        stream.call(Call::Disconnect, &[self.port]);
    }
}

/// Asks a partition for a service that it has not.
fn ask(stream: &mut Stream, partition: u64) -> Outcome {
    let answer = stream.call(Call::Connect, &[partition, NO_SERVICE]);
    if answer.done() {
        stream.call(Call::Disconnect, &[answer.x[1]]);
    }
    answer.outcome
}

/// Another processor's part: it looks at short intervals, whatever else the machine does. On an emulator whose processors run one at a
/// time, its timer is what lets it have a look at what another processor does not interrupt.
fn help(index: usize) {
    let mut stream = Stream::helper(index);
    loop {
        match ASKED.load(Ordering::Relaxed) {
            0 => return,
            partition => ask(&mut stream, partition),
        };
        let next = timer::now() + timer::frequency() / LOOKS;
        // SAFETY: the physical timer's interrupt is not enabled, and nobody else uses the timer.
        unsafe {
            asm!("msr cntp_cval_el0, {}", "msr cntp_ctl_el0, {}", "isb", in(reg) next, in(reg) 1u64, options(nomem, nostack))
        };
        processor::yield_now();
    }
}
