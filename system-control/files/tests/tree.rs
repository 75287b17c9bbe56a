//! The tree: what the archive holds, what is made on top of it, and what is refused.

mod support;

use handover_files::{Errno, Limits, PageSource, Readiness, Seek};
use linux_raw_sys::general::{
    AT_FDCWD, AT_REMOVEDIR, O_APPEND, O_CREAT, O_DIRECTORY, O_EXCL, O_NOFOLLOW, O_RDWR, O_TRUNC, O_WRONLY,
    S_IFDIR, S_IFMT,
};
use support::World;

fn world() -> World {
    World::new(&[
        ("bin/", b""),
        ("bin/busybox", b"ELF and so on"),
        ("bin/sh", b"->busybox"),
        ("etc/deep/config", b"a = 1\n"),
        ("loop", b"->loop"),
        ("absolute", b"->/etc/deep"),
    ])
}

#[test]
fn the_archive_can_be_read_and_not_changed() {
    let mut world = world();
    assert_eq!(world.content("/bin/sh").unwrap(), b"ELF and so on");
    assert_eq!(world.content("absolute/../deep/./config").unwrap(), b"a = 1\n");
    assert_eq!(world.content("/loop"), Err(Errno::LOOP));
    assert_eq!(world.content("/bin/sh/x"), Err(Errno::NOTDIR));
    assert_eq!(world.content("/bin/busybox/"), Err(Errno::NOTDIR));
    assert_eq!(world.content("/bin"), Err(Errno::ISDIR));
    assert_eq!(world.content("/none"), Err(Errno::NOENT));
    assert_eq!(world.open("/bin/busybox", O_WRONLY), Err(Errno::ROFS));
    assert_eq!(world.open("/new", O_WRONLY | O_CREAT), Err(Errno::ROFS));
    assert_eq!(world.open("/bin/sh", O_NOFOLLOW), Err(Errno::LOOP));
    assert_eq!(world.call().mkdirat(AT_FDCWD, b"/x", 0o777), Err(Errno::ROFS));
    assert_eq!(world.call().unlinkat(AT_FDCWD, b"/bin/sh", 0), Err(Errno::ROFS));
    assert_eq!(world.names("/bin").unwrap(), [".", "..", "busybox", "sh"]);
    let mode = world.call().statat(AT_FDCWD, b"/etc", 0).unwrap().mode;
    assert_eq!(mode, S_IFDIR | 0o755);
}

#[test]
fn archive_files_are_mapped_where_they_lie() {
    let mut world = World::new(&[("file", &[7; 5000])]);
    let hold = world.call().hold_path(AT_FDCWD, b"/file").unwrap();
    for (index, bytes) in [(0, 4096), (1, 904)] {
        match world.call().page(&hold, index, false).unwrap() {
            Some(PageSource::Archive { bytes: found }) => assert_eq!(found, vec![7; bytes]),
            other => panic!("{other:?}"),
        }
    }
    assert!(world.call().page(&hold, 2, false).unwrap().is_none());
    world.files.release(hold, &mut world.kernel);
}

#[test]
fn memory_files_are_written_and_read() {
    let mut world = world();
    let fd = world.open("/tmp/a", O_RDWR | O_CREAT | O_EXCL).unwrap();
    assert_eq!(world.open("/tmp/a", O_RDWR | O_CREAT | O_EXCL), Err(Errno::EXIST));
    assert_eq!(world.write(fd, b"hello").unwrap(), 5);
    assert_eq!(world.call().lseek(fd, 8190, Seek::Start).unwrap(), 8190);
    assert_eq!(world.write(fd, b"world").unwrap(), 5);
    let metadata = world.call().fstat(fd).unwrap();
    assert_eq!((metadata.size, metadata.blocks), (8195, 24));
    let content = world.content("/tmp/a").unwrap();
    assert_eq!((&content[..6], &content[8190..]), (&b"hello\0"[..], &b"world"[..]));
    assert_eq!(world.call().lseek(fd, 0, Seek::End).unwrap(), 8195);
    assert_eq!(world.call().lseek(fd, -1, Seek::Start), Err(Errno::INVAL));

    let append = world.open("/tmp/a", O_WRONLY | O_APPEND).unwrap();
    world.write(append, b"!").unwrap();
    world.call().ftruncate(fd, 3).unwrap();
    world.write(append, b"?").unwrap();
    assert_eq!(world.content("/tmp/a").unwrap(), b"hel?");
    assert_eq!(world.read(append, 1), Err(Errno::BADF));
    world.open("/tmp/a", O_TRUNC).unwrap();
    assert_eq!(world.content("/tmp/a").unwrap(), b"");
}

