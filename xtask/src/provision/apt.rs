//! Debian packages by a private configuration of apt: checked by apt's own signatures, unpacked where we like, without root and
//! without touching the host's lists, packages or configuration.

use crate::{
    command::{self, Host},
    progress::Step,
};
use anyhow::{Context, Result, anyhow, bail};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// A private apt that knows the packages of this Debian's own mirror, for this processor and for arm64.
pub(crate) struct Apt<'a> {
    host: &'a Host,
    folder: PathBuf,
    native: String,
    codename: String,
    mirror: String,
}

impl<'a> Apt<'a> {
    /// Sets the configuration up below `folder` and fetches the package lists.
    pub(crate) fn open(host: &'a Host, folder: &Path) -> Result<Self> {
        let folder = folder.join("apt");
        for part in ["lists/partial", "archives/partial", "empty"] {
            fs::create_dir_all(folder.join(part))
                .with_context(|| format!("cannot make {}", folder.display()))?;
        }
        let codename = codename(host)?;
        let mirror = mirror(host, &codename)?;
        let native =
            command::output(host.command("dpkg").arg("--print-architecture")).map_err(|f| anyhow!(f))?;
        let apt = Self { host, folder, native: native.trim().to_owned(), codename, mirror };
        let codename = &apt.codename;
        apt.configure()?;

        let step = Step::begin(&format!("Fetching the package lists of Debian {codename}"));
        let backports = format!("{codename} {codename}-updates {codename}-backports");
        let update = |suites: &str, release: &str| {
            apt.write_sources(suites, release)?;
            command::run(apt.get().args(["update", "--error-on=any"]))
        };
        // Testing and unstable have no backports, and need none.
        update(&backports, &format!("{codename}-backports")).or_else(|first| {
            update(codename, codename).map_err(|_| {
                anyhow!(
                    "Debian's package lists cannot be fetched: {first}\n  what to do: check the network, and that \
                     `apt-get update` works; or set HANDOVER_QEMU, HANDOVER_KERNEL, HANDOVER_MODULE and HANDOVER_BUSYBOX to files of your own"
                )
            })
        })?;
        step.done(&format!("Fetched the package lists of Debian {codename}"));
        Ok(apt)
    }

    /// This processor's architecture in Debian's words.
    pub(crate) fn native(&self) -> &str {
        &self.native
    }

    /// The release that runs here.
    pub(crate) fn codename(&self) -> &str {
        &self.codename
    }

    /// Where the host takes this release from.
    pub(crate) fn mirror(&self) -> &str {
        &self.mirror
    }

    /// The packages that the newest `package` depends on, without versions.
    pub(crate) fn dependencies(&self, package: &str) -> Result<Vec<String>> {
        let mut show = self.host.command("apt-cache");
        show.env("APT_CONFIG", self.configuration()).args(["show", "--no-all-versions", package]);
        let record = command::output(&mut show).map_err(|failure| anyhow!(failure))?;
        let depends = record.lines().find_map(|line| line.strip_prefix("Depends: ")).with_context(|| {
            format!("Debian's package {package} depends on nothing, which was not expected")
        })?;
        Ok(depends.split(", ").filter_map(|one| one.split_whitespace().next()).map(str::to_owned).collect())
    }

    /// Fetches these packages alone, without what they depend on, and unpacks them to `to`. Returns their versions.
    pub(crate) fn unpack(&self, packages: &[String], to: &Path) -> Result<BTreeMap<String, String>> {
        let archives = self.empty_archives()?;
        command::run(self.get().current_dir(&archives).arg("download").args(packages))
            .context("packages are missing")?;
        self.unpack_archives(to, &[])
    }

    /// Fetches programs with everything they depend on and this host lacks, and unpacks all to `to`. Returns the versions.
    pub(crate) fn unpack_programs(&self, packages: &[&str], to: &Path) -> Result<BTreeMap<String, String>> {
        self.empty_archives()?;
        let mut install = self.get();
        install.args(["install", "--yes", "--download-only", "--no-install-recommends"]).args(packages);
        command::run(&mut install).context("packages are missing")?;
        // The host's own C library and loader run what is unpacked: it is the same Debian's.
        self.unpack_archives(to, &["libc6"])
    }

    fn unpack_archives(&self, to: &Path, without: &[&str]) -> Result<BTreeMap<String, String>> {
        fs::create_dir_all(to)?;
        let mut versions = BTreeMap::new();
        for entry in fs::read_dir(self.folder.join("archives"))? {
            let archive = entry?.path();
            if archive.extension().is_none_or(|extension| extension != "deb") {
                continue;
            }
            let field = |name: &str| -> Result<String> {
                let mut field = self.host.command("dpkg-deb");
                let value = command::output(field.arg("--field").arg(&archive).arg(name));
                Ok(value.map_err(|failure| anyhow!(failure))?.trim().to_owned())
            };
            let name = field("Package")?;
            if without.contains(&&*name) {
                continue;
            }
            command::run(self.host.command("dpkg-deb").arg("--extract").arg(&archive).arg(to))?;
            versions.insert(name, field("Version")?);
        }
        self.empty_archives()?;
        Ok(versions)
    }

