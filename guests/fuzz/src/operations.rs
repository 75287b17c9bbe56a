//! One operation after another, at random: mostly what makes sense in the state it is in, sometimes what does not.

use handover_guest::{
    Error,
    abi::{Call, MessageWord, Port, RegionHandle, VERSION, smccc},
};

use crate::{
    connections::word,
    content,
    coverage::Outcome,
    granules, memory, registers,
    stream::{Answer, Held, PORTS, Stream},
    window,
};

/// Services that nobody provides; the well-behaved pair's are below.
const SERVICES: u64 = 0x1000;
/// Messages of a burst: more than a queue holds.
const BURST: u64 = 70;
/// Call numbers of PSCI that would end or stop something; `CPU_ON`'s arguments are chosen with care.
const PSCI_VITAL: [u32; 5] = [1, 2, 3, 8, 9];

/// The calls that nobody here has the privilege for.
fn privileged_calls() -> &'static [Call] {
    let first = Call::ALL.iter().position(|&call| call == Call::PartitionCreate).unwrap_or(0);
    &Call::ALL[first..]
}

impl Stream {
    /// Does something.
    pub(crate) fn step(&mut self) {
        match self.random.below(100) {
            0..13 => self.create(),
            13..19 => self.map(),
            19..24 => self.unmap(),
            24..27 => self.info(),
            27..34 => self.destroy(),
            34 => self.shared_call(),
            35 => self.direct_step(),
            36..43 => self.connect(),
            43..49 => self.signal_next(),
            49..54 => self.accept(),
            54..56 => self.refuse(),
            56..60 => self.disconnect(),
            60..71 => self.send(),
            71..80 => self.receive(),
            80..83 => self.listen(),
            83..85 => self.port_call(Call::PortStatus),
            85..87 => self.port_call(Call::EventSend),
            87..90 => self.event_next(),
            90 => self.ask(),
            91 => self.privileged(),
            92 => self.strange_number(),
            93..95 => memory::access(self),
            95 => granules::step(self),
            96..99 => registers::access(self),
            _ => self.burst(),
        }
    }

    /// A number that names nothing of any partition's.
    pub(crate) fn wild(&mut self) -> u64 {
        match self.random.below(8) {
            0 => 0xff_ffff,
            1 => 0xff_fffe,
            2 => 0x80_0000,
            3 => 1 << 24 | 1,
            4 => 1 << 32 | 1,
            5 => 1 << 63,
            6 => u64::MAX,
            _ => self.random.next() | 1 << 40,
        }
    }

    fn connect(&mut self) {
        if self.ports.is_full() {
            return self.disconnect();
        }
        let [own, ..] = self.setting.peers;
        let partition = match self.random.below(32) {
            0 => self.wild(),
            1 => self.random.below(16),
            2..16 => own,
            _ => self.random.one_of(&self.setting.peers),
        };
        let service = match self.random.below(24) {
            0 => self.random.next() | 1 << 40,
            _ => word(SERVICES + self.random.below(SERVICES), self.any_flags()),
        };
        let patience = self.random.next() >> self.random.below(64);
        let answer = self.call(Call::Connect, &[partition, service, patience]);
        self.new_port(&answer);
        if partition == own && !self.random.one_in(3) {
            self.signal_next();
            self.accept();
        }
    }

    pub(crate) fn new_port(&mut self, answer: &Answer) {
        if !answer.done() {
            return;
        }
        let port = answer.x[1];
        if !self.exact() && self.random.one_in(8) {
            PORTS.show(port, &mut self.random);
        }
        if self.ports.try_push(port).is_err() {
            self.call(Call::Disconnect, &[port]);
        }
    }

    /// Mostly one of its own ports.
    pub(crate) fn port(&mut self) -> u64 {
        match self.random.below(24) {
            0 => return self.wild(),
            1 if !self.exact() => return PORTS.look(&mut self.random),
            _ => {}
        }
        match self.ports.len() as u64 {
            0 => 0,
            count => self.ports[self.random.below(count) as usize],
        }
    }

    /// Takes an event, or all of them.
    fn event_next(&mut self) {
        let all = self.random.one_in(16);
        while self.call(Call::EventNext, &[]).done() && all {}
    }

    fn signal_next(&mut self) {
        let answer = self.call(Call::SignalNext, &[]);
        if answer.done() && answer.x[1] == 1 && self.tokens.try_push(answer.x[2]).is_err() {
            self.call(Call::Refuse, &[answer.x[2], 0]);
        }
    }