#[test]
fn a_removed_file_lives_while_it_is_open() {
    let mut world = world();
    let fd = world.open("/tmp/a", O_RDWR | O_CREAT).unwrap();
    world.write(fd, b"still").unwrap();
    world.call().unlinkat(AT_FDCWD, b"/tmp/a", 0).unwrap();
    assert_eq!(world.content("/tmp/a"), Err(Errno::NOENT));
    world.call().lseek(fd, 0, Seek::Start).unwrap();
    assert_eq!(world.read(fd, 9).unwrap(), b"still");
    assert_eq!(world.call().fstat(fd).unwrap().links, 0);
}

#[test]
fn memory_for_files_ends_and_comes_back() {
    let mut world = World::with(&[], Limits { pages: 4, inodes: 40, ..Limits::default() });
    for round in 0..3 {
        let fd = world.open("/tmp/a", O_RDWR | O_CREAT).unwrap();
        assert_eq!(world.write(fd, &[1; 20_000]).unwrap(), 16_384, "{round}");
        assert_eq!(world.write(fd, b"x"), Err(Errno::NOSPC));
        world.call().close(fd).unwrap();
        world.call().unlinkat(AT_FDCWD, b"/tmp/a", 0).unwrap();
    }
    let made = (0..)
        .take_while(|name| world.call().mkdirat(AT_FDCWD, format!("/tmp/{name}").as_bytes(), 0o777).is_ok());
    let made = made.count();
    assert!((10..40).contains(&made), "{made}");
    assert_eq!(world.call().mkdirat(AT_FDCWD, b"/tmp/more", 0o777), Err(Errno::NOSPC));
    for name in 0..made {
        world.call().unlinkat(AT_FDCWD, format!("/tmp/{name}").as_bytes(), AT_REMOVEDIR).unwrap();
    }
    world.call().mkdirat(AT_FDCWD, b"/tmp/more", 0o777).unwrap();
}

#[test]
fn limits_of_names() {
    let mut world = world();
    let long = format!("/tmp/{}", "n".repeat(256));
    assert_eq!(world.open(&long, O_CREAT), Err(Errno::NAMETOOLONG));
    world.open(&long[..260], O_CREAT).unwrap();
    let path = "/tmp/.".repeat(1000);
    assert_eq!(world.open(&path, 0), Err(Errno::NAMETOOLONG));
    assert_eq!(world.open("", 0), Err(Errno::NOENT));
    for link in 0..45 {
        let target = format!("/tmp/l{}", link + 1);
        world.call().symlinkat(target.as_bytes(), AT_FDCWD, format!("/tmp/l{link}").as_bytes()).unwrap();
    }
    world.open("/tmp/l45", O_CREAT).unwrap();
    assert_eq!(world.open("/tmp/l4", 0), Err(Errno::LOOP));
    world.open("/tmp/l5", 0).unwrap();
}

#[test]
fn descriptors_run_out_and_are_shared() {
    let mut world = world();
    world.descriptors.set_limit(4);
    for expected in 0..4 {
        assert_eq!(world.open("/bin/sh", 0), Ok(expected));
    }
    assert_eq!(world.open("/bin/sh", 0), Err(Errno::MFILE));
    assert_eq!(world.call().dup(0), Err(Errno::MFILE));
    world.call().close(2).unwrap();
    assert_eq!(world.call().dup(0), Ok(2));
    assert_eq!(world.read(0, 4).unwrap(), b"ELF ");
    assert_eq!(world.read(2, 3).unwrap(), b"and");
    let child = world.descriptors.fork(&mut world.files);
    let parent = std::mem::replace(&mut world.descriptors, child);
    assert_eq!(world.read(2, 3).unwrap(), b" so");
    parent.close_all(&mut world.files, &mut world.kernel);
    assert_eq!(world.read(0, 9).unwrap(), b" on");
    assert_eq!(world.call().close(4), Err(Errno::BADF));
    assert_eq!(world.call().close(-1), Err(Errno::BADF));
}

#[test]
fn pipes() {
    let mut world = world();
    let [reader, writer] = world.call().pipe2(0).unwrap();
    assert_eq!(world.read(reader, 5), Err(Errno::AGAIN));
    assert_eq!(world.call().readiness(reader), Readiness::empty());
    let key = world.call().wait_key(reader).unwrap().unwrap();
    world.take_wakeups();
    world.write(writer, b"hello").unwrap();
    assert_eq!(world.take_wakeups(), [key]);
    assert!(world.call().readiness(reader).contains(Readiness::READ));
    assert_eq!(world.read(reader, 3).unwrap(), b"hel");
    assert_eq!(world.write(writer, &[9; 70_000]).unwrap(), 65_534);
    assert_eq!(world.write(writer, b"x"), Err(Errno::AGAIN));
    assert_eq!(world.read(reader, 4).unwrap(), b"lo\x09\x09");
    let child = world.descriptors.fork(&mut world.files);
    world.call().close(writer).unwrap();
    let mut total = 0;
    while let Ok(part) = world.read(reader, 5000) {
        total += part.len();
    }
    assert_eq!(total, 65_532);
    child.close_all(&mut world.files, &mut world.kernel);
    assert_eq!(world.read(reader, 5).unwrap(), b"");
    assert!(world.call().readiness(reader).contains(Readiness::HANG_UP));
    let [reader, writer] = world.call().pipe2(0).unwrap();
    world.call().close(reader).unwrap();
    assert_eq!(world.write(writer, b"x"), Err(Errno::PIPE));
}

