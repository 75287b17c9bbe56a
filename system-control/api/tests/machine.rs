//! Partitions on a model of the control OS.
#![allow(missing_docs, reason = "a test binary has no readers of its documentation")]

use fdt::Fdt;
use handover_control::{
    Account, Cause, Charge, EndReason, Ended, PartitionId, PartitionState, Service, ServiceId, Setup,
    abi::{Error as ControlError, layout::MEMORY_BASE},
    model::Model,
};

const MIB: u64 = 1 << 20;

/// A kernel of 100 KiB in the arm64 Image format, not all zeroes, that needs 1 MiB.
fn kernel() -> Vec<u8> {
    let mut file: Vec<u8> = (0..100 << 10).map(|index| (index / 7) as u8).collect();
    file[8..16].fill(0);
    file[16..24].copy_from_slice(&MIB.to_le_bytes());
    file[56..60].copy_from_slice(b"ARM\x64");
    file
}

#[test]
fn a_guest_lives_and_ends() {
    let model = Model::new(64 * MIB);
    let machine = model.machine();
    let mut setup = Setup::new("guest", 2, 16 * MIB);
    setup.command_line = Some("quiet".into());
    setup.limits = vec![(Account::Ports, 7)];
    setup.uses = vec![Service { name: "echo".into(), id: ServiceId::new(1), partition: PartitionId::new(9) }];
    let guest = machine.create(&setup, &kernel(), Some(b"initramfs")).unwrap();
    assert_eq!(guest.state().unwrap(), (PartitionState::Created, None));
    assert_eq!(guest.account(Account::Memory).unwrap(), Charge { used: 16 * MIB, limit: 48 * MIB });
    assert_eq!(guest.account(Account::Ports).unwrap().limit, 7);
    assert_eq!(machine.info().unwrap().free_memory, 48 * MIB);

    guest.start().unwrap();
    let made = model.partition(guest.id().get());
    assert_eq!(made.started, Some((MEMORY_BASE + 2 * MIB, MEMORY_BASE)));
    assert_eq!(made.memory[2 << 20..(2 << 20) + (100 << 10)], kernel());
    assert_eq!(&made.memory[4 << 20..(4 << 20) + 10], b"initramfs\0");
    let tree = Fdt::new(&made.memory).unwrap();
    assert_eq!(tree.chosen().bootargs(), Some("quiet"));
    let service = tree.find_node("/hypervisor/service@1").unwrap();
    assert_eq!(service.property("partition").unwrap().as_usize(), Some(9));

    guest.pause().unwrap();
    assert!(model.partition(2).paused);
    guest.resume().unwrap();
    assert_eq!(guest.destroy().unwrap_err().control(), Some(ControlError::WrongState));
    model.end(2, EndReason::Exited, 3);
    let ended = Ended { reason: EndReason::Exited, status: 3 };
    assert_eq!(guest.state().unwrap(), (PartitionState::Terminated, Some(ended)));
    guest.destroy().unwrap();
    assert_eq!(model.free(), 64 * MIB);
    let gone = guest.state().unwrap_err();
    assert_eq!(gone.to_string(), "cannot ask for its state (partition 2): no such handle");
}

#[test]
fn errors_name_what_was_exceeded() {
    let model = Model::new(64 * MIB);
    let mut setup = Setup::new("guest", 1, 16 * MIB);
    setup.limits = vec![(Account::Memory, 8 * MIB)];
    let error = model.machine().create(&setup, &kernel(), None).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot give 16777216 bytes of memory (partition 2): limit reached: of memory, partition 2 uses 0 bytes of 8 MiB"
    );
    assert!(
        matches!(error.cause, Cause::Limit { account: Account::Memory, used: 0, limit, .. } if limit == 8 * MIB)
    );
    // Nothing is left of it.
    assert_eq!((model.free(), model.names()), (64 * MIB, vec![]));
}

#[test]
fn what_cannot_be_started_leaves_nothing() {
    let model = Model::new(64 * MIB);
    let machine = model.machine();
    let error = |setup: &Setup, kernel: &[u8]| machine.create(setup, kernel, None).unwrap_err().to_string();
    assert!(
        error(&Setup::new("guest", 1, 16 * MIB), b"#!/bin/sh").contains("cannot create guest: it is neither")
    );
    assert!(error(&Setup::new("guest", 1, 2 * MIB), &kernel()).contains("need 4 MiB"));
    assert!(
        error(&Setup::new("Guest", 1, 16 * MIB), &kernel()).contains("cannot create Guest: invalid argument")
    );
    assert!(error(&Setup::new("guest", 1, 128 * MIB), &kernel()).contains("out of memory"));
    let mut setup = Setup::new("guest", 1, 16 * MIB);
    setup.command_line = Some("a\0b".into());
    assert!(error(&setup, &kernel()).contains("cannot fill guest"));
    assert_eq!((model.free(), model.names()), (64 * MIB, vec![]));
    assert!(machine.create_empty(&Setup::new("empty", 1, 2 * MIB)).unwrap().start().is_err());
}
