//! What a Linux guest is made of: Debian's own kernel and busybox, and what builds our module for that kernel.

use super::{apt::Apt, qemu::libraries};
use crate::{command::Host, progress::Step};
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    ffi::OsString,
    fmt, fs,
    path::{Path, PathBuf},
};

/// Changes whenever what is fetched, or where it is put, changes.
const LAYOUT: u32 = 1;

/// The pieces of a Linux guest.
#[derive(Clone, Debug)]
pub(crate) struct Linux {
    /// An arm64 Image.
    pub(crate) kernel: PathBuf,
    /// A static arm64 program.
    pub(crate) busybox: PathBuf,
    /// Our module for this kernel.
    pub(crate) module: Module,
    versions: BTreeMap<String, String>,
}

/// Where our kernel module comes from.
#[derive(Clone, Debug)]
pub(crate) enum Module {
    /// A file that the user names.
    Ready(PathBuf),
    /// Built against the kernel's headers.
    Build {
        /// The kernel's build tree.
        headers: PathBuf,
        /// Where `make` and a compiler for arm64 are, besides `PATH`.
        programs: PathBuf,
        /// Their shared libraries.
        libraries: OsString,
    },
}

impl fmt::Display for Linux {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Linux guest's kernel: {}", self.kernel.display())?;
        write!(f, "Linux guest's busybox: {}", self.busybox.display())?;
        let fetched = |(name, version): (&String, &String)| format!("\n  {name} {version}");
        self.versions.iter().map(fetched).try_for_each(|line| f.write_str(&line))
    }
}

/// What is written down when all is unpacked.
#[derive(Serialize, Deserialize)]
struct Stamp {
    layout: u32,
    /// The kernel's release, as in `/lib/modules`.
    release: String,
    versions: BTreeMap<String, String>,
}

/// Finds the pieces, and fetches them where the user names none.
pub(crate) fn find(host: &Host, folder: &Path) -> Result<Linux> {
    let named = ["HANDOVER_KERNEL", "HANDOVER_MODULE", "HANDOVER_BUSYBOX"]
        .map(|name| host.variables.get(name).cloned());
    match named {
        [Some(kernel), Some(module), Some(busybox)] => {
            let files = [kernel, module, busybox];
            if let Some(missing) = files.iter().find(|file| !file.is_file()) {
                bail!(
                    "HANDOVER_KERNEL, HANDOVER_MODULE or HANDOVER_BUSYBOX names {}, which is no file",
                    missing.display()
                );
            }
            let [kernel, module, busybox] = files;
            Ok(Linux { kernel, busybox, module: Module::Ready(module), versions: BTreeMap::new() })
        }
        [None, None, None] => fetched(host, &folder.join("linux"), folder),
        _ => bail!(
            "set HANDOVER_KERNEL, HANDOVER_MODULE and HANDOVER_BUSYBOX together: a module fits one kernel only"
        ),
    }
}

fn fetched(host: &Host, root: &Path, folder: &Path) -> Result<Linux> {
    let stamp_file = root.join("stamp.json");
    let stamp = fs::read(&stamp_file).ok().and_then(|text| serde_json::from_slice::<Stamp>(&text).ok());
    let stamp = match stamp {
        Some(stamp) if stamp.layout == LAYOUT => stamp,
        _ => {
            if root.exists() {
                fs::remove_dir_all(root)?;
            }
            let stamp = fetch(host, root, folder)?;
            fs::write(stamp_file, serde_json::to_string_pretty(&stamp)?)?;
            stamp
        }
    };
    let tools = root.join("tools");
    Ok(Linux {
        kernel: root.join("guest/boot").join(format!("vmlinuz-{}", stamp.release)),
        busybox: root.join("guest").join(busybox(root)?),
        module: Module::Build {
            headers: root.join("headers/usr/src").join(format!("linux-headers-{}", stamp.release)),
            libraries: libraries(&tools),
            programs: tools.join("usr/bin"),
        },
        versions: stamp.versions,
    })
}

/// Merged and unmerged `/usr` differ.
fn busybox(root: &Path) -> Result<&'static str> {
    let places = ["bin/busybox", "usr/bin/busybox"];
    places
        .into_iter()
        .find(|place| root.join("guest").join(place).is_file())
        .context("busybox-static has no busybox")
}

fn fetch(host: &Host, root: &Path, folder: &Path) -> Result<Stamp> {
    let apt = Apt::open(host, folder)?;
    let image = apt
        .dependencies("linux-image-cloud-arm64:arm64")?
        .into_iter()
        .find(|name| name.starts_with("linux-image-"))
        .context("linux-image-cloud-arm64 names no kernel")?;
    let release = image.trim_start_matches("linux-image-").to_owned();

    let step = Step::begin(&format!("Fetching Linux {release} and busybox"));
    let guest = [format!("{image}:arm64"), "busybox-static:arm64".to_owned()];
    let mut versions =
        apt.unpack(&guest, &root.join("guest")).context("the Linux guest cannot be fetched")?;
    step.done(&format!("Fetched Linux {release} and busybox"));

    let step = Step::begin("Fetching the kernel's headers and a compiler for arm64");
    let headers = format!("linux-headers-{release}");
    let parts = apt.dependencies(&format!("{headers}:arm64"))?;
    let part = |start: &str, end: &str| {
        let found = parts.iter().find(|name| name.starts_with(start) && name.ends_with(end));
        found.cloned().with_context(|| format!("{headers} depends on no {start}…{end}"))
    };
    let common = part("linux-headers-", "-common")?;
    let kbuild = part("linux-kbuild-", "")?;
    let packages =
        [format!("{headers}:arm64"), format!("{common}:all"), format!("{kbuild}:{}", apt.native())];
    let root_headers = root.join("headers");
    versions.extend(apt.unpack(&packages, &root_headers).context("the kernel's headers cannot be fetched")?);
    let compiler = if apt.native() == "arm64" { "gcc" } else { "gcc-aarch64-linux-gnu" };
    let tools = apt.unpack_programs(&[compiler, "make"], &root.join("tools"));
    versions.extend(tools.context("a compiler for arm64 cannot be fetched")?);
    settle(&root_headers, &headers)?;
    step.done("Fetched the kernel's headers and a compiler for arm64");
    Ok(Stamp { layout: LAYOUT, release, versions })
}

/// The headers expect to be at `/usr/src`; points their Makefiles and links to where they are.
fn settle(root: &Path, headers: &str) -> Result<()> {
    let tree = root.join("usr/src").join(headers);
    let here = root.display().to_string();
    for makefile in ["Makefile", "arch/arm64/Makefile", "arch/aarch64/Makefile"] {
        let file = tree.join(makefile);
        let Ok(text) = fs::read_to_string(&file) else { continue };
        let text = text
            .replace("/usr/src/", &format!("{here}/usr/src/"))
            .replace("/usr/lib/linux-kbuild", &format!("{here}/usr/lib/linux-kbuild"));
        fs::write(&file, text)?;
    }
    // It serves type information only, and making that takes another program.
    let vmlinux = tree.join("vmlinux");
    if vmlinux.exists() {
        fs::remove_file(vmlinux)?;
    }
    Ok(())
}
