//! The terminal, counters, and lists of descriptors to wait for.

mod support;

use handover_files::{EpollEvent, Errno, Fd, Readiness, TerminalSignal, ioctl_shape};
use linux_raw_sys::{
    general::{
        ECHO, EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLL_CTL_MOD, EPOLLET, EPOLLHUP, EPOLLIN, EPOLLONESHOT,
        EPOLLOUT, ICANON, O_NONBLOCK, O_RDWR, VMIN,
    },
    ioctl::{FIONBIO, FIONREAD, TCGETS, TCSETSF, TCSETSW, TIOCGWINSZ, TIOCSPGRP, TIOCSWINSZ},
};
use support::World;

fn terminal() -> (World, Fd) {
    let mut world = World::new(&[]);
    let fd = world.open("/dev/tty", O_RDWR).unwrap();
    (world, fd)
}

fn keys(world: &mut World, bytes: &[u8]) {
    world.files.console_input(&mut world.kernel, bytes);
}

fn request(world: &mut World, fd: Fd, request: u32, argument: &[u8]) -> Result<Vec<u8>, Errno> {
    let shape = ioctl_shape(request)?;
    let mut buffer = [0; 64];
    assert_eq!(shape.reads, argument.len());
    buffer[..argument.len()].copy_from_slice(argument);
    world.call().ioctl(fd, request, 0, &mut buffer)?;
    Ok(buffer[..shape.writes].to_vec())
}

#[test]
fn lines_are_edited_and_echoed() {
    let (mut world, fd) = terminal();
    assert_eq!(world.read(fd, 10), Err(Errno::AGAIN));
    keys(&mut world, b"lz\x7fs -x\x17now\x15ls\xc3\xa4\x7f /\r");
    assert_eq!(world.read(fd, 3).unwrap(), b"ls ");
    assert_eq!(world.read(fd, 100).unwrap(), b"/\n");
    let screen = String::from_utf8_lossy(&world.kernel.screen).into_owned();
    assert!(screen.starts_with("lz\x08 \x08s -x\x08 \x08\x08 \x08now"), "{screen:?}");
    assert!(screen.ends_with("/\r\n"), "{screen:?}");
    world.kernel.screen.clear();
    world.write(fd, b"a\nb").unwrap();
    assert_eq!(world.kernel.screen, b"a\r\nb");
}

#[test]
fn lines_are_read_one_by_one_and_end() {
    let (mut world, fd) = terminal();
    let key = world.call().wait_key(fd).unwrap().unwrap();
    keys(&mut world, b"one\ntw");
    assert_eq!(world.take_wakeups(), [key]);
    assert_eq!(request(&mut world, fd, FIONREAD, &[]).unwrap(), 4u32.to_le_bytes());
    assert_eq!(world.read(fd, 100).unwrap(), b"one\n");
    assert_eq!(world.read(fd, 100), Err(Errno::AGAIN));
    assert!(!world.call().readiness(fd).contains(Readiness::READ));
    keys(&mut world, b"o\x04\x04");
    assert_eq!(world.read(fd, 100).unwrap(), b"two");
    assert_eq!(world.read(fd, 100).unwrap(), b"", "an end of file");
    assert_eq!(world.read(fd, 100), Err(Errno::AGAIN), "and it goes on");
}

#[test]
fn keys_ask_for_signals() {
    let (mut world, fd) = terminal();
    request(&mut world, fd, TIOCSPGRP, &9u32.to_le_bytes()).unwrap();
    keys(&mut world, b"lost\x03\x1a\x1c");
    for signal in [TerminalSignal::Interrupt, TerminalSignal::Suspend, TerminalSignal::Quit] {
        assert_eq!(world.files.take_terminal_signal(), Some((signal, 9)));
    }
    assert_eq!(world.files.take_terminal_signal(), None);
    keys(&mut world, b"\n");
    assert_eq!(world.read(fd, 100).unwrap(), b"\n");
    assert!(world.kernel.screen.starts_with(b"lost^C^Z^\\"));
    request(&mut world, fd, TIOCSWINSZ, &[50, 0, 132, 0, 0, 0, 0, 0]).unwrap();
    assert_eq!(world.files.take_terminal_signal(), Some((TerminalSignal::WindowChange, 9)));
    assert_eq!(request(&mut world, fd, TIOCGWINSZ, &[]).unwrap(), [50, 0, 132, 0, 0, 0, 0, 0]);
}