    /// One of the tokens that wait for an answer, or a strange one.
    fn token(&mut self) -> u64 {
        match self.tokens.len() as u64 {
            0 => self.random.next(),
            _ if self.random.one_in(16) => self.random.next(),
            count => self.tokens.swap_remove(self.random.below(count) as usize),
        }
    }

    fn accept(&mut self) {
        if self.ports.is_full() {
            return self.disconnect();
        }
        let token = self.token();
        let answer = self.call(Call::Accept, &[token]);
        self.new_port(&answer);
    }

    fn refuse(&mut self) {
        let token = self.token();
        let reason = self.random.next() >> self.random.one_of(&[16, 40]);
        self.call(Call::Refuse, &[token, reason]);
    }

    /// Never another processor's: its owner would go on using the number, which names the next port that anybody opens.
    fn disconnect(&mut self) {
        let port = match self.ports.len() as u64 {
            0 => self.wild(),
            _ if self.random.one_in(24) => self.wild(),
            count => self.ports[self.random.below(count) as usize],
        };
        self.close(port);
    }

    fn close(&mut self, port: u64) {
        self.call(Call::Disconnect, &[port]);
        self.ports.retain(|own| *own != port);
    }

    fn port_call(&mut self, call: Call) {
        let port = self.port();
        self.call(call, &[port]);
    }

    fn send(&mut self) {
        let port = self.port();
        let length = self.random.one_of(&[0, 1, 7, 8, 9, 24, 63, 64, 120, 127, 128, 128, 128, 129, 255]);
        if self.random.one_in(2) {
            if let Some(handle) = self.strange_region() {
                // What has more bits would become something else.
                self.send_message(port, if handle >> 24 == 0 { handle } else { 0xff_ffff }, length);
                return;
            }
            if let Some(index) = self.own_region() {
                let held = self.regions[index];
                if self.send_message(port, held.handle, length).done() {
                    self.regions.swap_remove(index);
                    content::expect_gone(self, held);
                }
                return;
            }
        }
        let answer = self.send_message(port, 0, length);
        // Ports that have seen their time go sooner or later.
        if answer.outcome == Outcome::Fails(Error::PeerClosed) && self.random.one_in(4) {
            self.close(port);
        }
    }

    pub(crate) fn send_message(&mut self, port: u64, region: u64, length: u8) -> Answer {
        let region = (region != 0).then(|| RegionHandle::new(region as u32));
        let port = if port >> 24 == 0 { port as u32 } else { 0xff_ffff };
        let word = MessageWord::new(Port::new(port), region, length).to_register();
        // Bits 63:56 are ignored.
        let ignored = self.random.next() << 56;
        let data = content::message(self.random.next());
        let mut arguments = [0; 17];
        arguments[0] = word | ignored;
        arguments[1..].copy_from_slice(&data);
        self.call(Call::Send, &arguments)
    }

    fn receive(&mut self) {
        let port = self.port();
        let at = match self.random.below(16) {
            0..2 => 0,
            2..5 => window::nowhere(&mut self.random),
            _ => self.slots.small(&mut self.random),
        };
        let answer = self.receive_at(port, at);
        if answer.outcome == Outcome::Fails(Error::TooLarge) && !self.random.one_in(4) {
            let at = self.slots.large(&mut self.random);
            self.receive_at(port, at);
        }
    }

    /// `at` is one of its own places.
    pub(crate) fn receive_at(&mut self, port: u64, at: u64) -> Answer {
        let answer = self.call(Call::Receive, &[port, at]);
        if answer.done() {
            let word = MessageWord::from_register(answer.x[1]);
            content::check_message(self, word.length(), &answer.x[2..]);
            if word.port().get() as u64 != port {
                self.fail(format_args!("received from port {port}, but the word is {word:?}"));
            }
            if let Some(region) = word.region() {
                let held = Held { handle: u64::from(region.get()), order: word.order(), at };
                content::check(self, held);
                self.keep(held);
            }
        }
        answer
    }

