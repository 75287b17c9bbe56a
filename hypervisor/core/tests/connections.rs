//! Requests and what they join: timeouts, withdrawal, directions, port sets, event ports.

mod machine;

use handover_abi::{
    Account, Causes, EndReason, Error, MessageWord, Name, PartitionId, Port, RequestFlags, RequestWord,
    ServiceId,
};
use handover_core::{Failure, PAGE, Partition, PartitionIndex, Progress, QUEUE_DEPTH, System, Timeout};
use machine::Model;

struct World {
    system: System,
    machine: Model,
}

fn error(result: Result<impl Sized, Failure>) -> Error {
    match result {
        Ok(_) => panic!("it should have failed"),
        Err(failure) => failure.error,
    }
}

fn register(port: Port) -> u64 {
    u64::from(port.get())
}

fn word(flags: RequestFlags) -> u64 {
    RequestWord::new(ServiceId::new(5), flags).to_register()
}

impl World {
    fn new() -> World {
        World { system: System::new(), machine: Model::new(8, true) }
    }

    fn partition(&mut self, processors: u32) -> PartitionIndex {
        let shell = Box::leak(Box::new(Partition::new()));
        let name = Name::new("connections").unwrap();
        let id = self.system.create(&mut self.machine, None, name, processors, shell, 2 * PAGE);
        let id = id.map_err(|(failure, _)| failure).unwrap();
        for &account in Account::ALL {
            self.system.set_limit(&self.machine, id, account as u64, u64::MAX).unwrap();
        }
        let ix = self.system.find(id).unwrap();
        self.system.start(ix).unwrap();
        ix
    }

    fn id(&self, ix: PartitionIndex) -> PartitionId {
        self.system.partition(ix).unwrap().id()
    }

    fn request(
        &mut self,
        client: PartitionIndex,
        server: PartitionIndex,
        word: u64,
        timeout: Option<Timeout>,
    ) -> Port {
        let id = u64::from(self.id(server).get());
        self.system.connect_within(&mut self.machine, client, id, word, timeout).unwrap()
    }

    fn join(&mut self, client: PartitionIndex, server: PartitionIndex, flags: RequestFlags) -> (Port, Port) {
        let port = self.request(client, server, word(flags), None);
        let signal = self.system.signal_next(server).unwrap();
        assert_eq!(signal.argument, word(flags), "the server learns what it is asked for");
        let ends = (port, self.system.accept(&mut self.machine, server, signal.token).unwrap());
        // What connecting has made pending.
        while self.system.event_next(client).is_ok() || self.system.event_next(server).is_ok() {}
        self.machine.interrupts.clear();
        ends
    }

    fn send(&mut self, who: PartitionIndex, port: Port) -> Result<(), Failure> {
        self.system.send(&mut self.machine, who, MessageWord::new(port, None, 8), &[3; 16]).map(|_| ())
    }

    fn receive(&mut self, who: PartitionIndex, port: Port) -> Result<MessageWord, Failure> {
        self.system.receive(&mut self.machine, who, register(port), 0, &mut [0; 16])
    }

    fn event_send(&mut self, who: PartitionIndex, port: Port) -> Result<(), Failure> {
        self.system.event_send(&mut self.machine, who, register(port))
    }

    fn disconnect(&mut self, who: PartitionIndex, port: Port) {
        assert_eq!(self.system.disconnect(&mut self.machine, who, register(port)), Ok(Progress::Done));
    }

    fn causes(&self, who: PartitionIndex, port: Port) -> Causes {
        self.system.port_status(who, register(port)).unwrap().0
    }

    fn finish(&mut self, all: &[PartitionIndex]) {
        for &ix in all {
            self.system.end(&mut self.machine, ix, EndReason::Exited, 0);
            while self.system.reap(&mut self.machine, ix) == Progress::Again {}
        }
        assert_eq!(self.system.next_timeout(), None);
        for &ix in all {
            let id = self.id(ix);
            self.system.destroy(&mut self.machine, id).unwrap();
        }
        assert_eq!(self.machine.allocated_bytes(), 0);
    }
}

