//! What can be done.

/// Names that regions can have in one partition: two, and one more for what is lent.
const NAMES: [u64; 3] = [1, 2, 3];
/// Names of ports in one partition.
const PORTS: [u64; 2] = [1, 2];
/// Logical processors of two partitions: two of the first, one of the second.
const TWO: &[(usize, u8)] = &[(0, 0), (0, 1), (1, 0)];
/// Of three partitions, one of each.
const THREE: &[(usize, u8)] = &[(0, 0), (1, 0), (2, 0)];

/// How a region goes with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goes {
    Moved,
    Lent,
    /// Lent, and the lender goes on touching it.
    Shown,
}

/// One operation. Partitions and processors are numbers from 0 on; places too, and `None` is nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Create(usize, Option<u64>),
    Destroy(usize, u64),
    Map(usize, u64, u64),
    Unmap(usize, u64),
    Connect(usize, bool),
    SignalNext(usize),
    Accept(usize),
    Refuse(usize),
    Disconnect(usize, u64),
    Send(usize, u64, u64),
    Receive(usize, u64, Option<u64>),
    EventNext(usize),
    EventSend(usize, u64),
    SharedMap(usize, u64, u64),
    SharedUnmap(usize, u64),
    Call(usize, u64, u64, Goes),
    CallWait(usize),
    Reply(usize, u64),
    Forward(usize, u64, u64),
    Expire(usize),
    Interrupted(usize),
    Switch(usize, bool),
    Land(usize, u64),
    End(usize),
    Reap(usize),
}

/// What is explored, so that each goes deep in what it is about.
pub struct Theme {
    pub name: &'static str,
    pub partitions: usize,
    pub processors: &'static [(usize, u8)],
    /// Whether there is a channel from each to the next at the start, and from the last to the first, and a region of each one's, mapped.
    pub joined: bool,
    /// What is done before that.
    pub start: &'static [Op],
    regions: bool,
    messages: bool,
    connections: bool,
    memory: bool,
    calls: bool,
    /// Operations that all sequences must have been gone through of.
    pub depth_least: usize,
}

pub const THEMES: [Theme; 8] = [
    Theme {
        name: "regions and messages",
        partitions: 2,
        processors: TWO,
        joined: true,
        start: &[],
        regions: true,
        messages: true,
        connections: false,
        memory: false,
        calls: false,
        depth_least: 3,
    },
    Theme {
        name: "channels from nothing, with messages",
        partitions: 2,
        processors: TWO,
        joined: false,
        start: &[],
        regions: false,
        messages: true,
        connections: true,
        memory: false,
        calls: false,
        depth_least: 5,
    },
    Theme {
        name: "shared memory",
        partitions: 2,
        processors: TWO,
        joined: false,
        start: &[],
        regions: false,
        messages: false,
        connections: true,
        memory: true,
        calls: false,
        depth_least: 5,
    },
    Theme {
        name: "direct calls and loans",
        partitions: 2,
        processors: TWO,
        joined: true,
        start: &[],
        regions: false,
        messages: false,
        connections: false,
        memory: false,
        calls: true,
        depth_least: 2,
    },
    Theme {
        name: "a region that is lent",
        partitions: 2,
        processors: TWO,
        joined: true,
        start: &[Op::Land(1, 1), Op::CallWait(2), Op::Call(0, 1, 1, Goes::Lent)],
        regions: false,
        messages: false,
        connections: false,
        memory: false,
        calls: true,
        depth_least: 2,
    },
    Theme {
        name: "three partitions: regions that go round",
        partitions: 3,
        processors: THREE,
        joined: true,
        start: &[],
        regions: true,
        messages: true,
        connections: false,
        memory: false,
        calls: false,
        depth_least: 3,
    },
    Theme {
        name: "three partitions: channels from nothing, with messages",
        partitions: 3,
        processors: THREE,
        joined: false,
        start: &[],
        regions: false,
        messages: true,
        connections: true,
        memory: false,
        calls: false,
        depth_least: 5,
    },
    Theme {
        name: "three partitions: calls that are passed on, and rings of them",
        partitions: 3,
        processors: THREE,
        joined: true,
        start: &[],
        regions: false,
        messages: false,
        connections: false,
        memory: false,
        calls: true,
        depth_least: 2,
    },
];

/// Every operation of a theme, whether it makes sense or not.
pub fn all(theme: &Theme) -> Vec<Op> {
    let mut ops = Vec::new();
    for who in 0..theme.partitions {
        if theme.regions {
            ops.extend([None, Some(0)].map(|place| Op::Create(who, place)));
        }
        if theme.regions || theme.calls {
            ops.extend(NAMES.map(|name| Op::Destroy(who, name)));
            ops.extend(NAMES.map(|name| Op::Map(who, name, 0)));
            ops.extend(NAMES.map(|name| Op::Map(who, name, 1)));
            ops.extend(NAMES.map(|name| Op::Unmap(who, name)));
        }
        if theme.connections {
            ops.extend([
                Op::Connect(who, theme.memory),
                Op::SignalNext(who),
                Op::Accept(who),
                Op::Refuse(who),
            ]);
        }
        ops.extend(PORTS.map(|port| Op::Disconnect(who, port)));
        if theme.messages {
            for port in PORTS {
                let regions = if theme.regions { &[0, 1, 2, 3][..] } else { &[0] };
                ops.extend(regions.iter().map(|region| Op::Send(who, port, *region)));
                ops.extend([None, Some(0), Some(1)].map(|place| Op::Receive(who, port, place)));
                ops.push(Op::EventSend(who, port));
            }
            ops.push(Op::EventNext(who));
        }
        if theme.memory {
            for port in PORTS {
                ops.extend([
                    Op::SharedMap(who, port, 0),
                    Op::SharedMap(who, port, 1),
                    Op::SharedUnmap(who, port),
                ]);
                ops.push(Op::EventSend(who, port));
            }
            ops.push(Op::EventNext(who));
        }
        ops.extend([Op::End(who), Op::Reap(who)]);
    }
    if theme.calls {
        for processor in 0..theme.processors.len() {
            for port in PORTS {
                ops.push(Op::Call(processor, port, 0, Goes::Moved));
                for name in NAMES {
                    ops.extend(
                        [Goes::Moved, Goes::Lent, Goes::Shown]
                            .map(|how| Op::Call(processor, port, name, how)),
                    );
                }
                ops.extend([0, 1, 2, 3].map(|name| Op::Forward(processor, port, name)));
            }
            ops.extend([0, 1, 2, 3].map(|name| Op::Reply(processor, name)));
            ops.extend([Op::CallWait(processor), Op::Expire(processor), Op::Interrupted(processor)]);
            ops.extend([true, false].map(|on| Op::Switch(processor, on)));
        }
        for who in 0..theme.partitions {
            ops.extend(PORTS.map(|port| Op::Land(who, port)));
        }
    }
    ops
}
