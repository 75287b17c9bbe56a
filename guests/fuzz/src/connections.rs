//! Requests with flags and timeouts, port sets, masks, interrupts of its own choice.

use handover_guest::abi::{
    Call, Causes, RequestFlags,
    layout::{CHOSEN_INTID_FIRST, CHOSEN_INTID_LAST},
};

use crate::{limits, stream::Stream};

const FIRST: u64 = CHOSEN_INTID_FIRST as u64;
const LAST: u64 = CHOSEN_INTID_LAST as u64;
/// Looks at a request that times out, at most.
const PATIENCE: usize = 1 << 20;

/// Flags as a request word has them.
pub(crate) fn word(service: u64, flags: RequestFlags) -> u64 {
    service | u64::from(flags.bits()) << 32
}

impl Stream {
    /// Flags for a request, mostly none.
    pub(crate) fn any_flags(&mut self) -> RequestFlags {
        let one_way = self.random.one_of(&[RequestFlags::SEND_ONLY, RequestFlags::RECEIVE_ONLY]);
        match self.random.below(12) {
            0 => RequestFlags::TIMEOUT,
            1 => one_way,
            2 => one_way | RequestFlags::EVENTS,
            3 => RequestFlags::from_bits_retain(self.random.below(32) as u32),
            _ => RequestFlags::empty(),
        }
    }

    /// A port, never the control-signal port, which others wait for.
    fn port_of_mine(&mut self) -> u64 {
        match self.port() {
            0 => self.wild(),
            port => port,
        }
    }

    fn set(&mut self) -> u64 {
        match self.sets.len() as u64 {
            0 => self.wild(),
            _ if self.random.one_in(16) => self.port_of_mine(),
            count => self.sets[self.random.below(count) as usize],
        }
    }

    fn any_choice(&mut self) -> (u64, u64) {
        let random = self.random.next();
        let intid = self.random.one_of(&[
            0,
            0,
            FIRST,
            LAST,
            FIRST + random % (LAST - FIRST),
            FIRST - 1,
            LAST + 1,
            random,
        ]);
        (intid, self.random.one_of(&[0, 0, 0, 1, 8, random]))
    }

    /// A call for sets, or for what a port's events do.
    pub(crate) fn listen(&mut self) {
        match self.random.below(9) {
            0 => {
                let (intid, processor) = self.any_choice();
                let answer = self.call(Call::PortSetCreate, &[intid, processor]);
                if answer.done() && self.sets.try_push(answer.x[1]).is_err() {
                    self.call(Call::PortSetDestroy, &[answer.x[1]]);
                }
            }
            1 => {
                let set = self.set();
                if self.call(Call::PortSetDestroy, &[set]).done() {
                    self.sets.retain(|own| *own != set);
                }
            }
            2 | 3 => {
                // Another processor's port would keep the set when this one gives back what it has.
                let port = match self.ports.len() as u64 {
                    0 => self.wild(),
                    count => self.ports[self.random.below(count) as usize],
                };
                let set = self.set();
                self.call(Call::PortSetAdd, &[set, port]);
            }
            4 => {
                let port = self.port_of_mine();
                self.call(Call::PortSetRemove, &[port]);
            }
            5 => {
                let set = self.set();
                self.call(Call::PortSetNext, &[set]);
            }
            6 => {
                let port = self.port_of_mine();
                self.call(Call::EventMask, &[port]);
            }
            7 => {
                let port = self.port_of_mine();
                self.call(Call::EventUnmask, &[port]);
            }
            _ => {
                let (port, (intid, processor)) = (self.port_of_mine(), self.any_choice());
                self.call(Call::EventBind, &[port, intid, processor]);
            }
        }
    }
}

/// What of a short run's results chance alone would not make certain.
pub(crate) fn edges(stream: &mut Stream) {
    sets(stream);
    one_way(stream);
    timeout(stream);
}

fn sets(stream: &mut Stream) {
    let Some((client, server)) = limits::channel(stream, RequestFlags::empty()) else { return };
    stream.call(Call::PortSetCreate, &[FIRST - 1, 0]);
    let set = stream.call(Call::PortSetCreate, &[0, 0]).x[1];
    while stream.call(Call::EventNext, &[]).done() {}
    let wild = stream.wild();
    let calls: [(Call, &[u64]); 24] = [
        (Call::PortSetAdd, &[wild, client]),
        (Call::PortSetAdd, &[set, client]),
        (Call::PortSetAdd, &[set, client]),
        (Call::PortSetDestroy, &[set]),
        (Call::PortSetNext, &[set]),
        (Call::EventSend, &[server]),
        (Call::PortSetNext, &[set]),
        (Call::PortSetNext, &[wild]),
        (Call::PortSetRemove, &[wild]),
        (Call::PortSetRemove, &[client]),
        (Call::PortSetRemove, &[client]),
        (Call::PortSetDestroy, &[set]),
        (Call::PortSetDestroy, &[set]),
        (Call::EventMask, &[client]),
        (Call::EventMask, &[wild]),
        (Call::EventSend, &[server]),
        (Call::EventNext, &[]),
        (Call::EventUnmask, &[client]),
        (Call::EventUnmask, &[wild]),
        (Call::EventNext, &[]),
        (Call::EventBind, &[wild, 0, 0]),
        (Call::EventBind, &[client, FIRST, 0]),
        (Call::Disconnect, &[client]),
        (Call::Disconnect, &[server]),
    ];
    for (call, arguments) in calls {
        stream.call(call, arguments);
    }
}

fn one_way(stream: &mut Stream) {
    for flags in [RequestFlags::SEND_ONLY, RequestFlags::SEND_ONLY | RequestFlags::EVENTS] {
        let Some((client, server)) = limits::channel(stream, flags) else { return };
        for intid in [FIRST, LAST + 1, 0] {
            stream.call(Call::EventBind, &[server, intid, 0]);
        }
        stream.send_message(server, 0, 8);
        stream.call(Call::Receive, &[client, 0]);
        stream.call(Call::EventSend, &[server]);
        stream.call(Call::Disconnect, &[client]);
        stream.call(Call::Disconnect, &[server]);
    }
    for flags in [RequestFlags::EVENTS, RequestFlags::SEND_ONLY | RequestFlags::RECEIVE_ONLY] {
        stream.call(Call::Connect, &[stream.setting.own, word(0, flags)]);
    }
}

/// A request that nobody answers; its port.
pub(crate) fn timed_out(stream: &mut Stream) -> Option<u64> {
    let asked = stream.call(Call::Connect, &[stream.setting.own, word(1, RequestFlags::TIMEOUT), 1]);
    if !asked.done() {
        return None;
    }
    let port = asked.x[1];
    for _ in 0..PATIENCE {
        let status = stream.call(Call::PortStatus, &[port]).x[1];
        if Causes::from_bits_retain(status as u32).contains(Causes::TIMED_OUT) {
            break;
        }
    }
    Some(port)
}

fn timeout(stream: &mut Stream) {
    let Some(port) = timed_out(stream) else { return };
    stream.send_message(port, 0, 8);
    stream.call(Call::Receive, &[port, 0]);
    stream.call(Call::EventSend, &[port]);
    stream.call(Call::Disconnect, &[port]);
}