#[test]
fn a_request_that_nobody_answers_is_given_up() {
    for taken in [false, true] {
        let mut w = World::new();
        let (a, b) = (w.partition(1), w.partition(1));
        let timeout = Timeout { now: 500, after: 1 << 20 };
        let port = w.request(a, b, word(RequestFlags::TIMEOUT), Some(timeout));
        let token = if taken { w.system.signal_next(b).unwrap().token } else { 0 };
        let due = w.system.next_timeout().unwrap();
        assert!((500 + (1 << 20)..500 + (1 << 20) * 8 / 7).contains(&due), "{due}");
        assert_eq!(w.system.expire(&mut w.machine, due - 1), Progress::Done);
        assert_eq!((w.causes(a, port), error(w.send(a, port))), (Causes::empty(), Error::NotConnected));
        assert_eq!(w.system.expire(&mut w.machine, due), Progress::Done);
        let event = w.system.event_next(a).unwrap();
        assert_eq!((event.port, event.causes), (port, Causes::TIMED_OUT));
        assert_eq!(w.causes(a, port), Causes::TIMED_OUT);
        for result in [w.send(a, port), w.event_send(a, port), w.receive(a, port).map(|_| ())] {
            assert_eq!(error(result), Error::TimedOut);
        }
        // The server finds nothing.
        assert_eq!(error(w.system.signal_next(b)), Error::WouldBlock);
        assert_eq!(error(w.system.accept(&mut w.machine, b, token)), Error::BadHandle);
        assert_eq!(error(w.system.refuse(&mut w.machine, b, token, 1)), Error::BadHandle);
        assert_eq!(w.system.disconnect(&mut w.machine, a, register(port)), Ok(Progress::Done));
        assert_eq!(w.system.partition(a).unwrap().accounts().used(Account::Ports), 0);
        w.finish(&[a, b]);
    }
}

#[test]
fn an_answer_or_a_withdrawal_ends_the_timeout() {
    let mut w = World::new();
    let (a, b) = (w.partition(1), w.partition(1));
    for answer in 0..4 {
        let port = w.request(a, b, 5, Some(Timeout { now: 0, after: 1 << 30 }));
        assert!(w.system.next_timeout().is_some());
        let token = if answer < 3 { w.system.signal_next(b).unwrap().token } else { 0 };
        match answer {
            0 => drop(w.system.accept(&mut w.machine, b, token).unwrap()),
            1 => w.system.refuse(&mut w.machine, b, token, 4).unwrap(),
            _ => {
                assert_eq!(w.system.disconnect(&mut w.machine, a, register(port)), Ok(Progress::Done));
                assert_eq!(error(w.system.accept(&mut w.machine, b, token)), Error::BadHandle);
                assert_eq!(error(w.system.signal_next(b)), Error::WouldBlock);
            }
        }
        assert_eq!(w.system.next_timeout(), None);
        assert_eq!(w.system.expire(&mut w.machine, u64::MAX), Progress::Done);
    }
    // The server's end ends it too, and the client's.
    for end in [b, a] {
        w.request(a, if end == b { b } else { a }, 5, Some(Timeout { now: 9, after: 7 }));
        w.system.end(&mut w.machine, end, EndReason::Exited, 0);
        while w.system.reap(&mut w.machine, end) == Progress::Again {}
        assert_eq!(w.system.next_timeout(), None);
    }
    w.finish(&[a, b]);
}

#[test]
fn requests_are_given_up_in_order_and_in_bounded_steps() {
    let mut w = World::new();
    let (a, b) = (w.partition(1), w.partition(1));
    let count = 1000u64;
    // In another order than they are due.
    let ports: Vec<(u64, Port)> = (0..count)
        .map(|n| {
            let after = 100_000 + n * 37 % count * 5000;
            (after, w.request(a, b, 5, Some(Timeout { now: 0, after })))
        })
        .collect();
    let (mut now, mut timed_out, mut latest) = (0, 0, 0);
    while let Some(due) = w.system.next_timeout() {
        assert!(due > now);
        now = due;
        while w.system.expire(&mut w.machine, now) == Progress::Again {}
        while let Ok(event) = w.system.event_next(a) {
            let (after, _) = ports.iter().find(|(_, port)| *port == event.port).unwrap();
            assert!(*after < now && now <= after + (after / 7).max(1024), "{after} at {now}");
            assert!(*after + after / 7 >= latest, "much later than another");
            latest = latest.max(*after);
            timed_out += 1;
        }
    }
    assert_eq!(timed_out, count);
    assert_eq!(error(w.system.signal_next(b)), Error::WouldBlock);
    for (_, port) in &ports[..500] {
        w.disconnect(a, *port);
        w.request(a, b, 5, Some(Timeout { now, after: 10 }));
    }
    // All at once: sixteen a step.
    let steps = (1..).find(|_| w.system.expire(&mut w.machine, now + 5000) == Progress::Done).unwrap();
    assert_eq!(steps, 500 / 16 + 1);
    w.finish(&[a, b]);
}

