//! Cache colours: pages whose addresses differ in the bits that choose a cache's sets, above those inside a page, never meet in it.
//!
//! A page's colour is a number from 0 on, [`Palette::of`]; what has disjoint sets of colours shares no set of the last-level cache, so
//! neither can throw the other's lines out. A partition is confined to some by [`System::set_colours`]: its memory, its tables and its
//! records are made of frames of those, and nothing else of its translation is, but the regions that others send it.
//!
//! A 2 MiB block has all colours there can be. So memory and regions that are confined are mapped page by page, and a region of more than
//! 2 MiB, which is made of blocks, cannot be.
//!
//! A channel has the colours that system-control has declared for the channels of the partition that accepts it; each end may make
//! regions of them, and no other region goes through it. Where none are declared, any region does.

use handover_abi::{Account, Error, PartitionId};

use crate::channel::{PortRecord, QUEUE_DEPTH};
use crate::region::Body;
use crate::stage2;
use crate::{Failure, Machine, Pa, Partition, PartitionIndex, Phase, System};

const PAGE_ORDER: u8 = 12;
/// Colours that are told apart: a set of them fits in a register. A cache that has more is treated as one with so many, neighbours by twos.
pub const COLOURS_MAX: u32 = 64;

/// What a partition uses of these, it has already in frames of any colour.
const HELD: [Account; 3] = [Account::Memory, Account::AddressSpace, Account::ControlMemory];

/// A set of colours, bit by bit; or no such set, and any frame will do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Colours(u64);

impl Colours {
    /// Not confined to any.
    pub const ANY: Colours = Colours(0);

    /// Those whose bits are set; [`Colours::ANY`] if none is.
    #[must_use]
    pub const fn new(set: u64) -> Colours {
        Colours(set)
    }

    /// The bits; 0 for [`Colours::ANY`].
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Whether any frame will do.
    #[must_use]
    #[inline(always)]
    pub const fn is_any(self) -> bool {
        self.0 == 0
    }

    /// A frame of zeroes of one of them.
    #[inline]
    pub(crate) fn frame(self, m: &mut impl Machine) -> Option<Pa> {
        if self.is_any() { m.allocate(PAGE_ORDER) } else { m.allocate_coloured(self) }
    }
}

/// How many colours the machine's pages have: a power of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Palette(u32);

impl Palette {
    /// All pages are alike.
    pub const NONE: Palette = Palette(1);

    /// So many; [`Palette::NONE`] unless that is a power of two up to [`COLOURS_MAX`].
    #[must_use]
    pub const fn new(count: u32) -> Palette {
        if count.is_power_of_two() && count <= COLOURS_MAX { Palette(count) } else { Palette::NONE }
    }

    /// Of a cache whose way has so many bytes.
    #[must_use]
    pub const fn of_way(bytes: u64) -> Palette {
        let pages = bytes >> PAGE_ORDER;
        if !pages.is_power_of_two() {
            return Palette::NONE;
        }
        Palette::new(if pages > COLOURS_MAX as u64 { COLOURS_MAX } else { pages as u32 })
    }

    /// How many there are.
    #[must_use]
    pub const fn count(self) -> u32 {
        self.0
    }

    /// A page's colour.
    #[must_use]
    pub const fn of(self, pa: Pa) -> u32 {
        (pa.get() >> PAGE_ORDER) as u32 & self.0.wrapping_sub(1)
    }

    /// All of them.
    #[must_use]
    pub const fn all(self) -> u64 {
        u64::MAX >> (COLOURS_MAX.wrapping_sub(self.0) & 63)
    }
}

/// The cache of the highest level that has data, as `CLIDR_EL1` tells them (Arm ARM D23.2): 0-based, as `CSSELR_EL1.Level` wants it.
#[must_use]
pub fn last_level(clidr: u64) -> Option<u32> {
    // Ctype: 0 none, 1 instructions alone, 2 data alone, 3 both apart, 4 unified. After the first 0 nothing counts.
    let level = |level: u32| clidr >> (3 * level) & 7;
    (0..7).take_while(|at| level(*at) != 0).filter(|at| level(*at) >= 2).last()
}

/// Bytes of a way, as `CCSIDR_EL1` tells them: in its wide format with FEAT_CCIDX.
#[must_use]
pub const fn way_bytes(ccsidr: u64, wide: bool) -> u64 {
    let line = 16 << (ccsidr & 7);
    let sets = if wide { ccsidr >> 32 & 0xff_ffff } else { ccsidr >> 13 & 0x7fff };
    (sets.wrapping_add(1)) * line
}

impl System {
    /// How many colours the machine has.
    #[must_use]
    pub fn palette(&self) -> Palette {
        self.palette
    }

    /// Tells how many colours the machine has; before the first partition is made.
    pub fn set_palette(&mut self, palette: Palette) {
        self.palette = palette;
    }

