//! Message channels as sockets, against a model of the control OS: another partition is at the other end.

mod support;

use handover_abi::{EndReason, PartitionId, RequestFlags, ServiceId, Signal, SignalKind};
use handover_files::{
    Errno, Fd, PageSource, Readiness, Seek,
    interface::{
        AF_HANDOVER, Address, HANDOVER_MAP, HANDOVER_REFUSAL, REFUSED_BUSY, REFUSED_KIND, REFUSED_UNKNOWN,
        SOL_HANDOVER,
    },
};
use linux_raw_sys::{
    general::{AT_FDCWD, O_CREAT, O_RDWR, O_TRUNC},
    net::{SHUT_RD, SHUT_RDWR, SHUT_WR, SO_ERROR, SOCK_SEQPACKET, SOCK_STREAM, SOL_SOCKET},
};
use support::{ME, World};

/// The other partition.
const PEER: u32 = 2;
const SERVICE: u32 = 5;

fn address(partition: u32, service: u32) -> [u8; Address::SIZE] {
    Address { partition: PartitionId::new(partition), service: ServiceId::new(service) }.to_bytes()
}

fn socket(world: &mut World) -> Fd {
    world.call().socket(AF_HANDOVER.into(), SOCK_SEQPACKET, 0).unwrap()
}

fn listener(world: &mut World, service: u32, backlog: i32) -> Fd {
    let fd = socket(world);
    world.call().bind(fd, &address(0, service)).unwrap();
    world.call().listen(fd, backlog).unwrap();
    fd
}

/// A world with a listener, and a connection that the peer asked for: its descriptor, and the peer's port.
fn connected() -> (World, Fd, u32) {
    let mut world = World::new(&[]);
    let listener = listener(&mut world, SERVICE, 8);
    let port = world.kernel.hypervisor.connect(PEER, ME, SERVICE).unwrap();
    world.events();
    let fd = world.call().accept4(listener, 0).unwrap();
    world.events();
    (world, fd, port)
}

/// Has the peer send a region with these bytes at its start.
fn peer_sends(world: &mut World, port: u32, bytes: u64, start: &[u8], short: &[u8]) -> u64 {
    let region = world.kernel.hypervisor.create(PEER, bytes).unwrap();
    world.kernel.hypervisor.bytes(PEER, region).unwrap()[..start.len()].copy_from_slice(start);
    world.kernel.hypervisor.send(PEER, port, Some(region), short).unwrap();
    world.events();
    region
}

fn name_and_short(record: &[u8]) -> (String, Vec<u8>) {
    let end = record.iter().position(|&byte| byte == 0).unwrap();
    (String::from_utf8(record[..end].to_vec()).unwrap(), record[end + 1..].to_vec())
}

#[test]
fn only_this_domain_and_type() {
    let mut world = World::new(&[]);
    let mut call = world.call();
    assert_eq!(call.socket(2, SOCK_SEQPACKET, 0), Err(Errno::AFNOSUPPORT));
    assert_eq!(call.socket(AF_HANDOVER.into(), SOCK_STREAM, 0), Err(Errno::SOCKTNOSUPPORT));
    assert_eq!(call.socket(AF_HANDOVER.into(), SOCK_SEQPACKET, 6), Err(Errno::PROTONOSUPPORT));
    let file = call.openat(AT_FDCWD, b"/dev/null", O_RDWR, 0).unwrap();
    assert_eq!(call.listen(file, 1), Err(Errno::NOTSOCK));
    assert_eq!(call.listen(99, 1), Err(Errno::BADF));
}