    /// Calls that ask and change nothing.
    fn ask(&mut self) {
        match self.random.below(10) {
            0 => {
                let answer = self.call(Call::Version, &[]);
                self.expect(&answer, answer.x[1] == u64::from(VERSION), "the version");
            }
            1 => {
                let answer = self.call(Call::Identify, &[]);
                if answer.x[1] != self.setting.own || answer.x[2] != 0 {
                    self.fail(format_args!("Identify: {:x?}", &answer.x[..4]));
                }
            }
            2 => {
                self.call(Call::AccountRead, &[self.setting.own, 2]);
                self.call(Call::WatchdogKick, &[]);
            }
            3 => {
                let (id, account) = (1 + self.random.below(8), self.random.below(8));
                self.call(Call::AccountRead, &[id, account]);
            }
            4 => {
                let (id, account) = (self.wild(), self.random.next());
                self.call(Call::AccountRead, &[id, account]);
            }
            6..8 => {
                let wild = self.wild();
                let id = self.random.one_of(&[0, self.setting.own, 1, wild]);
                let processor = self.random.one_of(&[0, u64::MAX, 8, 1 << 32]);
                let first = self.random.one_of(&[0, 0x0ff, 0x100, 0x3f8, 0x400, u64::MAX]);
                self.call(Call::CountersRead, &[id, processor, first]);
            }
            5 => {
                let account = self.random.one_of(&[8, 9, 255, 1 << 32, u64::MAX]);
                self.call(Call::AccountRead, &[0, account]);
            }
            _ => {
                let account = self.random.below(8);
                self.call(Call::AccountRead, &[0, account]);
            }
        }
    }

    /// Every call of system-control's, once.
    pub(crate) fn privileged_edges(&mut self) {
        privileged_calls().iter().for_each(|call| self.privileged_call(*call));
    }

    /// A call of system-control's.
    fn privileged(&mut self) {
        let call = self.random.one_of(privileged_calls());
        self.privileged_call(call);
    }

    fn privileged_call(&mut self, call: Call) {
        let mut arguments = [0; 4];
        for argument in &mut arguments {
            *argument = if self.random.one_in(2) { self.random.below(8) } else { self.random.next() };
        }
        self.call(call, &arguments);
    }

    /// Function identifiers of nobody, and of the firmware.
    fn strange_number(&mut self) {
        let random = self.random.next();
        match self.random.below(4) {
            0 => {
                let number = u64::from(Call::BASE) | random & 0xffff;
                if Call::try_from(number).is_err() && number as u32 & 0xffff < 0xff00 {
                    self.unknown_call(number | random & 0xffff_ffff << 32);
                }
            }
            1 => {
                // Owners but the architecture (0), standard services (4) and the hypervisor (6); yielding or fast.
                let owner = self.random.one_of(&[1, 2, 3, 5, 7, 8, 50, 63]);
                self.unknown_call(random & 0xffff_ffff_c0ff_ffff | owner << 24);
            }
            2 => {
                let number = 0x8400_0000 | (random as u32 & 1 << 30) | (random as u32 >> 8 & 0x1f);
                if !PSCI_VITAL.contains(&(number & 0x1f)) {
                    let arguments = [self.random.next(), self.random.next(), self.random.next()];
                    self.firmware_call(number, &arguments);
                }
            }
            _ => self.firmware(),
        }
    }

    fn firmware(&mut self) {
        let mut argument = self.random.next() >> self.random.below(64);
        let number = self.random.one_of(&[
            smccc::VERSION,
            smccc::ARCH_FEATURES,
            smccc::VENDOR_HYP_UID,
            smccc::VENDOR_HYP_REVISION,
            smccc::TRNG_VERSION,
            smccc::TRNG_FEATURES,
            smccc::TRNG_GET_UUID,
            smccc::TRNG_RND32,
            smccc::TRNG_RND64,
            0x8400_000a, // PSCI_FEATURES
            0xc400_0004, // AFFINITY_INFO
            0xc400_0003, // CPU_ON, of nobody: all that exist are on or being started
        ]);
        if number == 0xc400_0003 {
            argument |= self.random.one_of(&[8, 1 << 8, 1 << 32, 1 << 63]);
        }
        let second = self.random.next();
        let x0 = self.firmware_call(number, &[argument, second]) as i32;
        // DEN0022, 5.2.2, and DEN0098, 2.3: -9 is the last error.
        if number != smccc::VENDOR_HYP_UID && x0 < -9 {
            self.fail(format_args!("{number:#x} with {argument:#x}: x0={x0}"));
        }
    }

    /// Fills a queue.
    fn burst(&mut self) {
        let port = self.port();
        for _ in 0..BURST {
            if !self.send_message(port, 0, 16).done() {
                return;
            }
        }
    }

    /// Gives back all that it owns.
    pub(crate) fn clean_up(&mut self) {
        while let Some(port) = self.ports.pop() {
            self.call(Call::Disconnect, &[port]);
        }
        while let Some(set) = self.sets.pop() {
            self.call(Call::PortSetDestroy, &[set]);
        }
        while let Some(held) = self.regions.pop() {
            self.call(Call::RegionDestroy, &[held.handle]);
        }
        while let Some(token) = self.tokens.pop() {
            self.call(Call::Refuse, &[token, 0]);
        }
        granules::clean_up(self);
    }
}