    /// Confines a partition that is not started and has no memory to the colours `own`, and declares `channels` for the channels that it
    /// accepts: sets by bits, 0 for none. All of them are charged to [`Account::CacheColours`]. Its root table moves into a frame of its own colours.
    ///
    /// [`Error::BadHandle`]. [`Error::NotSupported`]: this machine's caches have no colours. [`Error::InvalidArgument`]: colours that it has not.
    /// [`Error::WrongState`]: it has started, or has memory. [`Error::Limit`], [`Error::NoMemory`].
    pub fn set_colours(
        &mut self,
        m: &mut impl Machine,
        id: PartitionId,
        own: u64,
        channels: u64,
    ) -> Result<(), Failure> {
        let palette = self.palette;
        let ix = self.find(id)?;
        let p = self.get_mut(ix).ok_or(Error::BadHandle)?;
        if palette == Palette::NONE {
            return Err(Error::NotSupported.into());
        }
        if (own | channels) & !palette.all() != 0 {
            return Err(Error::InvalidArgument.into());
        }
        if p.phase != Phase::Created || HELD.iter().any(|account| p.accounts.used(*account) != 0) {
            return Err(Error::WrongState.into());
        }
        let wanted = u64::from((own | channels).count_ones());
        if wanted > p.accounts.limit(Account::CacheColours) {
            return Err(Failure::limit(Account::CacheColours));
        }
        // Whoever has all of them is confined to nothing, and keeps its blocks.
        let own = if own == palette.all() { Colours::ANY } else { Colours::new(own) };
        let root = own.frame(m).ok_or(Error::NoMemory)?;
        stage2::free_table(m, core::mem::replace(&mut p.root, root));
        p.accounts.release(Account::CacheColours, p.accounts.used(Account::CacheColours));
        p.accounts.charge(Account::CacheColours, wanted);
        p.colours = own;
        p.channel_colours = channels;
        Ok(())
    }

    /// The colours that a region for a port's channel is made of; for port 0, the caller's own.
    ///
    /// [`Error::BadHandle`]: no such port.
    pub(crate) fn region_colours(&self, who: PartitionIndex, port: u64) -> Result<Colours, Failure> {
        let p = self.caller_ref(who)?;
        if port == 0 {
            return Ok(p.colours);
        }
        let declared = p.port(port)?.colours;
        if declared == 0 {
            return Ok(p.colours);
        }
        Ok(if declared == self.palette.all() { Colours::ANY } else { Colours::new(declared) })
    }

    /// Whether a message may go to a port whose [`depth`](PortRecord::depth) says that none may: where colours are declared, it says so for all
    /// of them, so that the others do not pay for the question.
    #[cold]
    pub(crate) fn check_room(
        &self,
        m: &impl Machine,
        who: PartitionIndex,
        to: &PortRecord,
        region: Option<u32>,
    ) -> Result<(), Failure> {
        if to.capacity() == 0 {
            return Err(Error::Denied.into());
        }
        if to.queue.count >= to.capacity() {
            return Err(Error::QueueFull.into());
        }
        let p = self.caller_ref(who)?;
        match region.and_then(|region| p.regions.get(region)) {
            Some(region) if !self.is_within(m, &region.body, to.colours) => {
                Err(Failure::limit(Account::CacheColours))
            }
            _ => Ok(()),
        }
    }

    /// That a region may come through a channel with these `declared` colours, which takes regions of those alone; 0: none are.
    #[inline(always)]
    pub(crate) fn check_colours(&self, m: &impl Machine, body: &Body, declared: u64) -> Result<(), Failure> {
        if declared == 0 || self.is_within(m, body, declared) {
            Ok(())
        } else {
            Err(Failure::limit(Account::CacheColours))
        }
    }

    /// Whether a region has pages of these colours only.
    fn is_within(&self, m: &impl Machine, body: &Body, colours: u64) -> bool {
        colours == self.palette.all()
            || body
                .pages(m)
                .is_some_and(|mut pages| pages.all(|pa| colours >> (self.palette.of(pa) & 63) & 1 != 0))
    }
}

impl PortRecord {
    /// Messages that may wait here, whatever regions they bring.
    pub(crate) fn capacity(&self) -> u32 {
        if self.messages { QUEUE_DEPTH } else { 0 }
    }

    /// Makes it an end of a channel with these colours; 0: none are declared.
    pub(crate) fn declare(&mut self, colours: u64) {
        self.colours = colours;
        self.depth = if colours == 0 { self.capacity() } else { 0 };
    }
}

impl Partition {
    /// The colours that it is confined to.
    #[must_use]
    pub fn colours(&self) -> Colours {
        self.colours
    }

    /// Those declared for the channels that it accepts, bit by bit; 0: none.
    #[must_use]
    pub fn channel_colours(&self) -> u64 {
        self.channel_colours
    }
}