    fn empty_archives(&self) -> Result<PathBuf> {
        let archives = self.folder.join("archives");
        fs::remove_dir_all(&archives)?;
        fs::create_dir_all(archives.join("partial"))?;
        Ok(archives)
    }

    fn get(&self) -> Command {
        let mut get = self.host.command("apt-get");
        get.env("APT_CONFIG", self.configuration()).env("DEBIAN_FRONTEND", "noninteractive").arg("--quiet");
        get
    }

    fn configuration(&self) -> PathBuf {
        self.folder.join("apt.conf")
    }

    fn write_sources(&self, suites: &str, release: &str) -> Result<()> {
        let signed_by =
            if Path::new(KEYRING).exists() { format!("Signed-By: {KEYRING}\n") } else { String::new() };
        let sources =
            format!("Types: deb\nURIs: {}\nSuites: {suites}\nComponents: main\n{signed_by}", self.mirror);
        fs::write(self.folder.join("debian.sources"), sources)?;
        let release = format!("APT::Default-Release \"{release}\";\n");
        fs::write(self.folder.join("release.conf"), release)?;
        self.configure()
    }

    /// Writes the configuration: folders of our own, and how the host reaches its mirror.
    fn configure(&self) -> Result<()> {
        let at = |path: &str| self.folder.join(path).display().to_string();
        let host_configuration = command::output(self.host.command("apt-config").arg("dump"))
            .map_err(|failure| anyhow!("apt does not tell its configuration: {failure}"))?;
        let reach = |line: &&str| line.starts_with("Acquire::") && !line.starts_with("Acquire::IndexTargets");
        let mut text: String =
            host_configuration.lines().filter(reach).map(|line| format!("{line}\n")).collect();
        let folders = [
            ("Dir::State", at("")),
            ("Dir::State::lists", at("lists")),
            ("Dir::Cache", at("")),
            ("Dir::Cache::archives", at("archives")),
            ("Dir::Etc::main", at("empty/none")),
            ("Dir::Etc::parts", at("empty")),
            ("Dir::Etc::preferences", at("empty/none")),
            ("Dir::Etc::preferencesparts", at("empty")),
            ("Dir::Etc::sourcelist", at("debian.sources")),
            ("Dir::Etc::sourceparts", at("empty")),
            // What the host has need not be fetched.
            ("Dir::State::status", "/var/lib/dpkg/status".to_owned()),
            ("APT::Architecture", self.native.clone()),
            // Everything is ours, root or not.
            ("APT::Sandbox::User", String::new()),
            ("Debug::NoLocking", "true".to_owned()),
            ("Acquire::Languages", "none".to_owned()),
            ("Acquire::Retries", "3".to_owned()),
        ];
        for (key, value) in folders {
            text.push_str(&format!("{key} \"{value}\";\n"));
        }
        text.push_str(&format!("APT::Architectures {{ \"{}\"; \"arm64\"; }};\n", self.native));
        text.push_str(&fs::read_to_string(self.folder.join("release.conf")).unwrap_or_default());
        fs::write(self.configuration(), text).context("cannot write apt's private configuration")
    }
}

fn codename(host: &Host) -> Result<String> {
    let debian = host.os_release("ID").is_some_and(|id| id == "debian");
    match host.os_release("VERSION_CODENAME") {
        Some(codename) if debian && host.find("apt-get").is_some() => Ok(codename),
        _ => bail!(
            "packages can be fetched on Debian only, and {} says this is {}\n  what to do: install QEMU 10 or newer for Arm; for Linux \
             guests set HANDOVER_KERNEL to an arm64 Image, HANDOVER_MODULE to handover.ko built for it, HANDOVER_BUSYBOX to a static arm64 busybox \
             (and HANDOVER_QEMU to QEMU if it is not in PATH)",
            host.os_release.display(),
            host.os_release("PRETTY_NAME").unwrap_or_else(|| "another system".to_owned())
        ),
    }
}

/// The mirror from which the host itself takes this release.
fn mirror(host: &Host, codename: &str) -> Result<String> {
    let mut targets = host.command("apt-get");
    targets.args(["indextargets", "--format", "$(RELEASE) $(SITE)", "Created-By: Packages"]);
    let targets = command::output(&mut targets)
        .map_err(|failure| anyhow!("apt does not tell its mirror: {failure}"))?;
    let site =
        targets.lines().filter_map(|line| line.split_once(' ')).find(|(release, _)| *release == codename);
    site.map(|(_, site)| site.to_owned()).with_context(|| {
        format!("no mirror of Debian {codename} is listed in /etc/apt\n  what to do: list one, so that `apt-get update` fetches {codename}")
    })
}
