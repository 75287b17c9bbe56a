//! What the boot archive holds for system-control: the manifest and the files it names.

use alloc::{
    format,
    string::{String, ToString},
};
use core::fmt;
use handover_manifest::{Manifest, Partition, Place};

use crate::cpio::Archive;

/// The manifest's name in the archive.
const MANIFEST: &str = "manifest";

/// Why system-control cannot go on: what it tried, what it found, what to do. Starts with a small letter, has no full stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure(pub String);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl core::error::Error for Failure {}

/// Reads the archive and the manifest in it.
pub fn open(files: &[u8]) -> Result<(Archive<'_>, Manifest), Failure> {
    let archive = Archive::read(files).map_err(|damage| {
        Failure(format!("the boot archive is {damage}; build it again and check what loads it"))
    })?;
    let packed = archive.file(MANIFEST).ok_or_else(|| missing(MANIFEST))?;
    let manifest = Manifest::unpack(packed.data).map_err(|error| Failure(error.to_string()))?;
    manifest.check().map_err(|problem| {
        let place = match problem.place {
            Place::Manifest(_) => String::new(),
            Place::Machine(_) => " [machine]:".into(),
            Place::SystemControl(_) => " [system-control]:".into(),
            Place::Partition(index, _) => format!(" partition {}:", index + 1),
            Place::Program(index, _) => format!(" program {}:", index + 1),
        };
        Failure(format!("the manifest in the boot archive is wrong:{place} {}", problem.what))
    })?;
    Ok((archive, manifest))
}

/// A partition's kernel, and its initramfs if it has one.
pub fn files_of<'a>(
    archive: &Archive<'a>,
    partition: &Partition,
) -> Result<(&'a [u8], Option<&'a [u8]>), Failure> {
    let data = |name: &str| Ok(archive.file(name).ok_or_else(|| missing(name))?.data);
    Ok((data(&partition.kernel)?, partition.initramfs.as_deref().map(data).transpose()?))
}

fn missing(name: &str) -> Failure {
    Failure(format!("the boot archive has no file `{name}`: pack it again with `cargo xtask`"))
}
