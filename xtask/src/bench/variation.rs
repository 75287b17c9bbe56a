//! The same figures in other circumstances: manifests that differ from `manifests/bench.toml` in one thing each.

use handover_manifest::{Manifest, MemorySize, Partition, REQUESTS, Ready};

/// Channels that both sides hold open.
const CHANNELS: usize = 1000;
/// Partitions of the manifest.
const PARTITIONS: usize = 64;
/// Memory of one that stands by.
const IDLE_MEMORY: MemorySize = MemorySize(4 << 20);
/// The partition that measures, in `manifests/bench.toml`.
pub(super) const CLIENT: &str = "client";

/// What is different.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Variation {
    /// Both sides hold 1,000 channels open.
    Channels,
    /// 62 partitions stand by.
    Partitions,
    /// There are two physical processors, each partition owns the one that it runs on, and the figure counts the work of both. A third one serves everybody
    /// else.
    Processors,
    /// The two are open to everybody, and each partition is bound to one.
    Shared,
}

impl Variation {
    pub(super) const ALL: [Variation; 4] =
        [Variation::Channels, Variation::Partitions, Variation::Processors, Variation::Shared];

    /// What ends its figures' names.
    pub(super) const fn suffix(self) -> &'static str {
        match self {
            Variation::Channels => "_1000_channels",
            Variation::Partitions => "_64_partitions",
            Variation::Processors => "_2cpu",
            Variation::Shared => "_2cpu_shared",
        }
    }

    /// The head of its column.
    pub(super) const fn title(self) -> &'static str {
        match self {
            Variation::Channels => "1,000 channels",
            Variation::Partitions => "64 partitions",
            Variation::Processors => "2 processors",
            Variation::Shared => "2 shared",
        }
    }

    /// Whether what is different has no part in what is measured, which should cost no more then.
    pub(super) const fn is_bystanders(self) -> bool {
        matches!(self, Variation::Channels | Variation::Partitions)
    }

    /// The manifest with the difference.
    pub(super) fn of(self, manifest: &Manifest) -> Manifest {
        let mut manifest = manifest.clone();
        match self {
            Variation::Channels => {
                manifest
                    .partitions
                    .iter_mut()
                    .for_each(|partition| tell(partition, &format!("channels={CHANNELS}")));
            }
            Variation::Partitions => {
                let kernel = manifest.partitions[0].kernel.clone();
                let idle = (manifest.partitions.len()..PARTITIONS).map(|number| Partition {
                    kernel: kernel.clone(),
                    command_line: Some("role=idle".to_owned()),
                    uses: vec![REQUESTS.to_owned()],
                    ready: Ready::Told,
                    ..Partition::plain(&format!("idle-{number}"), 1, IDLE_MEMORY)
                });
                let idle: Vec<_> = idle.collect();
                manifest.machine.memory.0 += idle.len() as u64 * IDLE_MEMORY.0;
                manifest.partitions.splice(0..0, idle);
            }
            Variation::Processors => {
                manifest.machine.processors = 3;
                for (partition, number) in manifest.partitions.iter_mut().zip(1..) {
                    partition.owns = vec![number];
                }
                client(&mut manifest, "measure=pair");
            }
            Variation::Shared => {
                manifest.machine.processors = 2;
                // Unbound, who is woken may run where the waker does.
                for (partition, number) in manifest.partitions.iter_mut().zip(0..) {
                    partition.bound_to = vec![number];
                }
                client(&mut manifest, "measure=pair");
            }
        }
        manifest
    }
}

/// Gives the client one argument more.
fn client(manifest: &mut Manifest, argument: &str) {
    manifest
        .partitions
        .iter_mut()
        .filter(|partition| partition.name == CLIENT)
        .for_each(|partition| tell(partition, argument));
}

fn tell(partition: &mut Partition, argument: &str) {
    let line = partition.command_line.get_or_insert_default();
    *line = format!("{line} {argument}").trim_start().to_owned();
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn all_are_manifests() {
        let file = Path::new("bench.toml");
        let plain = handover_manifest::parse(include_str!("../../../manifests/bench.toml"), file).unwrap();
        let lines = |manifest: &Manifest| -> Vec<String> {
            manifest.partitions.iter().flat_map(|partition| partition.command_line.clone()).collect()
        };
        for variation in Variation::ALL {
            let manifest = variation.of(&plain);
            manifest.check().unwrap();
            match variation {
                Variation::Channels => {
                    assert_eq!(
                        lines(&manifest),
                        ["role=server channels=1000", "role=client large channels=1000"]
                    );
                }
                Variation::Partitions => {
                    assert_eq!(manifest.partitions.len(), PARTITIONS);
                    assert_eq!(lines(&manifest)[62..], ["role=server", "role=client large"]);
                }
                Variation::Processors => {
                    let owned: Vec<_> =
                        manifest.partitions.iter().map(|partition| &partition.owns[..]).collect();
                    assert_eq!(owned, [[1], [2]]);
                }
                Variation::Shared => {
                    assert_eq!(lines(&manifest), ["role=server", "role=client large measure=pair"]);
                    assert_eq!(manifest.machine.processors, 2);
                }
            }
        }
    }
}
