//! Event ports: what a request with [`handover_abi::RequestFlags::EVENTS`] joins. One end sends events and the other gets them; no message goes
//! either way. The end that gets them may have them raise an interrupt of its choice at once, whose pending state is then all that is kept.

use handover_abi::Error;

use crate::set::choice;
use crate::{Failure, Machine, PartitionIndex, System};

impl System {
    /// `EventBind`: what is sent to the port raises `intid`, routed to `processor`, from now on; with 0 it is taken as from any port.
    ///
    /// [`Error::BadHandle`]. [`Error::WrongState`]: no events are sent to it alone. [`Error::InvalidArgument`]: no interrupt to choose, or no
    /// such processor.
    pub fn event_bind(
        &mut self,
        m: &mut impl Machine,
        who: PartitionIndex,
        port: u64,
        intid: u64,
        processor: u64,
    ) -> Result<(), Failure> {
        let p = self.caller(who)?;
        let record = p.port(port)?;
        if record.messages || record.signals {
            return Err(Error::WrongState.into());
        }
        let (intid, processor) = choice(p, intid, processor)?;
        let (p, number) = self.listener(who, port)?;
        if let Some(record) = p.ports.get_mut(number) {
            record.intid = intid;
        }
        if intid != 0 {
            m.route(who, intid, processor);
            if p.latch(number).is_some_and(|latch| !latch.is_masked()) {
                p.delist(number);
                self.deliver(m, who, number);
            }
        }
        Ok(())
    }
}
