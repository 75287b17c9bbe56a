//! The manifest: which partitions a machine runs, and what each is given.
//!
//! A person writes it as TOML; `read` (feature `std`) turns that into a checked [`Manifest`], and every error
//! names the file and the line. The boot archive carries it packed by [`Manifest::pack`], and system-control, which
//! has no `std`, gets the same types back from [`Manifest::unpack`].
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(feature = "std")]
extern crate std;

mod bus;
mod check;
mod duration;
mod kernel;
mod memory;
mod program;
#[cfg(feature = "std")]
mod read;

use alloc::{string::String, vec::Vec};
use serde::{Deserialize, Serialize};

pub use bus::{Bus, Traffic};
pub use check::{Key, Place, Problem};
pub use duration::Duration;
pub use kernel::{KernelKind, KernelSource, NotAKernel};
pub use memory::MemorySize;
pub use program::{Program, ProgramSource, RESTART_LIMIT, Ready, Requests, Restart, Verdict};
#[cfg(feature = "std")]
pub use read::{ReadError, parse, read};

/// The most logical processors one partition may have.
pub const MAX_PROCESSORS: u32 = 8;
/// The most devices one partition may be given.
pub const MAX_DEVICES: usize = 16;
/// Physical processors that `bound-to` and `owns` can name: numbers below this.
pub const MAX_PHYSICAL: u32 = 16;
/// The shortest budget.
pub const BUDGET_MIN: Duration = Duration(100_000);
/// The longest period.
pub const PERIOD_MAX: Duration = Duration(1_000_000_000);
/// The most programs: each has a user of its own, of 1 to 63.
pub const MAX_PROGRAMS: usize = 63;
/// The most bytes of a partition's or a service's name.
pub const MAX_NAME: usize = 15;
/// Memory that stays with the control OS and system-control where that has no more than [`SYSTEM_CONTROL_MEMORY`], in bytes.
pub const RESERVED_MEMORY: u64 = 64 << 20;
/// Partitions are given memory in multiples of this many bytes.
pub const MEMORY_GRANULE: u64 = 2 << 20;
/// The service that system-control itself provides: guests ask it for resources.
pub const REQUESTS: &str = "requests";

/// A machine and the partitions it runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Manifest {
    /// The machine ends when these partitions have all ended, with the first exit status of theirs that is not zero.
    /// Empty means all partitions.
    #[serde(default)]
    pub end_with: Vec<String>,
    /// The machine does not end by itself, whatever its partitions do.
    #[serde(default)]
    pub stay: bool,
    /// What the partitions share.
    pub machine: Machine,
    /// The privileged partition's program.
    #[serde(default)]
    pub system_control: SystemControl,
    /// What becomes of guests' requests for resources.
    #[serde(default)]
    pub requests: Requests,
    /// System-control's programs, in the order in which they start; before the partitions.
    #[serde(default, rename = "program")]
    pub programs: Vec<Program>,
    /// The partitions, in the order in which they start.
    #[serde(default, rename = "partition")]
    pub partitions: Vec<Partition>,
}

/// The machine that QEMU is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Machine {
    /// Physical processors.
    pub processors: u32,
    /// Physical memory.
    pub memory: MemorySize,
}

/// What runs in the privileged partition, which the control OS makes by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SystemControl {
    /// `guest:NAME`: a bare-metal guest in the kernel's place. It takes the manifest's partitions as it likes.
    #[serde(default)]
    pub kernel: Option<String>,
    /// The first program and its arguments, init if there are none; what a guest in the kernel's place finds as its arguments, in the packed
    /// manifest.
    #[serde(default)]
    pub command_line: String,
    /// Packages of `system-control/programs` that lie in `/bin` besides those of `[[program]]`; [`BUSYBOX`] is Debian's.
    #[serde(default)]
    pub programs: Vec<String>,
    /// Memory for itself and its programs, a multiple of [`MEMORY_GRANULE`].
    #[serde(default)]
    pub memory: Option<MemorySize>,
}

/// The program that is no package.
pub const BUSYBOX: &str = "busybox";
/// Memory of a guest in the kernel's place where the manifest does not say, in bytes.
pub const SYSTEM_CONTROL_MEMORY: u64 = 16 << 20;
/// The kernel's and its programs', where the manifest does not say, in bytes.
pub const KERNEL_MEMORY: u64 = 32 << 20;