#[test]
fn without_lines_every_byte_counts() {
    let (mut world, fd) = terminal();
    keys(&mut world, b"half");
    let mut termios = request(&mut world, fd, TCGETS, &[]).unwrap();
    let flags = u32::from_le_bytes(termios[12..16].try_into().unwrap()) & !(ICANON | ECHO);
    termios[12..16].copy_from_slice(&flags.to_le_bytes());
    request(&mut world, fd, TCSETSW, &termios).unwrap();
    assert_eq!(world.read(fd, 100).unwrap(), b"half");
    world.kernel.screen.clear();
    keys(&mut world, b"\x7f\x04x");
    assert_eq!(world.read(fd, 100).unwrap(), b"\x7f\x04x");
    assert!(world.kernel.screen.is_empty());
    termios[17 + VMIN as usize] = 3;
    keys(&mut world, b"gone");
    request(&mut world, fd, TCSETSF, &termios).unwrap();
    keys(&mut world, b"ab");
    assert_eq!(world.read(fd, 100), Err(Errno::AGAIN));
    keys(&mut world, b"c");
    assert_eq!(world.read(fd, 2).unwrap(), b"ab");
    termios[17 + VMIN as usize] = 0;
    request(&mut world, fd, TCSETSW, &termios).unwrap();
    assert_eq!(world.read(fd, 2).unwrap(), b"c");
    assert_eq!(world.read(fd, 2).unwrap(), b"");
}

#[test]
fn a_keyboard_that_nobody_reads_fills_up() {
    let (mut world, fd) = terminal();
    for _ in 0..100 {
        keys(&mut world, &[b'x'; 1000]);
        keys(&mut world, b"\n");
    }
    let mut lines = 0;
    while let Ok(line) = world.read(fd, 5000) {
        assert_eq!(line.len(), 1001);
        lines += 1;
    }
    assert!((10..20).contains(&lines), "{lines}");
    keys(&mut world, &[b'y'; 10_000]);
    keys(&mut world, b"\n");
    assert_eq!(world.read(fd, 10_000).unwrap().len(), 4096);
}

#[test]
fn requests_go_to_what_has_them() {
    let (mut world, fd) = terminal();
    let null = world.open("/dev/null", O_RDWR).unwrap();
    assert_eq!(request(&mut world, null, TCGETS, &[]), Err(Errno::NOTTY));
    assert_eq!(ioctl_shape(0x1234), Err(Errno::NOTTY));
    assert_eq!(request(&mut world, 77, TCGETS, &[]), Err(Errno::BADF));
    assert_eq!(world.call().nonblocking(fd), Ok(false));
    request(&mut world, fd, FIONBIO, &1u32.to_le_bytes()).unwrap();
    assert_eq!(world.call().nonblocking(fd), Ok(true));
}

#[test]
fn counters_count() {
    let mut world = World::new(&[]);
    let all = world.call().eventfd2(3, 0).unwrap();
    let one = world.call().eventfd2(2, 1 | O_NONBLOCK).unwrap();
    assert_eq!(world.read(all, 7), Err(Errno::INVAL));
    assert_eq!(world.read(all, 8).unwrap(), 3u64.to_le_bytes());
    assert_eq!(world.read(all, 8), Err(Errno::AGAIN));
    for _ in 0..2 {
        assert_eq!(world.read(one, 100).unwrap(), 1u64.to_le_bytes());
    }
    assert_eq!(world.read(one, 100), Err(Errno::AGAIN));
    assert_eq!(world.write(all, &u64::MAX.to_le_bytes()), Err(Errno::INVAL));
    assert_eq!(world.write(all, b"short"), Err(Errno::INVAL));
    world.write(all, &(u64::MAX - 1).to_le_bytes()).unwrap();
    assert_eq!(world.write(all, &1u64.to_le_bytes()), Err(Errno::AGAIN));
    assert_eq!(world.call().readiness(all), Readiness::READ | Readiness::READ_NORMAL);
    assert_eq!(world.call().lseek(all, 0, handover_files::Seek::Start), Err(Errno::SPIPE));
}

fn wait(world: &mut World, list: Fd) -> Vec<(u64, u32)> {
    let events = world.call().epoll_wait(list, 8).unwrap();
    events.iter().map(|event| (event.data, event.events)).collect()
}

fn add(world: &mut World, list: Fd, fd: Fd, events: u32) -> Result<(), Errno> {
    world.call().epoll_ctl(list, EPOLL_CTL_ADD, fd, EpollEvent { events, data: fd as u64 })
}

