//! What the machine boots: the control OS as a flat image, and the boot archive with system-control, the manifest and its files.

use crate::{
    cargo::{self, BARE_METAL, CONTROL_OS, LINUX, Package},
    command::Host,
    elf,
    initramfs::{self, Archive, Demo},
    linux_module, programs,
    provision::{self, linux::Linux},
    workspace::Workspace,
};
use anyhow::{Context, Result, bail};
use handover_abi::archive::{Header, MAGIC, PAGE, VERSION};
use handover_manifest::{KernelSource, Manifest, MemorySize, REQUESTS, Ready, Restart};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// The files of a bootable machine, and the programs with symbols that they were made of.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    /// What `-kernel` takes.
    pub(crate) kernel: PathBuf,
    /// What `-initrd` takes.
    pub(crate) archive: PathBuf,
    /// The control OS under the empty name, system-control, and every partition with a bare-metal guest.
    pub(crate) symbols: BTreeMap<String, PathBuf>,
}

/// The name of system-control's partition.
pub(crate) const SYSTEM_CONTROL: &str = "system-control";
/// An initramfs: the demonstration's with the program of this name, which says how Linux does what system-control's kernel does too.
const CONFORMANCE: &str = "conformance";
/// The package of the kernel that runs programs.
const KERNEL: &str = "handover-kernel";

/// Provisions what the manifest needs, builds it, and writes the files to the folder `output` of the output.
/// `folder` is where the manifest's paths start.
pub(crate) fn make(workspace: &Workspace, manifest: &Manifest, folder: &Path, output: &str) -> Result<Image> {
    followed(manifest)?;
    let host = Host::this();
    provision::rust::targets(&host)?;
    let guests = guests_of(workspace, manifest)?;
    let privileged = privileged_of(workspace, manifest)?;
    let mut packages = vec![Package::new(CONTROL_OS), Package::new(&privileged)];
    packages.extend(guests.iter().map(|name| Package::new(name)));
    eprintln!("  Building the control OS, {privileged} and {}", told(&guests));
    let programs = cargo::build(workspace, BARE_METAL, &packages)?;

    let mut files = Files::new();
    let mut packed = manifest.clone();
    let mut symbols = BTreeMap::from([
        (String::new(), programs[0].clone()),
        (SYSTEM_CONTROL.to_owned(), programs[1].clone()),
    ]);
    let linux = linux_of(workspace, &host, manifest)?;
    for partition in &mut packed.partitions {
        let (source, content) = match KernelSource::new(&partition.kernel) {
            KernelSource::Guest(name) => {
                let place = guests.iter().position(|guest| guest == name).context("a guest was not built")?;
                let program = &programs[2 + place];
                symbols.insert(partition.name.clone(), program.clone());
                let stripped = elf::strip(&read(program)?);
                (
                    name.to_owned(),
                    stripped.with_context(|| format!("{} cannot be packed", program.display()))?,
                )
            }
            KernelSource::Debian => {
                let linux = linux.as_ref().context("Linux was not provisioned")?;
                ("debian".to_owned(), read(&linux.kernel)?)
            }
            KernelSource::Path(path) => (path.to_owned(), read(&folder.join(path))?),
        };
        partition.kernel = files.add("kernel", &source, &content)?;
        if let Some(source) = &partition.initramfs {
            let content = match source.as_str() {
                "demo" => demo(workspace, &host, linux.as_ref().context("Linux was not provisioned")?, &[])?,
                CONFORMANCE => {
                    let linux = linux.as_ref().context("Linux was not provisioned")?;
                    demo(workspace, &host, linux, &[CONFORMANCE])?
                }
                path => read(&folder.join(path))?,
            };
            partition.initramfs = Some(files.add("initramfs", source, &content)?);
        }
    }

    let output = workspace.output_folder(output)?;
    let (kernel, archive) = (output.join("handover.img"), output.join("archive.img"));
    let flat = |program: &PathBuf| {
        elf::flatten(&read(program)?)
            .with_context(|| format!("{} cannot be made an image", program.display()))
    };
    write(&kernel, &flat(&programs[0])?.bytes)?;
    let sources = programs::Sources { workspace, folder, linux: linux.as_ref() };
    programs::add(&sources, &mut packed, &mut files)?;
    files.archive.file("manifest", &packed.pack())?;
    files.archive.file("manifest.toml", packed.to_toml().as_bytes())?;
    let memory = manifest.system_control.memory_size();
    let bytes = archive_of(&flat(&programs[1])?, &files.archive.finish()?, memory)?;
    check_room(manifest, bytes.len() as u64)?;
    write(&archive, &bytes)?;
    Ok(Image { kernel, archive, symbols })
}

