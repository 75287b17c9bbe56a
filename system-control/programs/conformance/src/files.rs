//! Files and directories.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write},
    os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink},
    path::Path,
};

use crate::tell;

pub(crate) fn all() {
    let folder = Path::new("/tmp/conformance");
    _ = fs::remove_dir_all(folder);
    fs::create_dir_all(folder.join("a/b")).unwrap();
    contents(&folder.join("file"));
    names(folder);
    errors(folder);
    devices();
    fs::remove_dir_all(folder).unwrap();
    tell("removed", folder.exists());
}

fn contents(path: &Path) {
    fs::write(path, "first line\nsecond line\n").unwrap();
    OpenOptions::new().append(true).open(path).unwrap().write_all(b"third line\n").unwrap();
    tell("lines", BufReader::new(File::open(path).unwrap()).lines().map(Result::unwrap).collect::<Vec<_>>());
    let mut file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    file.seek(SeekFrom::Start(6)).unwrap();
    file.write_all(b"LINE").unwrap();
    tell("position", file.stream_position().unwrap());
    tell("from the end", file.seek(SeekFrom::End(-5)).unwrap());
    let mut rest = String::new();
    file.read_to_string(&mut rest).unwrap();
    tell("rest", rest);
    let mut part = [0; 4];
    file.read_exact_at(&mut part, 6).unwrap();
    tell("four bytes at 6", String::from_utf8_lossy(&part));
    file.set_len(10_000).unwrap();
    tell("length", file.metadata().unwrap().len());
    file.write_all_at(b"!", 9_999).unwrap();
    let bytes = fs::read(path).unwrap();
    tell("bytes that are not zero", bytes.iter().filter(|&&byte| byte != 0).count());
    let large: Vec<u8> = (0..300_000u32).map(|n| (n * 7 % 251) as u8).collect();
    fs::write(path, &large).unwrap();
    tell("300,000 bytes read back", fs::read(path).unwrap() == large);
}

fn names(folder: &Path) {
    fs::rename(folder.join("file"), folder.join("a/renamed")).unwrap();
    fs::copy(folder.join("a/renamed"), folder.join("copy")).unwrap();
    symlink("a/renamed", folder.join("link")).unwrap();
    fs::hard_link(folder.join("copy"), folder.join("hard")).unwrap();
    tell("link", fs::read_link(folder.join("link")).unwrap());
    tell("links", fs::metadata(folder.join("hard")).unwrap().nlink());
    tell("through the link", fs::metadata(folder.join("link")).unwrap().len());
    tell("is a link", fs::symlink_metadata(folder.join("link")).unwrap().is_symlink());
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    tell("directory", names);
    tell("canonical", fs::canonicalize(folder.join("a/../link")).unwrap());
    fs::set_permissions(folder.join("copy"), fs::Permissions::from_mode(0o640)).unwrap();
    tell("mode", format!("{:o}", fs::metadata(folder.join("copy")).unwrap().mode()));
    std::env::set_current_dir(folder.join("a")).unwrap();
    tell("current directory", std::env::current_dir().unwrap());
    tell("relative", fs::metadata("renamed").is_ok());
    std::env::set_current_dir("/").unwrap();
}

fn errors(folder: &Path) {
    let kind = |result: io::Result<()>| result.map_err(|error| (error.kind(), error.raw_os_error()));
    tell("no such file", kind(File::open(folder.join("missing")).map(drop)));
    tell("exists", kind(fs::create_dir(folder.join("a"))));
    tell("not empty", kind(fs::remove_dir(folder.join("a"))));
    tell("not a directory", kind(File::open(folder.join("copy/x")).map(drop)));
    tell("is a directory", kind(File::create(folder.join("a")).map(drop)));
    tell("a new file that exists", kind(File::create_new(folder.join("copy")).map(drop)));
    tell(
        "read of what is open to write",
        kind(File::create(folder.join("w")).unwrap().read(&mut [0; 4]).map(drop)),
    );
    tell("a loop", {
        symlink("loop", folder.join("loop")).unwrap();
        kind(File::open(folder.join("loop")).map(drop))
    });
}

fn devices() {
    let mut bytes = [1; 16];
    File::open("/dev/zero").unwrap().read_exact(&mut bytes).unwrap();
    tell("zeroes", bytes);
    tell(
        "null",
        (File::create("/dev/null").unwrap().write(b"gone").unwrap(), fs::read("/dev/null").unwrap().len()),
    );
    let mut random = [[0; 32]; 2];
    let mut source = File::open("/dev/urandom").unwrap();
    random.iter_mut().for_each(|bytes| source.read_exact(bytes).unwrap());
    tell("random bytes differ", random[0] != random[1]);
}
