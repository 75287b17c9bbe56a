//! What every case has at hand: the boot archive, its manifest, and partitions to make of them.

use alloc::{boxed::Box, format, string::String, vec::Vec};
use core::{ptr, slice};

use handover_guest::{
    abi::{
        EndReason, PartitionId, Signal, SignalKind,
        archive::PAGE,
        boot::{BootInfo, MAGIC},
    },
    events, heap, hvc, interrupts, start,
};
use handover_loader::{
    archive::open,
    cpio::Archive,
    hypercalls::Hypercalls,
    partition::{self, Content},
};
use handover_manifest::Manifest;
use zerocopy::FromBytes;

/// How a case went; what went wrong is for people to read.
pub(crate) type Verdict = Result<(), String>;

/// Fails a case unless a condition holds.
macro_rules! ensure {
    ($condition:expr, $($what:tt)*) => {
        if !$condition {
            return Err(alloc::format!($($what)*));
        }
    };
}
pub(crate) use ensure;

/// See the module.
pub(crate) struct Stage {
    archive: Archive<'static>,
    /// The manifest, with its partitions as templates.
    pub(crate) manifest: Manifest,
}

impl Stage {
    /// Finds the boot archive, and makes the rest of memory a heap.
    pub(crate) fn set(x0: u64) -> Result<Stage, String> {
        let bytes = ptr::with_exposed_provenance(x0 as usize);
        // SAFETY: the control OS starts the privileged partition with `x0` inside its memory, in the last page, which nothing else uses.
        let bytes = unsafe { slice::from_raw_parts(bytes, size_of::<BootInfo>()) };
        let info = BootInfo::read_from_bytes(bytes).ok().filter(|info| info.magic == MAGIC);
        let info = info.ok_or("no boot information where x0 points")?;
        let unused = start::image_end()..info.memory_base + info.memory_size - PAGE;
        // SAFETY: this partition's memory behind the image, which the start code maps read-write, but for the last page with `BootInfo`;
        // this function is called once, so it is given once.
        unsafe { heap::add(unused) };
        interrupts::init().map_err(|error| format!("the interrupt controller cannot be set up: {error}"))?;
        let files = ptr::with_exposed_provenance(info.files_base as usize);
        // SAFETY: the control OS maps the boot archive's files there, read-only and for good, and the start code maps them at stage 1.
        let files: &'static [u8] = unsafe { slice::from_raw_parts(files, info.files_size as usize) };
        let (archive, manifest) = open(files).map_err(|failure| failure.0)?;
        Ok(Stage { archive, manifest })
    }

    /// The value of the argument `name=value` of the command line.
    pub(crate) fn argument(&self, name: &str) -> Option<&'static str> {
        let line = self.manifest.system_control.command_line.clone();
        let line: &'static str = Box::leak(line.into_boxed_str());
        line.split_ascii_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
    }

    /// Makes the manifest's partition of this name, with memory and limits, and fills it. `ids` are those of the partitions whose services it
    /// may use, by their place in the manifest.
    pub(crate) fn make(&self, name: &str, ids: &[Option<PartitionId>]) -> Result<PartitionId, String> {
        let (index, content) = self.find(name)?;
        let control = &mut Hypercalls;
        let id = partition::create(control, &self.manifest.partitions[index]).map_err(|failure| failure.0)?;
        let mut known: Vec<_> = ids.to_vec();
        known.resize(self.manifest.partitions.len(), None);
        known[index] = Some(id);
        partition::fill(control, &self.manifest, index, &content, &known).map_err(|failure| failure.0)?;
        Ok(id)
    }

    /// Gives one that was reset its memory again, and fills it.
    pub(crate) fn refill(&self, name: &str, id: PartitionId) -> Verdict {
        let (index, content) = self.find(name)?;
        let control = &mut Hypercalls;
        partition::give(control, &self.manifest.partitions[index], id).map_err(|failure| failure.0)?;
        let mut known: Vec<_> = Vec::new();
        known.resize(self.manifest.partitions.len(), None);
        known[index] = Some(id);
        partition::fill(control, &self.manifest, index, &content, &known).map_err(|failure| failure.0)
    }

    /// Starts a partition that [`Stage::make`] has made.
    pub(crate) fn start(&self, name: &str, id: PartitionId) -> Verdict {
        let (index, content) = self.find(name)?;
        let template = &self.manifest.partitions[index];
        partition::start(&mut Hypercalls, template, &content, id).map_err(|failure| failure.0)
    }

    /// Makes and starts.
    pub(crate) fn run(&self, name: &str) -> Result<PartitionId, String> {
        let id = self.make(name, &[])?;
        self.start(name, id)?;
        Ok(id)
    }

    fn find(&self, name: &str) -> Result<(usize, Content<'static>), String> {
        let partitions = &self.manifest.partitions;
        let index = partitions.iter().position(|template| template.name == name);
        let index = index.ok_or_else(|| format!("the manifest has no partition `{name}`"))?;
        let content = Content::find(&self.archive, &partitions[index]).map_err(|failure| failure.0)?;
        Ok((index, content))
    }

    /// Waits for the next control signal.
    pub(crate) fn signal(&self) -> Result<Signal, String> {
        loop {
            match hvc::signal_next() {
                Ok(Some(signal)) => return Ok(signal),
                Ok(None) => {
                    events::wait().map_err(|error| format!("events cannot be waited for: {error}"))?;
                }
                Err(error) => return Err(format!("a control signal cannot be read: {error}")),
            }
        }
    }

    /// Waits until a partition has ended, refusing requests to connect meanwhile.
    pub(crate) fn ended(&self, id: PartitionId) -> Verdict {
        loop {
            let signal = self.signal()?;
            match signal.kind {
                SignalKind::PartitionEnded if signal.partition == id => return Ok(()),
                SignalKind::PartitionEnded => {
                    return Err(format!("partition {} has ended, but {id} was to", signal.partition));
                }
                SignalKind::ShutdownRequest => {}
                // It may have been taken back.
                SignalKind::Connect => drop(hvc::refuse(signal.token, 1)),
            }
        }
    }

    /// Waits until a partition has ended, and forgets it. → why it ended, and its exit status.
    pub(crate) fn reap(&self, id: PartitionId) -> Result<(EndReason, u64), String> {
        self.ended(id)?;
        let status = hvc::partition_status(id).map_err(|error| format!("{id} has no status: {error}"))?;
        hvc::partition_destroy(id).map_err(|error| format!("{id} cannot be forgotten: {error}"))?;
        Ok((status.reason, status.exit_status))
    }
}