/// What the manifest asks for and nobody would follow: only init does.
fn followed(manifest: &Manifest) -> Result<()> {
    if manifest.system_control.has_init() {
        return Ok(());
    }
    let ignored = |partition: &handover_manifest::Partition| {
        let plain = (Restart::Never, None, Ready::Started, None);
        (partition.restart, partition.restart_limit, partition.ready, partition.shutdown) != plain
            || partition.uses.iter().any(|used| used == REQUESTS)
    };
    if let Some(partition) = manifest.partitions.iter().find(|partition| ignored(partition)) {
        bail!(
            "partition `{}` has `restart`, `ready`, `shutdown` or uses `{REQUESTS}`, which only init follows, and init does not run \
             with this [system-control] (docs/policy.md)",
            partition.name
        );
    }
    if let Some(program) = manifest.programs.first() {
        bail!(
            "`{}` is a program for init, which does not run with this [system-control] (docs/policy.md)",
            program.name()
        );
    }
    Ok(())
}

/// Files of the boot archive, each on pages of its own, so that it can be mapped where it lies; one source is stored once.
pub(crate) struct Files {
    pub(crate) archive: Archive,
    names: BTreeMap<(&'static str, String), String>,
}

impl Files {
    pub(crate) fn new() -> Self {
        Files { archive: Archive::new(), names: BTreeMap::new() }
    }

    /// Adds a file to a folder under its source's last part, or another name if that is taken; its name.
    pub(crate) fn add(&mut self, kind: &'static str, source: &str, content: &[u8]) -> Result<String> {
        let key = (kind, source.to_owned());
        if let Some(name) = self.names.get(&key) {
            return Ok(name.clone());
        }
        let base = Path::new(source).file_name().map_or(source.into(), |name| name.to_string_lossy());
        let mut name = format!("{kind}/{base}");
        if self.names.values().any(|other| *other == name) {
            name = format!("{name}-{}", self.names.len());
        }
        self.archive.page_file(&name, content)?;
        self.names.insert(key, name.clone());
        Ok(name)
    }
}

/// Header page, system-control's image, files; each on a page of its own.
fn archive_of(system_control: &elf::Flat, files: &[u8], memory: u64) -> Result<Vec<u8>> {
    let to_page = |size: usize| size.next_multiple_of(PAGE as usize);
    let files_offset = PAGE as usize + to_page(system_control.bytes.len());
    let size = files_offset + files.len();
    if system_control.memory_size >= memory {
        let (needs, gets) = (system_control.memory_size, memory);
        bail!("system-control needs {needs} bytes of memory, but gets {gets}");
    }
    let header = Header {
        magic: MAGIC,
        version: VERSION,
        processors: 1,
        size: size as u64,
        image_offset: PAGE,
        image_size: system_control.bytes.len() as u64,
        memory_size: memory,
        files_offset: files_offset as u64,
        files_size: files.len() as u64,
    };
    if let Err(problem) = header.check(size as u64) {
        bail!("the boot archive is wrong: {problem}");
    }
    let mut bytes = zerocopy::IntoBytes::as_bytes(&header).to_vec();
    bytes.resize(PAGE as usize, 0);
    bytes.extend_from_slice(&system_control.bytes);
    bytes.resize(files_offset, 0);
    bytes.extend_from_slice(files);
    Ok(bytes)
}

/// The boot archive stays in memory beside the partitions.
fn check_room(manifest: &Manifest, archive: u64) -> Result<()> {
    let partitions: u64 = manifest.partitions.iter().map(|partition| partition.memory.0).sum();
    let needed = (partitions + manifest.reserved_memory() + archive).next_multiple_of(1 << 20);
    if needed > manifest.machine.memory.0 {
        bail!(
            "the partitions, the boot archive of {archive} bytes and {} for the control OS and system-control take {}, but the machine has {}: \
             raise `memory` under [machine]",
            MemorySize(manifest.reserved_memory()),
            MemorySize(needed),
            manifest.machine.memory
        );
    }
    Ok(())
}

/// The package of the privileged partition's program.
fn privileged_of(workspace: &Workspace, manifest: &Manifest) -> Result<String> {
    let control = &manifest.system_control;
    let Some(kernel) = &control.kernel else {
        return Ok(KERNEL.to_owned());
    };
    let known = cargo::guests(workspace)?;
    match KernelSource::new(kernel) {
        KernelSource::Guest(name) if known.iter().any(|guest| guest == name) => Ok(name.to_owned()),
        _ => bail!("[system-control] runs `{kernel}`, but the guests are: {}", known.join(", ")),
    }
}

/// The bare-metal guests that the manifest runs, each once.
fn guests_of(workspace: &Workspace, manifest: &Manifest) -> Result<Vec<String>> {
    let known = cargo::guests(workspace)?;
    let mut guests = Vec::new();
    for partition in &manifest.partitions {
        if let KernelSource::Guest(name) = KernelSource::new(&partition.kernel) {
            if !known.iter().any(|guest| guest == name) {
                bail!(
                    "partition `{}` runs `guest:{name}`, but the guests are: {}",
                    partition.name,
                    known.join(", ")
                );
            }
            if !guests.iter().any(|guest| guest == name) {
                guests.push(name.to_owned());
            }
        }
    }
    Ok(guests)
}

fn told(guests: &[String]) -> String {
    match guests {
        [] => "no bare-metal guest".to_owned(),
        [guest] => format!("the guest {guest}"),
        guests => format!("the guests {}", guests.join(", ")),
    }
}

/// Debian's kernel and busybox, if the manifest runs them.
fn linux_of(workspace: &Workspace, host: &Host, manifest: &Manifest) -> Result<Option<Linux>> {
    let needed = manifest.partitions.iter().any(|partition| {
        KernelSource::new(&partition.kernel) == KernelSource::Debian
            || matches!(partition.initramfs.as_deref(), Some("demo" | CONFORMANCE))
    });
    (needed || manifest.has_busybox())
        .then(|| provision::linux::find(host, &workspace.output_folder("provision")?))
        .transpose()
}

/// The demonstration's initramfs with everything built, and with these programs of system-control's.
pub(crate) fn demo(workspace: &Workspace, host: &Host, linux: &Linux, programs: &[&str]) -> Result<Vec<u8>> {
    let packages: Vec<_> = programs.iter().map(|name| Package::new(name)).collect();
    let mut built = cargo::build(workspace, LINUX, &packages)?;
    built.push(workspace.source("guests/linux/initramfs/build"));
    let tool = cargo::build(workspace, LINUX, &[Package::with_binary("handover-tool", "handover")])?;
    initramfs::demo(&Demo {
        busybox: &linux.busybox,
        init: &workspace.source("guests/linux/initramfs/init"),
        module: &linux_module::build(workspace, host, linux)?,
        tool: &tool[0],
        programs: &built,
    })
}

pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archive_is_what_its_header_says() {
        let image = elf::Flat { bytes: vec![7; 5000], memory_size: 9000 };
        let bytes = archive_of(&image, b"files", 16 << 20).unwrap();
        let header = <Header as zerocopy::FromBytes>::read_from_prefix(&bytes).unwrap().0;
        assert_eq!(header.check(bytes.len() as u64), Ok(()));
        let part = |offset: u64, size: u64| &bytes[offset as usize..(offset + size) as usize];
        assert_eq!(part(header.image_offset, header.image_size), &image.bytes);
        assert_eq!(part(header.files_offset, header.files_size), b"files");
    }

