//! Stolen time (Arm DEN0057): a page in which a partition reads how long each of its logical processors has wanted to run and did not. It is made
//! when the first of them asks where it is, and the partition pays.

use handover_abi::{Account, Error, layout};

use crate::stage2::{self, Kind};
use crate::{Failure, Ipa, Machine, Maintenance, PAGE, Pa, Partition, PartitionIndex, System};

/// Where a partition reads it.
const AT: Ipa = Ipa::new(layout::STOLEN_TIME_BASE);

impl System {
    /// The page that a partition reads its stolen times in, zeroed when it is new: [`Account::ControlMemory`], with the tables that lead to it,
    /// until the partition ends.
    ///
    /// [`Error::WrongState`]: it does not run. [`Error::Limit`], [`Error::NoMemory`].
    pub fn stolen_time_page(&mut self, m: &mut impl Machine, who: PartitionIndex) -> Result<Pa, Failure> {
        let attributes = self.attributes;
        let p = self.caller(who)?;
        if let Some(span) = stage2::walk(m, p.root, AT) {
            return Ok(span.pa);
        }
        let second = m.entry(p.root, stage2::level1(AT.get()));
        let third = match second {
            0 => 0,
            _ => m.entry(stage2::address(second), stage2::level2(AT.get())),
        };
        let bytes = (1 + u64::from(second == 0) + u64::from(third == 0)) * PAGE;
        p.accounts.check(Account::ControlMemory, bytes)?;
        let page = p.colours.frame(m).ok_or(Error::NoMemory)?;
        let fresh = crate::region::frames(m, &p.colours, second == 0, third == 0);
        let (new_second, new_third) = fresh.inspect_err(|_| m.free(page, 12))?;
        // From here on it cannot fail.
        let second = new_second.unwrap_or(stage2::address(second));
        let third = new_third.unwrap_or(stage2::address(third));
        m.set_entry(third, stage2::level3(AT.get()), attributes.page(page, Kind::Readable));
        m.set_entry(second, stage2::level2(AT.get()), stage2::table(third));
        m.set_entry(p.root, stage2::level1(AT.get()), stage2::table(second));
        m.maintain(p.vmid, Maintenance::Link);
        p.accounts.charge(Account::ControlMemory, bytes);
        Ok(page)
    }
}

impl Partition {
    /// Gives the page back, if it is under this table of an ended partition's, which no walk reaches.
    pub(crate) fn give_stolen_time_page(&mut self, m: &mut impl Machine, index: usize, table: Pa) {
        let descriptor = m.entry(table, stage2::level3(AT.get()));
        if index != stage2::level2(AT.get()) || descriptor == 0 {
            return;
        }
        let page = stage2::address(descriptor);
        m.set_entry(table, stage2::level3(AT.get()), 0);
        m.zero(page, PAGE);
        m.free(page, 12);
        self.accounts.release(Account::ControlMemory, PAGE);
    }
}

// Devices are given back apart, and have tables of their own.
const _: () = assert!(
    layout::STOLEN_TIME_BASE >= layout::DEVICE_END && layout::STOLEN_TIME_BASE.is_multiple_of(1 << 21)
);