impl SystemControl {
    /// Whether it is the kernel that runs programs.
    pub fn runs_programs(&self) -> bool {
        self.kernel.is_none()
    }

    /// Whether init runs there: it follows the rest of the manifest.
    pub fn has_init(&self) -> bool {
        self.runs_programs() && self.command_line.trim().is_empty()
    }

    /// Its memory, in bytes.
    pub fn memory_size(&self) -> u64 {
        let default = if self.runs_programs() { KERNEL_MEMORY } else { SYSTEM_CONTROL_MEMORY };
        self.memory.map_or(default, |memory| memory.0)
    }
}

/// One partition, and what it is given before it starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Partition {
    /// 1 to [`MAX_NAME`] bytes of `a-z`, `0-9` and `-`.
    pub name: String,
    /// In TOML where the kernel comes from, see [`KernelSource`]; packed, its file's name in the boot archive.
    pub kernel: String,
    /// In TOML `demo` or a path; packed, its file's name in the boot archive.
    #[serde(default)]
    pub initramfs: Option<String>,
    /// What a Linux kernel finds as its command line.
    #[serde(default)]
    pub command_line: Option<String>,
    /// Logical processors, 1 to [`MAX_PROCESSORS`].
    pub processors: u32,
    /// Memory, a multiple of [`MEMORY_GRANULE`].
    pub memory: MemorySize,
    /// Services this partition offers; no two in a manifest share a name.
    #[serde(default)]
    pub provides: Vec<String>,
    /// Services this partition may connect to.
    #[serde(default)]
    pub uses: Vec<String>,
    /// Devices of the machine it is given: names of nodes in the machine's device tree (`pl031@9010000`), or what they are compatible with
    /// (`arm,pl031`, the first one that nobody has).
    #[serde(default)]
    pub devices: Vec<String>,
    /// Devices that it may ask for as it runs, named alike; each request is for the next of them.
    #[serde(default)]
    pub devices_on_request: Vec<String>,
    /// Time that each of its logical processors is sure to get, and gets no more than, in each `period`: [`BUDGET_MIN`] to the period. Without it
    /// they take what others leave.
    #[serde(default)]
    pub budget: Option<Duration>,
    /// At most [`PERIOD_MAX`].
    #[serde(default)]
    pub period: Option<Duration>,
    /// With the budget used up its logical processors go on in time that others leave.
    #[serde(default)]
    pub work_conserving: bool,
    /// The physical processors that may serve it, by number; none means all.
    #[serde(default)]
    pub bound_to: Vec<u32>,
    /// Physical processors that serve nobody else, each for one of its logical processors, from the first on. Never number 0.
    #[serde(default)]
    pub owns: Vec<u32>,
    /// The cache colours that its memory is made of, each below [`COLOURS`]; any, if there are none.
    #[serde(default)]
    pub colours: Vec<u32>,
    /// Those that the regions of the channels to it are made of; whatever their senders have, if there are none.
    #[serde(default)]
    pub channel_colours: Vec<u32>,
    /// How often it may use the bus; without it, as often as it likes.
    #[serde(default)]
    pub bus: Option<Bus>,
    /// How much memory traffic it may cause; without it, as much as it likes.
    #[serde(default)]
    pub traffic: Option<Traffic>,
    /// When it is made anew, besides after a reset that it asked for.
    #[serde(default)]
    pub restart: Restart,
    /// How often, the resets included; without it, a reset always.
    #[serde(default)]
    pub restart_limit: Option<u32>,
    /// What the next partition waits for before it starts.
    #[serde(default)]
    pub ready: Ready,
    /// For how long.
    #[serde(default = "program::ready_timeout")]
    pub ready_timeout: Duration,
    /// How long it has to switch itself off when the machine ends and it is asked to; without it, it is not asked.
    #[serde(default)]
    pub shutdown: Option<Duration>,
    /// How long it may leave its watchdog alone, in its own count, before it is ended; without it, it has none.
    #[serde(default)]
    pub watchdog: Option<Duration>,
}

