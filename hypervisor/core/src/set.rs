//! Port sets: one wait for many ports. A set is a record of the table of ports, and named like one; its members' events are in a list of its own,
//! with an interrupt of its own if the partition likes.

use handover_abi::layout::{CHOSEN_INTID_FIRST, CHOSEN_INTID_LAST};
use handover_abi::{Error, Event, PartitionId, Port};

use crate::channel::{Link, PortRecord, PortState, named};
use crate::region::frames;
use crate::{Failure, Machine, Partition, PartitionIndex, System};

/// An interrupt that a partition chooses (0: the event interrupt), and the logical processor that is to take it.
///
/// [`Error::InvalidArgument`]: not one of those, or no such processor.
pub(crate) fn choice(p: &Partition, intid: u64, processor: u64) -> Result<(u8, u32), Failure> {
    if intid == 0 {
        return Ok((0, 0));
    }
    let chosen = u64::from(CHOSEN_INTID_FIRST)..=u64::from(CHOSEN_INTID_LAST);
    if !chosen.contains(&intid) || processor >= u64::from(p.processors) {
        return Err(Error::InvalidArgument.into());
    }
    Ok((intid as u8, processor as u32))
}

impl Partition {
    fn set(&self, set: u64) -> Result<(u32, &PortRecord), Failure> {
        let number = named(set)?;
        match self.ports.get(number) {
            Some(record) if record.state == PortState::Set => Ok((number, record)),
            _ => Err(Error::BadHandle.into()),
        }
    }

    /// A port that goes is no member any more, and has nothing latched.
    pub(crate) fn leave_set(&mut self, port: u32) {
        self.unlatch(port);
        let set = self.latch(port).map_or(0, |latch| core::mem::replace(&mut latch.set, 0));
        if let Some(set) = self.ports.get_mut(set) {
            set.members.count = set.members.count.saturating_sub(1);
        }
    }
}

impl System {
    /// `PortSetCreate`: a set without members; its events raise `intid`, routed to `processor`, or with 0 the event interrupt.
    ///
    /// [`Error::InvalidArgument`]: no interrupt to choose, or no such processor. [`Error::Limit`], [`Error::NoMemory`].
    pub fn set_create(
        &mut self,
        m: &mut impl Machine,
        who: PartitionIndex,
        intid: u64,
        processor: u64,
    ) -> Result<Port, Failure> {
        let p = self.caller(who)?;
        let (intid, processor) = choice(p, intid, processor)?;
        let grow = p.port_growth()?;
        let (page, _) = frames(m, &p.colours, grow, false)?;
        let mut record = PortRecord::new(PortState::Set, Link::NONE, PartitionId::new(0));
        record.intid = intid;
        let set = p.port_add(m, page, record)?;
        if intid != 0 {
            m.route(who, intid, processor);
        }
        Ok(Port::new(set))
    }

    /// `PortSetDestroy`. [`Error::BadHandle`]. [`Error::InUse`]: it has members.
    pub fn set_destroy(&mut self, who: PartitionIndex, set: u64) -> Result<(), Failure> {
        let p = self.caller(who)?;
        let (number, record) = p.set(set)?;
        if record.members.count != 0 {
            return Err(Error::InUse.into());
        }
        p.port_remove(number);
        Ok(())
    }

    /// `PortSetAdd`: what is pending at the port moves, and is told of once more. [`Error::BadHandle`]: the set, or the port. [`Error::InUse`]: the
    /// port is in a set.
    pub fn set_add(
        &mut self,
        m: &mut impl Machine,
        who: PartitionIndex,
        set: u64,
        port: u64,
    ) -> Result<(), Failure> {
        let (set, _) = self.caller(who)?.set(set)?;
        let (p, port) = self.listener(who, port)?;
        if p.latch(port).is_none_or(|latch| latch.set != 0) {
            return Err(Error::InUse.into());
        }
        if let Some(set) = p.ports.get_mut(set) {
            set.members.count = set.members.count.saturating_add(1);
        }
        self.change_set(m, who, port, set);
        Ok(())
    }

    /// `PortSetRemove`: what is pending at the port moves, and is told of once more. [`Error::BadHandle`]. [`Error::WrongState`]: it is in no set.
    pub fn set_remove(
        &mut self,
        m: &mut impl Machine,
        who: PartitionIndex,
        port: u64,
    ) -> Result<(), Failure> {
        let (p, port) = self.listener(who, port)?;
        let set = p.latch(port).map_or(0, |latch| latch.set);
        let Some(record) = p.ports.get_mut(set) else { return Err(Error::WrongState.into()) };
        record.members.count = record.members.count.saturating_sub(1);
        self.change_set(m, who, port, 0);
        Ok(())
    }

    fn change_set(&mut self, m: &mut impl Machine, who: PartitionIndex, port: u32, set: u32) {
        let Some(p) = self.get_mut(who) else { return };
        p.delist(port);
        let Some(latch) = p.latch(port) else { return };
        latch.set = set;
        if latch.is_pending() {
            self.announce(m, who, port);
        }
    }

    /// `PortSetNext`: takes the members' event that has been pending longest. [`Error::BadHandle`]. [`Error::WouldBlock`]: none is.
    pub fn set_next(&mut self, who: PartitionIndex, set: u64) -> Result<Event, Failure> {
        let p = self.caller(who)?;
        let (set, record) = p.set(set)?;
        let pending = record.members.pending;
        let port = pending.head().ok_or(Error::WouldBlock)?;
        let (causes, pending) = p.take(port, pending);
        if let Some(set) = p.ports.get_mut(set) {
            set.members.pending = pending;
        }
        Ok(Event { port: Port::new(port), causes })
    }
}