#[test]
fn lists_tell_of_levels_and_edges() {
    let mut world = World::new(&[]);
    let list = world.call().epoll_create1(0).unwrap();
    let [reader, writer] = world.call().pipe2(0).unwrap();
    let [edge, edge_writer] = world.call().pipe2(0).unwrap();
    add(&mut world, list, reader, EPOLLIN).unwrap();
    add(&mut world, list, edge, EPOLLIN | EPOLLET).unwrap();
    assert_eq!(wait(&mut world, list), []);
    let key = world.call().wait_key(list).unwrap().unwrap();
    world.take_wakeups();
    world.write(writer, b"xy").unwrap();
    world.write(edge_writer, b"xy").unwrap();
    assert!(world.take_wakeups().contains(&key));
    let (level, once) = ((reader as u64, EPOLLIN), (edge as u64, EPOLLIN));
    assert_eq!(wait(&mut world, list), [level, once]);
    assert_eq!(wait(&mut world, list), [level]);
    world.write(edge_writer, b"z").unwrap();
    assert_eq!(wait(&mut world, list), [once, level], "in turn");
    world.read(reader, 2).unwrap();
    assert_eq!(wait(&mut world, list), []);
    world
        .call()
        .epoll_ctl(list, EPOLL_CTL_MOD, edge, EpollEvent { events: EPOLLIN | EPOLLONESHOT, data: 5 })
        .unwrap();
    assert_eq!(wait(&mut world, list), [(5, EPOLLIN)]);
    world.write(edge_writer, b"z").unwrap();
    assert_eq!(wait(&mut world, list), []);
    world.call().close(edge_writer).unwrap();
    world.call().epoll_ctl(list, EPOLL_CTL_MOD, edge, EpollEvent { events: 0, data: 6 }).unwrap();
    assert_eq!(wait(&mut world, list), [(6, EPOLLHUP)], "told without being asked for");
    world.call().epoll_ctl(list, EPOLL_CTL_DEL, edge, EpollEvent { events: 0, data: 0 }).unwrap();
    assert_eq!(wait(&mut world, list), []);
}

#[test]
fn lists_refuse_what_makes_no_sense() {
    let mut world = World::new(&[("file", b"x")]);
    let list = world.call().epoll_create1(0).unwrap();
    let file = world.open("/file", 0).unwrap();
    let counter = world.call().eventfd2(1, 0).unwrap();
    assert_eq!(add(&mut world, list, file, EPOLLIN), Err(Errno::PERM));
    assert_eq!(add(&mut world, counter, counter, EPOLLIN), Err(Errno::INVAL));
    assert_eq!(add(&mut world, list, list, EPOLLIN), Err(Errno::INVAL));
    assert_eq!(add(&mut world, list, 55, EPOLLIN), Err(Errno::BADF));
    add(&mut world, list, counter, EPOLLIN | EPOLLOUT).unwrap();
    assert_eq!(add(&mut world, list, counter, EPOLLIN), Err(Errno::EXIST));
    let event = EpollEvent { events: 0, data: 0 };
    assert_eq!(world.call().epoll_ctl(list, EPOLL_CTL_DEL, 0, event), Err(Errno::INVAL));
    let other = world.call().dup(counter).unwrap();
    assert_eq!(world.call().epoll_ctl(list, EPOLL_CTL_MOD, other, event), Err(Errno::NOENT));
    assert_eq!(world.call().epoll_wait(list, 0), Err(Errno::INVAL));
    assert_eq!(world.call().epoll_wait(counter, 1), Err(Errno::INVAL));
    assert_eq!(wait(&mut world, list), [(counter as u64, EPOLLIN | EPOLLOUT)]);
    // Closing a descriptor is not enough, while another one stands for the same.
    world.call().close(counter).unwrap();
    assert_eq!(wait(&mut world, list), [(counter as u64, EPOLLIN | EPOLLOUT)]);
    world.call().close(other).unwrap();
    assert_eq!(wait(&mut world, list), []);
}

#[test]
fn lists_watch_lists() {
    let mut world = World::new(&[]);
    let lists: Vec<_> = (0..7).map(|_| world.call().epoll_create1(0).unwrap()).collect();
    for pair in lists.windows(2).take(4) {
        add(&mut world, pair[0], pair[1], EPOLLIN).unwrap();
    }
    assert_eq!(add(&mut world, lists[4], lists[0], EPOLLIN), Err(Errno::LOOP));
    let counter = world.call().eventfd2(0, 0).unwrap();
    add(&mut world, lists[4], counter, EPOLLIN).unwrap();
    assert_eq!(wait(&mut world, lists[0]), []);
    let key = world.call().wait_key(lists[0]).unwrap().unwrap();
    world.take_wakeups();
    world.write(counter, &1u64.to_le_bytes()).unwrap();
    assert!(world.take_wakeups().contains(&key));
    assert_eq!(wait(&mut world, lists[0]), [(lists[1] as u64, EPOLLIN)]);
    let bytes = EpollEvent { events: 1, data: u64::MAX - 5 }.to_bytes();
    assert_eq!(EpollEvent::from_bytes(&bytes), EpollEvent { events: 1, data: u64::MAX - 5 });
}