/// As many signals wait as the senders' accounts pay for, whatever the receiver has; one event says that there are some.
#[test]
fn signals_wait_as_many_as_their_senders_pay_for() {
    let mut w = World::new();
    let [a, b, server] = [(); 3].map(|()| w.partition(1));
    for &account in Account::ALL {
        let id = w.id(server);
        w.system.set_limit(&w.machine, id, account as u64, 0).unwrap();
    }
    let used = |w: &World, ix| {
        Account::ALL.iter().map(|&account| w.system.partition(ix).unwrap().accounts().used(account)).collect()
    };
    let nothing: Vec<u64> = used(&w, server);
    let limit = 64 * PAGE;
    let (id, to) = (w.id(a), u64::from(w.id(server).get()));
    w.system.set_limit(&w.machine, id, Account::ControlMemory as u64, limit).unwrap();
    w.machine.interrupts.clear();
    let mut sent = Vec::new();
    let refused = loop {
        match w.system.connect_within(&mut w.machine, a, to, word(RequestFlags::empty()), None) {
            Ok(port) => sent.push((a, port)),
            Err(failure) => break failure,
        }
        // Another's signals among them are another's to pay for.
        if sent.len().is_multiple_of(100) {
            sent.push((b, w.request(b, server, word(RequestFlags::empty()), None)));
        }
    };
    assert_eq!(refused, Failure { error: Error::Limit, detail: Account::ControlMemory as u64 });
    assert!(sent.len() > 1000, "{} for {limit} bytes", sent.len());
    assert_eq!(w.machine.interrupts.len(), 1, "only an empty queue is an edge");
    let event = w.system.event_next(server).unwrap();
    assert_eq!((event.port, event.causes), (Port::CONTROL, Causes::SIGNAL));
    assert_eq!(error(w.system.event_next(server)), Error::WouldBlock);
    assert_eq!(used(&w, server), nothing);
    // In order; taking one makes no room, answering it does not cost the sender anything more.
    for &(client, port) in &sent {
        let signal = w.system.signal_next(server).unwrap();
        assert_eq!(signal.partition, w.id(client));
        w.system.refuse(&mut w.machine, server, signal.token, 1).unwrap();
        assert!(w.causes(client, port).contains(Causes::REFUSED));
    }
    assert_eq!(error(w.system.signal_next(server)), Error::WouldBlock);
    // Emptied, it tells of the next one.
    w.machine.interrupts.clear();
    w.request(b, server, word(RequestFlags::empty()), None);
    assert_eq!(w.system.event_next(server).unwrap().causes, Causes::SIGNAL);
    w.finish(&[a, b, server]);
}

#[test]
fn a_one_way_channel_goes_one_way() {
    for client_sends in [true, false] {
        let mut w = World::new();
        let (a, b) = (w.partition(1), w.partition(1));
        let flags = if client_sends { RequestFlags::SEND_ONLY } else { RequestFlags::RECEIVE_ONLY };
        let (client, server) = w.join(a, b, flags);
        let (from, to) = if client_sends { ((a, client), (b, server)) } else { ((b, server), (a, client)) };
        assert_eq!(error(w.send(to.0, to.1)), Error::Denied);
        assert_eq!(error(w.receive(from.0, from.1)), Error::Denied);
        assert_eq!(error(w.receive(to.0, to.1)), Error::WouldBlock);
        assert!(
            w.causes(from.0, from.1).contains(Causes::SPACE) && !w.causes(to.0, to.1).contains(Causes::SPACE)
        );
        w.send(from.0, from.1).unwrap();
        assert_eq!(w.receive(to.0, to.1).unwrap().length(), 8);
        // Events are no messages.
        w.event_send(to.0, to.1).unwrap();
        assert_eq!(w.system.event_next(from.0).unwrap().causes, Causes::SIGNAL);
        w.disconnect(from.0, from.1);
        assert_eq!(error(w.receive(to.0, to.1)), Error::PeerClosed);
        w.finish(&[a, b]);
    }
}

#[test]
fn two_with_full_queues_do_not_hold_each_other() {
    let mut w = World::new();
    let (a, b) = (w.partition(1), w.partition(1));
    let (from, to) = w.join(a, b, RequestFlags::empty());
    for (who, port) in [(a, from), (b, to)] {
        for _ in 0..QUEUE_DEPTH {
            w.send(who, port).unwrap();
        }
        assert_eq!(error(w.send(who, port)), Error::QueueFull);
    }
    while w.system.event_next(a).is_ok() || w.system.event_next(b).is_ok() {}
    // Either takes one, though it cannot send: the other learns of the room.
    w.receive(a, from).unwrap();
    assert_eq!(w.system.event_next(b).unwrap().causes, Causes::SPACE);
    w.send(b, to).unwrap();
    w.receive(b, to).unwrap();
    assert_eq!(w.system.event_next(a).unwrap().causes, Causes::SPACE);
    w.send(a, from).unwrap();
    w.finish(&[a, b]);
}