impl Partition {
    /// A partition with nothing but processors and memory.
    #[must_use]
    pub fn plain(name: &str, processors: u32, memory: MemorySize) -> Partition {
        Partition {
            name: name.into(),
            kernel: String::new(),
            initramfs: None,
            command_line: None,
            processors,
            memory,
            provides: Vec::new(),
            uses: Vec::new(),
            devices: Vec::new(),
            devices_on_request: Vec::new(),
            budget: None,
            period: None,
            work_conserving: false,
            bound_to: Vec::new(),
            owns: Vec::new(),
            colours: Vec::new(),
            channel_colours: Vec::new(),
            bus: None,
            traffic: None,
            restart: Restart::Never,
            restart_limit: None,
            ready: Ready::Started,
            ready_timeout: program::ready_timeout(),
            shutdown: None,
            watchdog: None,
        }
    }
}

/// The most cache colours that a machine can have.
pub const COLOURS: u32 = 64;

/// A list of colours below [`COLOURS`], bit by bit.
pub fn colour_set(colours: &[u32]) -> u64 {
    colours.iter().fold(0, |set, colour| set | 1u64.checked_shl(*colour).unwrap_or(0))
}

/// Who offers a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provider {
    /// A partition, as an index into [`Manifest::partitions`].
    Partition(usize),
    /// A program, as an index into [`Manifest::programs`].
    Program(usize),
}

/// A service that some partition or program offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Service<'a> {
    /// Counted from 1 in the manifest's order, partitions' services first.
    pub id: u32,
    /// Its name.
    pub name: &'a str,
    /// Who offers it.
    pub provider: Provider,
}

/// A packed manifest that cannot be unpacked: it is damaged, or another version of this crate packed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnpackError(postcard::Error);

impl core::fmt::Display for UnpackError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "the packed manifest cannot be read ({}); pack it with this version", self.0)
    }
}

impl core::error::Error for UnpackError {}

impl Manifest {
    /// Memory that partitions cannot have: the control OS's and system-control's, in bytes.
    pub fn reserved_memory(&self) -> u64 {
        (RESERVED_MEMORY - SYSTEM_CONTROL_MEMORY).saturating_add(self.system_control.memory_size())
    }

    /// All services in manifest order, with their ids.
    pub fn services(&self) -> impl Iterator<Item = Service<'_>> {
        let partitions = self.partitions.iter().enumerate();
        let partitions =
            partitions.map(|(index, partition)| (Provider::Partition(index), &partition.provides));
        let programs = self.programs.iter().enumerate();
        let programs = programs.map(|(index, program)| (Provider::Program(index), &program.provides));
        partitions
            .chain(programs)
            .flat_map(|(provider, provides)| provides.iter().map(move |name| (provider, name)))
            .zip(1u32..)
            .map(|((provider, name), id)| Service { id, name, provider })
    }

    /// The service of this name, if any partition or program offers it.
    pub fn service(&self, name: &str) -> Option<Service<'_>> {
        self.services().find(|service| service.name == name)
    }

    /// The name of who offers a service.
    #[must_use]
    pub fn provider_name(&self, provider: Provider) -> &str {
        match provider {
            Provider::Partition(index) => self.partitions.get(index).map_or("", |partition| &partition.name),
            Provider::Program(index) => self.programs.get(index).map_or("", Program::name),
        }
    }

    /// The partition of this name and its index.
    pub fn partition(&self, name: &str) -> Option<(usize, &Partition)> {
        self.partitions.iter().enumerate().find(|(_, partition)| partition.name == name)
    }

    /// Whether any partition may ask system-control for resources.
    pub fn takes_requests(&self) -> bool {
        self.partitions.iter().any(|partition| partition.uses.iter().any(|used| used == REQUESTS))
    }

    /// Whether it gives Debian's busybox to system-control's programs.
    pub fn has_busybox(&self) -> bool {
        let program = |program: &Program| ProgramSource::new(&program.path) == ProgramSource::Busybox;
        self.system_control.programs.iter().any(|name| name == BUSYBOX) || self.programs.iter().any(program)
    }

    /// The bytes that [`Manifest::unpack`] reads.
    pub fn pack(&self) -> Vec<u8> {
        // Every field is a number, a string or a list of them, which postcard always can write to a growing buffer.
        postcard::to_allocvec(self).expect("a manifest always packs")
    }

    /// Reads what [`Manifest::pack`] wrote. Trailing bytes are ignored.
    pub fn unpack(bytes: &[u8]) -> Result<Self, UnpackError> {
        postcard::from_bytes(bytes).map_err(UnpackError)
    }
}