#[test]
fn devices_and_processes() {
    let mut world = world();
    assert_eq!(world.content("/dev/null").unwrap(), b"");
    let zero = world.open("/dev/zero", O_RDWR).unwrap();
    assert_eq!(world.read(zero, 3).unwrap(), [0; 3]);
    let full = world.open("/dev/full", O_RDWR).unwrap();
    assert_eq!(world.write(full, b"x"), Err(Errno::NOSPC));
    let random = world.open("/dev/urandom", O_RDWR).unwrap();
    assert_eq!(world.read(random, 600).unwrap().len(), 600);

    assert_eq!(world.content("/proc/self/comm").unwrap(), b"test\n");
    assert_eq!(world.content("/proc/12/cmdline").unwrap(), b"a b\0-x\0");
    let stat = String::from_utf8(world.content("/proc/12/stat").unwrap()).unwrap();
    assert!(stat.starts_with("12 (a b) S 0 0 0 "), "{stat}");
    assert_eq!(stat.rsplit_once(") ").unwrap().1.split_whitespace().count(), 50, "{stat}");
    assert_eq!(world.content("/proc/uptime").unwrap(), b"123.45 0.00\n");
    assert_eq!(world.content("/proc/13/stat"), Err(Errno::NOENT));
    let names = world.names("/proc").unwrap();
    for name in ["self", "meminfo", "1", "7", "12"] {
        assert_eq!(names.iter().filter(|found| *found == name).count(), 1, "{names:?}");
    }
    let mut target = [0; 30];
    let length = world.call().readlinkat(AT_FDCWD, b"/proc/self/exe", &mut &mut target[..]).unwrap();
    assert_eq!(&target[..length], b"/bin/test");
    let again = world.open(&format!("/dev/fd/{zero}"), O_RDWR).unwrap();
    assert_eq!(world.read(again, 2).unwrap(), [0; 2]);
    let length = world.call().readlinkat(AT_FDCWD, b"/proc/self/fd/0", &mut &mut target[..]).unwrap();
    assert_eq!(&target[..length], b"/dev/zero");
    let mounts = String::from_utf8(world.content("/proc/mounts").unwrap()).unwrap();
    assert!(mounts.contains("tmpfs /dev/shm tmpfs rw"), "{mounts}");
}

#[test]
fn folders_move_and_keep_their_names() {
    let mut world = world();
    let mut call = world.call();
    call.mkdirat(AT_FDCWD, b"/tmp/a", 0o777).unwrap();
    call.mkdirat(AT_FDCWD, b"/tmp/a/b", 0o777).unwrap();
    call.chdir(b"/tmp/a/b").unwrap();
    assert_eq!(call.renameat2(AT_FDCWD, b"/tmp/a", AT_FDCWD, b"/tmp/a/b/c", 0), Err(Errno::INVAL));
    assert_eq!(call.renameat2(AT_FDCWD, b"/tmp/a/b", AT_FDCWD, b"/tmp/a", 0), Err(Errno::NOTEMPTY));
    call.renameat2(AT_FDCWD, b"/tmp/a", AT_FDCWD, b"/tmp/z", 0).unwrap();
    assert_eq!(call.getcwd().unwrap(), b"/tmp/z/b");
    assert_eq!(call.renameat2(AT_FDCWD, b"/tmp/z", AT_FDCWD, b"/run/z", 0), Err(Errno::XDEV));
    call.unlinkat(AT_FDCWD, b"/tmp/z/b", AT_REMOVEDIR).unwrap();
    assert_eq!(call.getcwd(), Err(Errno::NOENT));
    assert_eq!(call.openat(AT_FDCWD, b"x", O_CREAT, 0o644), Err(Errno::NOENT));
    assert_eq!(call.unlinkat(AT_FDCWD, b"/tmp", AT_REMOVEDIR), Err(Errno::ROFS));
    assert_eq!(call.unlinkat(AT_FDCWD, b"/dev/shm", AT_REMOVEDIR), Err(Errno::BUSY));
    call.chdir(b"/").unwrap();
    assert_eq!(call.statat(AT_FDCWD, b"/tmp", 0).unwrap().links, 3);
    assert_eq!(call.openat(AT_FDCWD, b"/tmp/z", O_DIRECTORY | O_WRONLY, 0), Err(Errno::ISDIR));
    assert_eq!(call.statat(AT_FDCWD, b"/tmp/z", 0).unwrap().mode & S_IFMT, S_IFDIR);
}