#[test]
fn services_are_permitted_one_by_one() {
    let mut world = World::new(&[]);
    let first = listener(&mut world, SERVICE, 8);
    let second = socket(&mut world);
    assert_eq!(world.call().listen(second, 1), Err(Errno::DESTADDRREQ));
    assert_eq!(world.call().bind(second, &address(0, SERVICE)), Err(Errno::ADDRINUSE));
    assert_eq!(world.call().bind(second, &address(PEER, SERVICE)), Err(Errno::ADDRNOTAVAIL));
    assert_eq!(world.call().bind(second, &[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), Err(Errno::AFNOSUPPORT));
    assert_eq!(world.call().bind(second, &[63, 0]), Err(Errno::INVAL));
    world.call().bind(second, &address(ME, SERVICE + 1)).unwrap();
    assert_eq!(world.call().bind(second, &address(ME, SERVICE + 2)), Err(Errno::INVAL));

    let refused = |world: &mut World, service| {
        let port = world.kernel.hypervisor.connect(PEER, ME, service).unwrap();
        world.events();
        world.kernel.hypervisor.status(PEER, port).unwrap().2
    };
    assert_eq!(refused(&mut world, SERVICE), 0);
    assert_eq!(refused(&mut world, SERVICE + 1), REFUSED_UNKNOWN, "bound and not listening");
    assert_eq!(refused(&mut world, 77), REFUSED_UNKNOWN);
    world.call().listen(second, 8).unwrap();
    assert_eq!(refused(&mut world, SERVICE + 1), 0);
    world.call().shutdown(second, SHUT_RD).unwrap();
    assert_eq!(refused(&mut world, SERVICE + 1), REFUSED_UNKNOWN, "forbidden again");
    world.call().listen(second, 8).unwrap();
    assert_eq!(refused(&mut world, SERVICE + 1), 0);
    world.call().close(second).unwrap();
    assert_eq!(refused(&mut world, SERVICE + 1), REFUSED_UNKNOWN, "closed");
    let third = socket(&mut world);
    world.call().bind(third, &address(0, SERVICE + 1)).unwrap();
    world.call().close(first).unwrap();
}

#[test]
fn a_backlog_ends() {
    let mut world = World::new(&[]);
    let fd = listener(&mut world, SERVICE, 2);
    assert_eq!(world.call().accept4(fd, 0), Err(Errno::AGAIN));
    assert_eq!(world.call().readiness(fd), Readiness::empty());
    let key = world.call().wait_key(fd).unwrap().unwrap();
    let ports: Vec<_> = (0..3).map(|_| world.kernel.hypervisor.connect(PEER, ME, SERVICE).unwrap()).collect();
    world.take_wakeups();
    world.events();
    assert_eq!(world.take_wakeups(), [key]);
    assert_eq!(world.kernel.hypervisor.status(PEER, ports[2]).unwrap().2, REFUSED_BUSY);
    assert!(world.call().readiness(fd).contains(Readiness::READ));
    // One was withdrawn meanwhile.
    world.kernel.hypervisor.disconnect(PEER, ports[0]).unwrap();
    let accepted = world.call().accept4(fd, 0).unwrap();
    let peer = world.call().getpeername(accepted).unwrap();
    assert_eq!(peer, Address { partition: PartitionId::new(PEER), service: ServiceId::new(SERVICE) });
    assert_eq!(world.call().accept4(fd, 0), Err(Errno::AGAIN));
    world.descriptors.set_limit(2);
    let waiting = world.kernel.hypervisor.connect(PEER, ME, SERVICE).unwrap();
    world.events();
    assert_eq!(world.call().accept4(fd, 0), Err(Errno::MFILE));
    world.descriptors.set_limit(3);
    world.call().accept4(fd, 0).unwrap();
    world.events();
    assert!(
        world.kernel.hypervisor.status(PEER, waiting).unwrap().0.contains(handover_abi::Causes::CONNECTED)
    );
}

/// A guest may ask for a connection on which only one end sends; sockets have no such thing as events alone.
#[test]
fn kinds_of_connections() {
    let mut world = World::new(&[]);
    let fd = listener(&mut world, SERVICE, 8);
    let ask = |world: &mut World, flags: RequestFlags| {
        let port = world.kernel.hypervisor.connect(PEER, ME, SERVICE).unwrap();
        world.kernel.hypervisor.last_signal(ME).argument |= u64::from(flags.bits()) << 32;
        world.events();
        port
    };
    let port = ask(&mut world, RequestFlags::EVENTS | RequestFlags::SEND_ONLY);
    assert_eq!(world.kernel.hypervisor.status(PEER, port).unwrap().2, REFUSED_KIND);
    let port = ask(&mut world, RequestFlags::from_bits_retain(1 << 20));
    assert_eq!(world.kernel.hypervisor.status(PEER, port).unwrap().2, REFUSED_KIND);
    let port = ask(&mut world, RequestFlags::SEND_ONLY);
    let taker = world.call().accept4(fd, 0).unwrap();
    assert_eq!(world.write(taker, b"\0x"), Err(Errno::PIPE));
    world.kernel.hypervisor.send(PEER, port, None, b"x").unwrap();
    assert_eq!(world.read(taker, 200).unwrap(), b"\0x");
    ask(&mut world, RequestFlags::RECEIVE_ONLY);
    let giver = world.call().accept4(fd, 0).unwrap();
    assert_eq!(world.read(giver, 200).unwrap(), b"");
    world.write(giver, b"\0x").unwrap();
}

#[test]
fn connecting() {
    let mut world = World::new(&[]);
    let fd = socket(&mut world);
    assert_eq!(world.read(fd, 200), Err(Errno::NOTCONN));
    assert_eq!(world.write(fd, b"\0x"), Err(Errno::NOTCONN));
    assert_eq!(world.call().getpeername(fd), Err(Errno::NOTCONN));
    assert_eq!(world.call().connect(fd, &address(99, 1)), Err(Errno::ADDRNOTAVAIL));
    assert_eq!(world.call().connect(fd, &address(PEER, 9)), Err(Errno::INPROGRESS));
    assert_eq!(world.call().connect(fd, &address(PEER, 9)), Err(Errno::ALREADY));
    assert_eq!(world.call().connect_result(fd), Err(Errno::AGAIN));
    assert_eq!(world.call().readiness(fd), Readiness::empty());
    assert_eq!(world.read(fd, 200), Err(Errno::AGAIN));
    let key = world.call().wait_key(fd).unwrap().unwrap();

    let signal = world.kernel.hypervisor.next_signal(PEER).unwrap();
    let port = world.kernel.hypervisor.accept(PEER, signal.token).unwrap();
    world.take_wakeups();
    world.events();
    assert_eq!(world.take_wakeups(), [key]);
    assert_eq!(world.call().connect_result(fd), Ok(()));
    assert_eq!(world.call().connect(fd, &address(PEER, 9)), Err(Errno::ISCONN));
    assert!(world.call().readiness(fd).contains(Readiness::WRITE));
    world.write(fd, b"\0hello").unwrap();
    assert_eq!(world.kernel.hypervisor.receive(PEER, port).unwrap(), (None, b"hello".to_vec()));
}

#[test]
fn refused_and_too_late() {
    let mut world = World::new(&[]);
    let fd = socket(&mut world);
    assert_eq!(world.call().connect(fd, &address(PEER, 9)), Err(Errno::INPROGRESS));
    let token = world.kernel.hypervisor.next_signal(PEER).unwrap().token;
    world.kernel.hypervisor.refuse(token, 42).unwrap();
    world.events();
    assert!(world.call().readiness(fd).contains(Readiness::ERROR));
    assert_eq!(world.call().getsockopt(fd, SOL_HANDOVER, HANDOVER_REFUSAL), Ok(42));
    assert_eq!(world.call().getsockopt(fd, SOL_SOCKET, SO_ERROR), Ok(Errno::CONNREFUSED.number().into()));
    assert_eq!(world.call().getsockopt(fd, SOL_SOCKET, SO_ERROR), Ok(0));
    assert_eq!(world.write(fd, b"\0"), Err(Errno::PIPE));
    assert_eq!(world.kernel.hypervisor.ports(ME), 0, "the port is given back at once");

    let fd = socket(&mut world);
    assert_eq!(world.call().connect(fd, &address(PEER, 9)), Err(Errno::INPROGRESS));
    let port = world.kernel.hypervisor.next_signal(PEER).unwrap().token as u32;
    world.kernel.hypervisor.time_out(port);
    world.events();
    assert_eq!(world.call().connect_result(fd), Err(Errno::TIMEDOUT));
}

#[test]
fn a_message_is_a_file() {
    let (mut world, fd, port) = connected();
    assert_eq!(world.read(fd, 200), Err(Errno::AGAIN));
    let region = peer_sends(&mut world, port, 8192, b"from the peer", b"note");
    assert!(world.call().readiness(fd).contains(Readiness::READ));
    assert_eq!(world.read(fd, 10), Err(Errno::MSGSIZE), "and it stays");
    let (name, short) = name_and_short(&world.read(fd, 256).unwrap());
    assert_eq!((name.as_str(), &short[..]), ("/msg/1", &b"note"[..]));
    assert!(!world.call().readiness(fd).contains(Readiness::READ));
    assert_eq!(world.names("/msg").unwrap(), [".", "..", "1"]);

    let file = world.open(&name, O_RDWR).unwrap();
    assert_eq!(world.call().fstat(file).unwrap().size, 8192);
    assert_eq!(world.read(file, 13).unwrap(), b"from the peer");
    world.call().lseek(file, 8000, Seek::Start).unwrap();
    world.write(file, b"reply").unwrap();
    let hold = world.call().hold(file).unwrap();
    assert!(matches!(
        world.call().page(&hold, 1, true),
        Ok(Some(PageSource::Region { offset: 4096, region })) if region.bytes == 8192
    ));
    assert!(matches!(world.call().page(&hold, 2, true), Ok(None)));

    // The same memory goes back, and the file is gone.
    world.write(fd, b"/msg/1\0back").unwrap();
    assert_eq!(world.kernel.hypervisor.receive(PEER, port).unwrap(), (Some(region), b"back".to_vec()));
    assert_eq!(&world.kernel.hypervisor.bytes(PEER, region).unwrap()[8000..8005], b"reply");
    assert_eq!(world.open(&name, O_RDWR), Err(Errno::NOENT));
    assert_eq!(world.names("/msg").unwrap(), [".", ".."]);
    assert_eq!(world.read(file, 1), Err(Errno::STALE));
    assert_eq!(world.write(file, b"x"), Err(Errno::STALE));
    assert_eq!(world.call().ftruncate(file, 0), Err(Errno::STALE));
    assert!(matches!(world.call().page(&hold, 0, true), Err(Errno::STALE)));
    assert_eq!(world.call().fstat(file).unwrap().size, 0);
    world.files.release(hold, &mut world.kernel);
    world.call().close(file).unwrap();
}

#[test]
fn a_file_that_was_made_is_a_message() {
    let (mut world, fd, port) = connected();
    let file = world.open("/msg/mine", O_RDWR | O_CREAT).unwrap();
    assert_eq!(world.write(fd, b"/msg/mine"), Err(Errno::INVAL), "nothing was written");
    let mut expected = Vec::new();
    for part in 0..5u8 {
        world.write(file, &[part; 3000]).unwrap();
        expected.extend([part; 3000]);
    }
    assert_eq!(world.kernel.hypervisor.held(ME), 1);
    assert_eq!(world.content("/msg/mine").unwrap(), expected);
    assert_eq!(world.call().fstat(file).unwrap().blocks, 32, "16 KiB");
    // What is cut off comes back as zeroes.
    world.call().ftruncate(file, 100).unwrap();
    world.call().ftruncate(file, 4000).unwrap();
    expected.truncate(100);
    expected.resize(4000, 0);
    assert_eq!(world.content("/msg/mine").unwrap(), expected);

    assert_eq!(world.write(fd, b"/tmp/mine"), Err(Errno::NOENT));
    assert_eq!(world.write(fd, b"/tmp"), Err(Errno::INVAL));
    assert_eq!(world.write(fd, &[b"/msg/mine\0", &[1; 129][..]].concat()), Err(Errno::MSGSIZE));
    world.call().chdir(b"/msg").unwrap();
    world.write(fd, b"mine").unwrap();
    let (region, short) = world.kernel.hypervisor.receive(PEER, port).unwrap();
    assert!(short.is_empty());
    let bytes = world.kernel.hypervisor.bytes(PEER, region.unwrap()).unwrap();
    assert_eq!((bytes.len(), &bytes[..4000]), (16_384, &expected[..]));
    assert!(bytes[4000..].iter().all(|&byte| byte == 0));
    assert_eq!(world.write(fd, b"mine"), Err(Errno::NOENT));
}

#[test]
fn removing_and_replacing_a_file_discards_its_message() {
    let (mut world, _, _) = connected();
    for name in ["/msg/a", "/msg/b"] {
        let file = world.open(name, O_RDWR | O_CREAT).unwrap();
        world.write(file, name.as_bytes()).unwrap();
    }
    let mut call = world.call();
    assert_eq!(call.linkat(AT_FDCWD, b"/msg/a", AT_FDCWD, b"/msg/c", 0), Err(Errno::PERM));
    assert_eq!(call.symlinkat(b"a", AT_FDCWD, b"/msg/c"), Err(Errno::PERM));
    assert_eq!(call.renameat2(AT_FDCWD, b"/msg/a", AT_FDCWD, b"/tmp/a", 0), Err(Errno::XDEV));
    call.renameat2(AT_FDCWD, b"/msg/a", AT_FDCWD, b"/msg/b", 0).unwrap();
    assert_eq!(world.kernel.hypervisor.regions(), 1);
    assert_eq!(world.content("/msg/b").unwrap(), b"/msg/a");
    world.open("/msg/b", O_RDWR | O_TRUNC).unwrap();
    assert_eq!(world.content("/msg/b").unwrap(), b"");
    let file = world.open("/msg/b", O_RDWR).unwrap();
    world.call().unlinkat(AT_FDCWD, b"/msg/b", 0).unwrap();
    assert_eq!(world.kernel.hypervisor.regions(), 0);
    assert_eq!(world.read(file, 1), Err(Errno::STALE));
}

#[test]
fn a_message_is_a_mapping() {
    let (mut world, fd, port) = connected();
    world.call().setsockopt(fd, SOL_HANDOVER, HANDOVER_MAP, 1).unwrap();
    let region = peer_sends(&mut world, port, 1 << 21, b"large", b"short");
    world.kernel.no_address_space = true;
    assert_eq!(world.read(fd, 200), Err(Errno::NOMEM), "and it stays");
    world.kernel.no_address_space = false;
    assert_eq!(world.read(fd, 20), Err(Errno::MSGSIZE), "and it stays");
    assert!(world.kernel.mappings.is_empty());
    let record = world.read(fd, 200).unwrap();
    let word = |at: usize| u64::from_le_bytes(record[at..at + 8].try_into().unwrap());
    assert_eq!((word(8), &record[16..]), (1 << 21, &b"short"[..]));
    assert_eq!(world.kernel.mappings, [((7, region), word(0))].into());

    let mut back = record[..16].to_vec();
    back.extend(b"thanks");
    world.kernel.current = 12;
    assert_eq!(world.write(fd, &back), Err(Errno::INVAL), "another process's address");
    world.kernel.current = 7;
    assert_eq!(world.write(fd, &back[..12]), Err(Errno::INVAL));
    world.write(fd, &back).unwrap();
    assert!(world.kernel.mappings.is_empty());
    assert_eq!(world.kernel.hypervisor.receive(PEER, port).unwrap(), (Some(region), b"thanks".to_vec()));
    assert_eq!(world.write(fd, &back), Err(Errno::INVAL));

    world.kernel.hypervisor.send(PEER, port, None, b"only this").unwrap();
    let record = world.read(fd, 200).unwrap();
    assert_eq!((&record[..16], &record[16..]), (&[0; 16][..], &b"only this"[..]));
    world.write(fd, &[&[0; 16][..], b"and this"].concat()).unwrap();
    assert_eq!(world.kernel.hypervisor.receive(PEER, port).unwrap(), (None, b"and this".to_vec()));

    let (address, bytes) = world.call().map_new(fd, 5000).unwrap();
    assert_eq!((bytes, world.kernel.mappings.len()), (8192, 1));
    assert_eq!(world.call().discard_mapped(address + 1), Err(Errno::INVAL));
    world.call().discard_mapped(address).unwrap();
    assert_eq!((world.kernel.hypervisor.held(ME), world.kernel.mappings.len()), (0, 0));
}

#[test]
fn a_full_queue_and_room_again() {
    let (mut world, fd, port) = connected();
    for _ in 0..support::hypervisor::QUEUE {
        world.write(fd, b"\0x").unwrap();
    }
    let file = world.open("/msg/a", O_RDWR | O_CREAT).unwrap();
    world.write(file, b"kept").unwrap();
    assert_eq!(world.write(fd, b"/msg/a"), Err(Errno::AGAIN));
    assert_eq!(world.content("/msg/a").unwrap(), b"kept", "what was not sent is still there");
    assert!(!world.call().readiness(fd).contains(Readiness::WRITE));
    world.kernel.hypervisor.receive(PEER, port).unwrap();
    let key = world.call().wait_key(fd).unwrap().unwrap();
    world.take_wakeups();
    world.events();
    assert_eq!(world.take_wakeups(), [key]);
    assert!(world.call().readiness(fd).contains(Readiness::WRITE));
    world.write(fd, b"/msg/a").unwrap();
}

#[test]
fn the_other_end_closes() {
    let (mut world, fd, port) = connected();
    peer_sends(&mut world, port, 4096, b"last", b"");
    world.kernel.hypervisor.disconnect(PEER, port).unwrap();
    world.events();
    assert!(world.call().readiness(fd).contains(Readiness::HANG_UP | Readiness::READ));
    assert_eq!(world.write(fd, b"\0x"), Err(Errno::PIPE));
    assert_eq!(name_and_short(&world.read(fd, 200).unwrap()).0, "/msg/1");
    assert_eq!(world.read(fd, 200).unwrap(), b"", "an end, as no record is empty");

    let (mut world, fd, port) = connected();
    let control = world.open("/dev/control", O_RDWR).unwrap();
    assert_eq!(world.read(control, 200), Err(Errno::AGAIN));
    assert_eq!(world.call().readiness(control), Readiness::empty());
    world.kernel.hypervisor.disconnect(PEER, port).unwrap();
    let argument = EndReason::Fault as u64;
    let ended =
        Signal { kind: SignalKind::PartitionEnded, token: 0, partition: PartitionId::new(PEER), argument };
    world.kernel.hypervisor.signal(ME, ended);
    world.events();
    assert!(world.call().readiness(control).contains(Readiness::READ));
    let key = world.call().wait_key(control).unwrap().unwrap();
    assert!(world.take_wakeups().contains(&key));
    let words = [SignalKind::PartitionEnded as u64, 0, PEER.into(), argument];
    let record: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    assert_eq!(world.read(control, 200).unwrap(), record);
    assert_eq!(world.read(control, 200), Err(Errno::AGAIN));
    // Another one reads what comes after it was opened.
    let later = world.open("/dev/control", O_RDWR).unwrap();
    world.kernel.hypervisor.signal(ME, ended);
    world.events();
    assert_eq!(
        (world.read(later, 200).unwrap(), world.read(control, 200).unwrap()),
        (record.clone(), record)
    );
    assert_eq!(world.read(fd, 200), Err(Errno::CONNRESET));
    assert_eq!(world.read(fd, 200).unwrap(), b"");
}

#[test]
fn closing_gives_everything_back() {
    let (mut world, fd, port) = connected();
    for _ in 0..3 {
        peer_sends(&mut world, port, 4096, b"x", b"");
    }
    assert_eq!(world.read(fd, 3), Err(Errno::MSGSIZE));
    let other = world.call().dup(fd).unwrap();
    world.call().close(fd).unwrap();
    assert_eq!(world.kernel.hypervisor.ports(ME), 1);
    world.call().close(other).unwrap();
    assert_eq!((world.kernel.hypervisor.ports(ME), world.kernel.hypervisor.regions()), (0, 0));

    let (mut world, fd, port) = connected();
    world.call().shutdown(fd, SHUT_WR).unwrap();
    assert_eq!(world.write(fd, b"\0x"), Err(Errno::PIPE));
    world.kernel.hypervisor.send(PEER, port, None, b"still").unwrap();
    assert_eq!(world.read(fd, 200).unwrap(), b"\0still");
    world.call().shutdown(fd, SHUT_RD).unwrap();
    assert_eq!(world.read(fd, 200).unwrap(), b"");
    assert_eq!(world.kernel.hypervisor.ports(ME), 0, "both directions are shut down");
    assert_eq!(world.call().shutdown(fd, SHUT_RDWR), Err(Errno::NOTCONN));
}

#[test]
fn a_process_that_ends_leaves_nothing() {
    let (mut world, fd, port) = connected();
    peer_sends(&mut world, port, 4096, b"x", b"");
    world.read(fd, 200).unwrap();
    let file = world.open("/msg/made", O_RDWR | O_CREAT).unwrap();
    world.write(file, b"x").unwrap();
    world.call().map_new(fd, 1).unwrap();
    assert_eq!(world.kernel.hypervisor.held(ME), 3);
    let other = world.descriptors.fork(&mut world.files);
    let own = std::mem::replace(&mut world.descriptors, other);
    own.close_all(&mut world.files, &mut world.kernel);
    // Its parent inherits the files, and no mappings; then the parent is killed.
    world.files.process_ended(7, Some(1), &mut world.kernel);
    assert_eq!((world.kernel.hypervisor.held(ME), world.kernel.mappings.len()), (2, 0));
    assert_eq!(world.read(file, 1), Ok(Vec::new()));
    world.files.process_ended(1, None, &mut world.kernel);
    assert_eq!(world.kernel.hypervisor.held(ME), 0);
    assert_eq!(world.read(file, 1), Err(Errno::STALE));
    assert_eq!(world.names("/msg").unwrap(), [".", ".."]);
}

#[test]
fn limits_hold_and_lose_nothing() {
    let (mut world, fd, port) = connected();
    world.kernel.hypervisor.limit = Some(1);
    peer_sends(&mut world, port, 4096, b"1", b"");
    let region = world.kernel.hypervisor.create(PEER, 4096);
    assert!(region.is_ok());
    world.kernel.hypervisor.send(PEER, port, region.ok(), b"").unwrap();
    let (name, _) = name_and_short(&world.read(fd, 200).unwrap());
    assert_eq!(world.read(fd, 200), Err(Errno::NOBUFS), "an account's limit");
    let file = world.open("/msg/x", O_RDWR | O_CREAT).unwrap();
    assert_eq!(world.write(file, b"x"), Err(Errno::NOBUFS));
    world.call().unlinkat(AT_FDCWD, name.as_bytes(), 0).unwrap();
    assert_eq!(name_and_short(&world.read(fd, 200).unwrap()).0, "/msg/2");
}

/// Both ends may be in this partition.
#[test]
fn one_partition_connects_to_itself() {
    let mut world = World::new(&[]);
    let listener = listener(&mut world, SERVICE, 8);
    let client = socket(&mut world);
    assert_eq!(world.call().connect(client, &address(0, SERVICE)), Err(Errno::INPROGRESS));
    world.events();
    let server = world.call().accept4(listener, 0).unwrap();
    world.events();
    world.call().connect_result(client).unwrap();
    let file = world.open("/msg/a", O_RDWR | O_CREAT).unwrap();
    world.write(file, b"round").unwrap();
    world.write(client, b"/msg/a\0there").unwrap();
    world.events();
    let (name, short) = name_and_short(&world.read(server, 200).unwrap());
    assert_eq!((&short[..], &world.content(&name).unwrap()[..5]), (&b"there"[..], &b"round"[..]));
    assert_eq!(world.read(file, 1), Err(Errno::STALE), "another message now, though the region is the same");
}