    #[test]
    fn system_control_must_fit_its_memory() {
        let image = elf::Flat { bytes: vec![7; 16], memory_size: 16 << 20 };
        assert!(archive_of(&image, b"", 16 << 20).unwrap_err().to_string().contains("needs 16777216 bytes"));
    }

    #[test]
    fn one_source_is_stored_once() {
        let mut files = Files::new();
        assert_eq!(files.add("kernel", "a/Image", b"1").unwrap(), "kernel/Image");
        assert_eq!(files.add("kernel", "b/Image", b"2").unwrap(), "kernel/Image-1");
        assert_eq!(files.add("kernel", "a/Image", b"1").unwrap(), "kernel/Image");
        assert_eq!(files.add("initramfs", "a/Image", b"3").unwrap(), "initramfs/Image");
        assert_eq!(files.archive.entries(), 3);
    }

    #[test]
    fn what_nobody_follows_is_refused() {
        let text = "machine = { processors = 1, memory = \"98 MiB\" }\nsystem-control = { kernel = \"guest:b\" }\n[[partition]]\n\
                    name = \"a\"\nkernel = \"guest:a\"\nprocessors = 1\n\
                    memory = \"16 MiB\"\n";
        let check = |more: &str| {
            let manifest = handover_manifest::parse(&format!("{text}{more}"), Path::new("m.toml")).unwrap();
            followed(&manifest).map_err(|error| error.to_string())
        };
        assert_eq!(check(""), Ok(()));
        for more in
            ["restart = \"always\"", "ready = \"told\"", "shutdown = \"1 s\"", "uses = [\"requests\"]"]
        {
            assert!(check(more).unwrap_err().contains("partition `a` has"), "{more}");
        }
        assert!(
            check("[[program]]\npath = \"program:p\"").unwrap_err().contains("`p` is a program for init")
        );
    }

    #[test]
    fn counts_the_archive_as_memory() {
        let text = "machine = { processors = 1, memory = \"98 MiB\" }\n[[partition]]\nname = \"a\"\nkernel = \"guest:a\"\nprocessors = 1\nmemory = \"16 MiB\"\n";
        let manifest = handover_manifest::parse(text, Path::new("m.toml")).unwrap();
        assert!(check_room(&manifest, 1 << 20).is_ok());
        let error = check_room(&manifest, 3 << 20).unwrap_err().to_string();
        assert!(error.contains("take 99 MiB, but the machine has 98 MiB"), "{error}");
    }
}