#[test]
fn a_set_serves_many_ports_in_the_order_of_arrival() {
    let mut w = World::new();
    let (a, b) = (w.partition(1), w.partition(4));
    let set = w.system.set_create(&mut w.machine, b, 200, 3).unwrap();
    assert_eq!(w.machine.routes[&(b, 200)], 3);
    let joined: Vec<_> = (0..1000).map(|_| w.join(a, b, RequestFlags::empty())).collect();
    for (_, to) in &joined[..999] {
        w.system.set_add(&mut w.machine, b, register(set), register(*to)).unwrap();
    }
    assert_eq!(error(w.system.set_destroy(b, register(set))), Error::InUse);
    // One that is no member is taken as ever.
    let order: Vec<usize> = (0..1000).map(|n| n * 7 % 1000).collect();
    for &n in order.iter().chain(&order) {
        w.event_send(a, joined[n].0).unwrap();
    }
    assert_eq!(w.machine.interrupts.len(), 1000, "coalesced");
    assert_eq!(w.machine.interrupts.iter().filter(|raised| **raised == (b, 0)).count(), 1);
    for &n in order.iter().filter(|n| **n != 999) {
        let event = w.system.set_next(b, register(set)).unwrap();
        assert_eq!((event.port, event.causes), (joined[n].1, Causes::SIGNAL));
    }
    assert_eq!(error(w.system.set_next(b, register(set))), Error::WouldBlock);
    assert_eq!(w.system.event_next(b).unwrap().port, joined[999].1);
    assert_eq!(error(w.system.event_next(b)), Error::WouldBlock);
    // A member that goes leaves nothing behind.
    w.event_send(a, joined[0].0).unwrap();
    for (_, to) in &joined[..999] {
        w.disconnect(b, *to);
    }
    assert_eq!(error(w.system.set_next(b, register(set))), Error::WouldBlock);
    w.system.set_destroy(b, register(set)).unwrap();
    for call in [w.system.set_next(b, register(set)).map(|_| ()), w.system.set_destroy(b, register(set))] {
        assert_eq!(error(call), Error::BadHandle);
    }
    w.finish(&[a, b]);
}

#[test]
fn a_set_is_no_port_and_a_port_no_set() {
    let mut w = World::new();
    let (a, b) = (w.partition(1), w.partition(1));
    let (from, _) = w.join(a, b, RequestFlags::empty());
    let set = w.system.set_create(&mut w.machine, a, 0, 0).unwrap();
    assert_eq!(error(w.send(a, set)), Error::BadHandle);
    assert_eq!(error(w.receive(a, set)), Error::BadHandle);
    assert_eq!(error(w.event_send(a, set)), Error::BadHandle);
    assert_eq!(error(w.system.event_mask(a, register(set))), Error::BadHandle);
    assert_eq!(error(w.system.disconnect(&mut w.machine, a, register(set))), Error::BadHandle);
    assert_eq!(error(w.system.port_status(a, register(set))), Error::BadHandle);
    assert_eq!(error(w.system.set_add(&mut w.machine, a, register(set), register(set))), Error::BadHandle);
    assert_eq!(error(w.system.set_add(&mut w.machine, a, register(from), 0)), Error::BadHandle);
    assert_eq!(error(w.system.set_next(a, register(from))), Error::BadHandle);
    // The control-signal port can be a member.
    w.system.set_add(&mut w.machine, a, register(set), 0).unwrap();
    w.request(b, a, 1, None);
    assert_eq!(error(w.system.event_next(a)), Error::WouldBlock);
    assert_eq!(w.system.set_next(a, register(set)).unwrap().port, Port::CONTROL);
    // Limits.
    let id = w.id(a);
    let used = w.system.partition(a).unwrap().accounts().used(Account::Ports);
    w.system.set_limit(&w.machine, id, Account::Ports as u64, used).unwrap();
    let refused = w.system.set_create(&mut w.machine, a, 0, 0);
    assert_eq!(refused, Err(Failure { error: Error::Limit, detail: Account::Ports as u64 }));
    w.finish(&[a, b]);
}

