//! Provisioning in an empty home, with stand-ins for the programs it calls. Each writes down how it was called.

use super::{linux, qemu, rust};
use crate::command::Host;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};
use tempfile::TempDir;

/// A machine of stand-ins.
struct Stage {
    folder: TempDir,
    host: Host,
}

const RUSTC: &str = r#"/bin/echo "$HOME/lib/$4""#;
const RUSTUP: &str = r#"[ "$1" = target ] || exit 0; shift 2; for target; do /bin/mkdir -p "$HOME/lib/$target"; : > "$HOME/lib/$target/libcore-1.rlib"; done"#;

/// Knows two suites; `install` and `download` make one "package" for each name.
const APT_GET: &str = r#"
archives="${APT_CONFIG%/*}/archives"
case " $* " in
*" indextargets "*) echo "trixie-security http://security.example/"; echo "trixie http://mirror.example/debian"; exit;;
*" update "*)
    grep="$(/bin/cat "${APT_CONFIG%/*}/debian.sources")"
    case "$grep" in *-backports*) [ -z "$NO_BACKPORTS" ] || { echo "E: no Release file" >&2; exit 100; };; esac
    exit;;
esac
for word; do case "$word" in -*|install|download|[0-9]*) ;; *) echo "${word%%:*}" > "$archives/${word%%:*}.deb";; esac; done
"#;
const APT_CACHE: &str = r#"
case "$3" in
linux-image-cloud-arm64:arm64) echo "Depends: linux-image-6.12.1-cloud-arm64 (= 6.12.1-1)";;
linux-headers-6.12.1-cloud-arm64:arm64) echo "Depends: linux-headers-6.12.1-common (= 6.12.1-1), linux-image-6.12.1-cloud-arm64 | other, linux-kbuild-6.12.1, gcc-12";;
*) echo "N: no package $3" >&2; exit 100;;
esac
"#;
/// Unpacks what the real package of this name would have.
const DPKG_DEB: &str = r#"
name="$(/bin/cat "$2")"
case "$1" in
--field) case "$3" in Package) echo "$name";; Version) echo "1.0-$name";; esac; exit;;
esac
put() { /bin/mkdir -p "${1%/*}"; /bin/cat > "$1"; }
case "$name" in
qemu-system-arm) put "$3/usr/bin/qemu-system-aarch64" <<END
#!/bin/sh
echo "QEMU emulator version ${QEMU_OFFERED:-10.0.2} (Debian)"
END
    /bin/chmod +x "$3/usr/bin/qemu-system-aarch64";;
linux-image-*) echo Image | put "$3/boot/vmlinuz-6.12.1-cloud-arm64";;
busybox-static) echo busybox | put "$3/usr/bin/busybox";;
linux-headers-*-common) echo | put "$3/usr/src/$name/Makefile";;
linux-headers-*) echo "include /usr/src/linux-headers-6.12.1-common/Makefile" | put "$3/usr/src/$name/Makefile"; echo | put "$3/usr/src/$name/vmlinux";;
libc6) echo broken | put "$3/lib/libc.so.6";;
esac
"#;

impl Stage {
    /// Debian with everything that Debian always has, and rustup.
    fn debian() -> Self {
        let stage = Self::empty("ID=debian\nVERSION_CODENAME=trixie\n");
        stage.program("rustc", RUSTC);
        stage.program("rustup", RUSTUP);
        stage.program("apt-get", APT_GET);
        stage.program("apt-cache", APT_CACHE);
        stage.program("apt-config", r#"echo 'Acquire::http::Proxy "http://proxy.example";'; echo 'APT::Update::Post-Invoke:: "touch /x";'"#);
        stage.program("dpkg", "echo amd64");
        stage.program("dpkg-deb", DPKG_DEB);
        stage
    }

    fn empty(os_release: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["bin", "home", "provision"] {
            fs::create_dir(at(name)).unwrap();
        }
        fs::write(at("os-release"), os_release).unwrap();
        let host = Host {
            search_path: at("bin").into(),
            home: Some(at("home")),
            os_release: at("os-release"),
            variables: BTreeMap::new(),
        };
        Self { folder, host }
    }

    /// Puts a stand-in in place: a script that first writes down its arguments.
    ///
    /// Another process writes it: a file that is open for writing cannot be run, and what this process has open, every child that another test is just starting
    /// has open too.
    fn program(&self, name: &str, script: &str) {
        let file = self.folder.path().join("bin").join(name);
        let calls = self.folder.path().join("calls");
        let script = format!("#!/bin/sh\necho \"{name} $*\" >> {}\n{script}", calls.display());
        let write = r#"printf '%s\n' "$2" > "$1" && chmod +x "$1""#;
        let status = Command::new("/bin/sh").args(["-c", write, "write"]).arg(file).arg(script).status();
        assert!(status.unwrap().success());
    }

    fn provision(&self) -> PathBuf {
        self.folder.path().join("provision")
    }

    /// The calls since the last time this was asked, of programs whose name starts so.
    fn calls(&self, program: &str) -> Vec<String> {
        let file = self.folder.path().join("calls");
        let calls = fs::read_to_string(&file).unwrap_or_default();
        if file.exists() {
            fs::remove_file(file).unwrap();
        }
        calls.lines().filter(|call| call.starts_with(program)).map(str::to_owned).collect()
    }

    fn targets(&self) -> Result<(), String> {
        rust::targets(&self.host).map_err(|error| format!("{error:#}"))
    }

    fn qemu(&self) -> Result<qemu::Qemu, String> {
        qemu::find(&self.host, &self.provision()).map_err(|error| format!("{error:#}"))
    }

    fn linux(&self) -> Result<linux::Linux, String> {
        linux::find(&self.host, &self.provision()).map_err(|error| format!("{error:#}"))
    }
}

#[test]
fn adds_missing_targets_once() {
    let stage = Stage::debian();
    stage.targets().unwrap();
    let added = ["rustup target add aarch64-unknown-none-softfloat aarch64-unknown-linux-musl"];
    assert_eq!(stage.calls("rustup"), added);
    stage.targets().unwrap();
    assert!(stage.calls("rustup").is_empty());
}

#[test]
fn says_what_to_do_without_rustup_or_its_server() {
    let stage = Stage::debian();
    stage.program("rustup", "echo 'could not download file' >&2; exit 1");
    let error = stage.targets().unwrap_err();
    assert!(error.contains("could not download file") && error.contains("check the network"), "{error}");
    fs::remove_file(stage.folder.path().join("bin/rustup")).unwrap();
    let error = stage.targets().unwrap_err();
    assert!(error.contains("`rustup` is not installed") && error.contains("by hand"), "{error}");
}

#[test]
fn adds_lint_tools_that_are_missing_or_do_not_work() {
    let stage = Stage::debian();
    stage.program("cargo-clippy", "exit 1");
    rust::lint_tools(&stage.host).unwrap();
    assert_eq!(stage.calls("rustup"), ["rustup component add clippy rustfmt"]);
    stage.program("cargo-clippy", "");
    stage.program("cargo-fmt", "");
    rust::lint_tools(&stage.host).unwrap();
    assert!(stage.calls("rustup").is_empty());
}

#[test]
fn takes_an_installed_qemu() {
    let stage = Stage::debian();
    stage.program("qemu-system-aarch64", "echo 'QEMU emulator version 10.1.0'");
    let qemu = stage.qemu().unwrap();
    assert_eq!(
        (qemu.version.as_str(), qemu.program),
        ("10.1.0", stage.folder.path().join("bin/qemu-system-aarch64"))
    );
    assert!(stage.calls("apt").is_empty());
}

#[test]
fn fetches_qemu_where_the_installed_one_is_old() {
    let stage = Stage::debian();
    stage.program("qemu-system-aarch64", "echo 'QEMU emulator version 7.2.22 (Debian 1:7.2)'");
    let qemu = stage.qemu().unwrap();
    assert_eq!(qemu.version, "10.0.2");
    assert!(qemu.program.starts_with(stage.provision()));
    let apt = stage.calls("apt-get");
    assert!(
        apt.iter().any(
            |call| call.contains("install --yes --download-only --no-install-recommends qemu-system-arm")
        ),
        "{apt:?}"
    );
    stage.qemu().unwrap();
    assert!(stage.calls("apt").is_empty());
}

#[test]
fn apt_is_private_and_reaches_what_the_host_reaches() {
    let stage = Stage::debian();
    stage.qemu().unwrap();
    let file = |name: &str| fs::read_to_string(stage.provision().join("apt").join(name)).unwrap();
    let (configuration, sources) = (file("apt.conf"), file("debian.sources"));
    assert!(
        sources
            .contains("URIs: http://mirror.example/debian\nSuites: trixie trixie-updates trixie-backports\n"),
        "{sources}"
    );
    assert!(configuration.contains("Acquire::http::Proxy \"http://proxy.example\";"), "{configuration}");
    assert!(!configuration.contains("Post-Invoke"), "{configuration}");
    for key in ["Dir::State", "Dir::Cache", "Dir::Etc::sourcelist", "Dir::Etc::parts", "Dir::State::lists"] {
        let line = configuration.lines().find(|line| line.starts_with(&format!("{key} "))).unwrap();
        assert!(line.contains(stage.provision().to_str().unwrap()), "{line}");
    }
}

#[test]
fn does_without_backports_where_there_are_none() {
    let stage = Stage::debian();
    stage.program("apt-get", &format!("NO_BACKPORTS=1\n{APT_GET}"));
    stage.qemu().unwrap();
    let sources = fs::read_to_string(stage.provision().join("apt/debian.sources")).unwrap();
    assert!(sources.contains("Suites: trixie\n"), "{sources}");
}

#[test]
fn says_what_to_do_when_debian_has_only_an_old_qemu() {
    let stage = Stage::debian();
    stage.program("dpkg-deb", &format!("QEMU_OFFERED=7.2.0\n{DPKG_DEB}"));
    let error = stage.qemu().unwrap_err();
    assert!(
        error.contains("offers QEMU 7.2.0, but 10.0 or newer") && error.contains("HANDOVER_QEMU"),
        "{error}"
    );
}

#[test]
fn says_what_to_do_without_network() {
    let stage = Stage::debian();
    stage.program("apt-get", "case \" $* \" in *indextargets*) echo 'trixie http://mirror.example/debian'; exit;; esac\necho 'E: Could not resolve' >&2; exit 100");
    let error = stage.qemu().unwrap_err();
    assert!(error.contains("Could not resolve") && error.contains("check the network"), "{error}");
    assert!(!error.contains('\n') || error.lines().count() < 8, "{error}");
}

#[test]
fn says_what_to_do_on_other_systems() {
    let stage = Stage::empty("ID=fedora\nPRETTY_NAME=\"Fedora Linux 43\"\nVERSION_CODENAME=\"\"\n");
    for error in [stage.qemu().unwrap_err(), stage.linux().unwrap_err()] {
        assert!(error.contains("Fedora Linux 43"), "{error}");
        for variable in ["HANDOVER_QEMU", "HANDOVER_KERNEL", "HANDOVER_MODULE", "HANDOVER_BUSYBOX"] {
            assert!(error.contains(variable), "{error}");
        }
    }
}

#[test]
fn takes_the_qemu_that_the_user_names_or_says_why_not() {
    let mut stage = Stage::debian();
    stage.program("old", "echo 'QEMU emulator version 9.2.0'");
    stage.program("new", "echo 'QEMU emulator version 11.0.0'");
    stage.program("other", "echo 'hello'");
    let mut with = |name: &str| {
        let program = stage.folder.path().join("bin").join(name);
        stage.host.variables.insert("HANDOVER_QEMU", program);
        stage.qemu()
    };
    assert_eq!(with("new").unwrap().version, "11.0.0");
    let error = with("old").unwrap_err();
    assert!(error.contains("of version 9.2.0, but 10.0 or newer"), "{error}");
    assert!(with("other").unwrap_err().contains("does not tell its version"));
    assert!(with("none").unwrap_err().contains("does not run"));
    assert!(stage.calls("apt").is_empty());
}

#[test]
fn fetches_a_linux_guest_once() {
    let stage = Stage::debian();
    let first = stage.linux().unwrap();
    assert_eq!(fs::read_to_string(&first.kernel).unwrap(), "Image\n");
    assert_eq!(fs::read_to_string(&first.busybox).unwrap(), "busybox\n");
    let shown = first.to_string();
    assert!(shown.contains("busybox-static 1.0-busybox-static"), "{shown}");
    assert!(shown.contains("gcc-aarch64-linux-gnu 1.0-gcc-aarch64-linux-gnu"), "{shown}");
    let downloads: Vec<_> =
        stage.calls("apt-get").into_iter().filter(|call| call.contains(" download ")).collect();
    assert!(
        downloads[0].ends_with("download linux-image-6.12.1-cloud-arm64:arm64 busybox-static:arm64"),
        "{downloads:?}"
    );
    assert!(
        downloads[1].ends_with("linux-headers-6.12.1-common:all linux-kbuild-6.12.1:amd64"),
        "{downloads:?}"
    );

    assert_eq!(stage.linux().unwrap().to_string(), shown);
    assert!(stage.calls("").is_empty());
}

#[test]
fn headers_point_to_where_they_are() {
    let stage = Stage::debian();
    let linux::Module::Build { headers, .. } = stage.linux().unwrap().module else {
        panic!("nothing to build")
    };
    let makefile = fs::read_to_string(headers.join("Makefile")).unwrap();
    let included = makefile.trim().strip_prefix("include ").unwrap();
    assert!(Path::new(included).is_file(), "{included}");
    assert!(!headers.join("vmlinux").exists());
}

#[test]
fn fetches_again_what_another_version_fetched_or_left_unfinished() {
    let stage = Stage::debian();
    stage.linux().unwrap();
    let stamp = stage.provision().join("linux/stamp.json");
    for spoilt in ["{\"layout\": 0, \"release\": \"5\", \"versions\": {}}", "{\"layout\""] {
        fs::write(&stamp, spoilt).unwrap();
        stage.calls("");
        stage.linux().unwrap();
        assert!(!stage.calls("apt-get").is_empty());
    }
}

#[test]
fn the_user_names_all_files_of_a_linux_guest_or_none() {
    let mut stage = Stage::debian();
    let file = stage.folder.path().join("file");
    stage.host.variables.insert("HANDOVER_KERNEL", file.clone());
    assert!(stage.linux().unwrap_err().contains("together"));
    stage.host.variables.insert("HANDOVER_MODULE", file.clone());
    stage.host.variables.insert("HANDOVER_BUSYBOX", file.clone());
    let error = stage.linux().unwrap_err();
    assert!(error.contains("which is no file"), "{error}");
    fs::write(&file, "").unwrap();
    let linux = stage.linux().unwrap();
    assert_eq!(linux.kernel, file);
    assert!(matches!(linux.module, linux::Module::Ready(module) if module == file));
    assert!(stage.calls("").is_empty());
}

#[test]
fn the_hosts_c_library_stays() {
    let stage = Stage::debian();
    stage.program(
        "apt-get",
        &APT_GET
            .replace("for word;", "case \" $* \" in *\" install \"*) set -- \"$@\" libc6;; esac\nfor word;"),
    );
    stage.linux().unwrap();
    assert!(!stage.provision().join("linux/tools/lib/libc.so.6").exists());
}