#[test]
fn events_reach_the_interrupt_of_the_receivers_choice() {
    let mut w = World::new();
    let (a, b) = (w.partition(1), w.partition(2));
    let (from, to) = w.join(a, b, RequestFlags::SEND_ONLY | RequestFlags::EVENTS);
    assert_eq!(error(w.event_send(b, to)), Error::Denied);
    for (who, port) in [(a, from), (b, to)] {
        assert_eq!(error(w.send(who, port)), Error::Denied);
        assert_eq!(error(w.receive(who, port)), Error::Denied);
    }
    w.event_send(a, from).unwrap();
    w.event_send(a, from).unwrap();
    assert_eq!(std::mem::take(&mut w.machine.interrupts), [(b, 0)]);
    // What was latched before goes to the interrupt too.
    let bind = |w: &mut World, intid, processor| {
        w.system.event_bind(&mut w.machine, b, register(to), intid, processor)
    };
    assert_eq!(error(bind(&mut w, 191, 0)), Error::InvalidArgument);
    assert_eq!(error(bind(&mut w, 192, 2)), Error::InvalidArgument);
    bind(&mut w, 192, 1).unwrap();
    assert_eq!((w.machine.routes[&(b, 192)], error(w.system.event_next(b))), (1, Error::WouldBlock));
    w.event_send(a, from).unwrap();
    assert_eq!(std::mem::take(&mut w.machine.interrupts), [(b, 192), (b, 192)]);
    // Masked, it is kept; unmasked, told of once.
    w.system.event_mask(b, register(to)).unwrap();
    w.event_send(a, from).unwrap();
    w.event_send(a, from).unwrap();
    assert_eq!((w.machine.interrupts.len(), w.causes(b, to).contains(Causes::SIGNAL)), (0, true));
    w.system.event_unmask(&mut w.machine, b, register(to)).unwrap();
    assert_eq!(std::mem::take(&mut w.machine.interrupts), [(b, 192)]);
    // The end of the other side is an event as any.
    w.disconnect(a, from);
    assert_eq!(w.system.event_next(b).unwrap().causes, Causes::PEER_CLOSED);
    let (channel, _) = w.join(b, b, RequestFlags::empty());
    assert_eq!(error(w.system.event_bind(&mut w.machine, b, register(channel), 192, 0)), Error::WrongState);
    w.finish(&[a, b]);
}

#[test]
fn a_message_that_was_received_is_told_of_no_more() {
    let mut w = World::new();
    let (a, b) = (w.partition(1), w.partition(2));
    let (from, to) = w.join(a, b, RequestFlags::empty());
    while w.system.event_next(b).is_ok() {}
    let interrupts = w.machine.interrupts.len();
    // Alone, with another cause, and masked.
    for masked in [false, true] {
        for with in [Causes::empty(), Causes::SIGNAL] {
            if masked {
                w.system.event_mask(b, register(to)).unwrap();
            }
            w.send(a, from).unwrap();
            w.send(a, from).unwrap();
            if !with.is_empty() {
                w.event_send(a, from).unwrap();
            }
            w.receive(b, to).unwrap();
            w.receive(b, to).unwrap();
            w.system.event_unmask(&mut w.machine, b, register(to)).unwrap();
            let next = w.system.event_next(b).map(|event| event.causes);
            assert_eq!(next.unwrap_or(Causes::empty()), with);
            assert_eq!(error(w.system.event_next(b)), Error::WouldBlock);
        }
    }
    // An edge each, as the port became pending: not for the one that was masked and had nothing to tell.
    assert_eq!(w.machine.interrupts.len() - interrupts, 3);
    w.finish(&[a, b]);
}

#[test]
fn a_masked_port_keeps_what_happens() {
    let mut w = World::new();
    let a = w.partition(1);
    let (from, to) = w.join(a, a, RequestFlags::empty());
    w.event_send(a, from).unwrap();
    w.system.event_mask(a, register(to)).unwrap();
    assert_eq!(error(w.system.event_next(a)), Error::WouldBlock);
    w.send(a, from).unwrap();
    w.system.event_unmask(&mut w.machine, a, register(to)).unwrap();
    w.system.event_unmask(&mut w.machine, a, register(to)).unwrap();
    assert_eq!(w.system.event_next(a).unwrap().causes, Causes::SIGNAL | Causes::MESSAGE);
    assert_eq!(w.machine.interrupts, [(a, 0), (a, 0)]);
    w.system.event_mask(a, 0).unwrap();
    w.request(a, a, 1, None);
    assert_eq!(error(w.system.event_next(a)), Error::WouldBlock);
    w.system.event_unmask(&mut w.machine, a, 0).unwrap();
    assert_eq!(w.system.event_next(a).unwrap().port, Port::CONTROL);
    w.finish(&[a]);
}
