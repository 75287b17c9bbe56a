//! Holds `docs/abi.md` against the crate: every number there is the crate's, and nothing is missing or made up.

use std::collections::BTreeSet;

use handover_abi::{
    Account, Call, Causes, Counter, EndReason, Error, FEATURES, PartitionState, RequestFlags, RequestWord,
    SHORT_MAX, SignalKind, UID, Unsupported, VERSION, archive, boot, console, layout, smccc,
};

const PAGE: &str = include_str!("../../../docs/abi.md");

/// The cells of every table row, without the backquotes around a cell.
fn rows() -> impl Iterator<Item = Vec<&'static str>> {
    PAGE.lines()
        .filter(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split(" |").map(|cell| cell.trim().trim_matches('`')).collect())
}

/// The rows of the tables whose heading starts with `first` and `second`, as pairs of these two cells.
fn table(first: &str, second: &str) -> BTreeSet<(String, String)> {
    let mut inside = false;
    let mut found = BTreeSet::new();
    for line in PAGE.lines() {
        if !line.starts_with('|') {
            inside = false;
            continue;
        }
        let cells: Vec<&str> =
            line.trim_matches('|').split(" |").map(|cell| cell.trim().trim_matches('`')).collect();
        if cells[..2] == [first, second] {
            inside = true;
        } else if inside && !cells[0].starts_with("---") {
            found.insert((cells[0].to_owned(), cells[1].to_owned()));
        }
    }
    assert!(!found.is_empty(), "no table with the columns {first} and {second}");
    found
}

fn pairs<A: ToString, B: std::fmt::Debug>(
    values: impl IntoIterator<Item = (A, B)>,
) -> BTreeSet<(String, String)> {
    values.into_iter().map(|(number, name)| (number.to_string(), format!("{name:?}"))).collect()
}

#[test]
fn calls() {
    let all = Call::ALL.iter().map(|&call| (format!("{:#x}", call as u32), call));
    assert_eq!(table("Identifier", "Call"), pairs(all));
    let listed: BTreeSet<String> = table("Call", "Errors")
        .into_iter()
        .flat_map(|(calls, _)| calls.split("`, `").map(str::to_owned).collect::<Vec<_>>())
        .collect();
    assert_eq!(listed, Call::ALL.iter().map(|call| format!("{call:?}")).collect());
}

#[test]
fn errors() {
    assert_eq!(table("x0", "Error"), pairs(Error::ALL.iter().map(|&error| (error as i64, error))));
    for (calls, errors) in table("Call", "Errors").into_iter().filter(|(_, errors)| errors != "none") {
        // The cell's first backquote is gone.
        for name in errors.split('`').step_by(2) {
            let known = Error::ALL.iter().map(|error| format!("{error:?}"));
            let mut known = known.chain(Call::ALL.iter().map(|call| format!("{call:?}")));
            assert!(known.any(|known| known == name), "{calls}: `{name}` is no error");
        }
    }
}

/// The accounts that the words behind `Limit` name.
fn limits(words: &str) -> Vec<&'static str> {
    let words = words.replace("shared memory", "");
    let without_control = words.replace("control memory", "");
    let names = [
        (without_control.contains("memory"), "Limit(Memory)"),
        (words.contains("control memory"), "Limit(ControlMemory)"),
        (words.contains("address space"), "Limit(AddressSpace)"),
        (words.contains("ports"), "Limit(Ports)"),
        (words.contains("cache colours"), "Limit(CacheColours)"),
    ];
    names.into_iter().filter(|(named, _)| *named).map(|(_, name)| name).collect()
}

/// The results that a cell of errors names, as the fuzzing guest writes them.
fn results(errors: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    // The cell's first backquote is gone.
    let parts: Vec<&str> = errors.split('`').collect();
    for name in parts.chunks(2) {
        match *name {
            ["Limit", words] => found.extend(limits(words).into_iter().map(str::to_owned)),
            [name, ..] if Error::ALL.iter().any(|error| format!("{error:?}") == name) => {
                found.insert(format!("Fails({name})"));
            }
            _ => {}
        }
    }
    found
}

/// No documented result of what any partition may call is missing in the fuzzing guest's list, and none is made up.
#[test]
#[cfg_attr(miri, ignore = "takes minutes")]
fn the_fuzzing_guest_knows_every_result() {
    const LIST: &str = include_str!("../../../guests/fuzz/src/coverage.rs");
    let list = LIST.split_once("pairs! {").and_then(|(_, rest)| rest.split_once("\n    }")).unwrap().0;
    let rows = list.split(";\n").filter_map(|row| row.split_once(':'));
    let listed: Vec<(&str, BTreeSet<String>)> = rows
        .map(|(call, results)| {
            // What stands behind an arrow says who brings it about.
            let results = results
                .split(',')
                .map(|result| result.split("=>").next().unwrap_or(result).trim().trim_end_matches(';'));
            let results =
                results.filter(|result| result.starts_with("Fails(") || result.starts_with("Limit("));
            (call.trim(), results.map(str::to_owned).collect())
        })
        .collect();
    let documented = table("Call", "Errors");
    let cell = |of: &str| {
        &documented.iter().find(|(calls, _)| calls.split("`, `").any(|call| call == of)).unwrap().1
    };
    let privileged = Call::ALL.iter().position(|call| *call == Call::PartitionCreate).unwrap();
    for call in Call::ALL.iter().map(|call| format!("{call:?}")) {
        let (_, listed) =
            listed.iter().find(|(name, _)| *name == call).unwrap_or_else(|| panic!("no row for {call}"));
        let is_privileged = Call::ALL[privileged..].iter().any(|other| format!("{other:?}") == call);
        let errors = cell(&call);
        let mut expected = match is_privileged {
            true => BTreeSet::from(["Fails(Denied)".to_owned()]),
            false => results(errors),
        };
        if errors.contains("Otherwise as for `Call`") {
            let call = cell("Call").split("After it has waited").next().unwrap_or_default();
            expected.extend(results(call));
            // Nothing is lent anew.
            expected.remove("Limit(ControlMemory)");
        }
        assert_eq!(*listed, expected, "{call}");
    }
}

#[test]
fn values() {
    assert_eq!(table("Number", "Account"), pairs(Account::ALL.iter().map(|&value| (value as u64, value))));
    assert_eq!(table("Number", "Counter"), pairs(Counter::ALL.iter().map(|&value| (value as u64, value))));
    let states = PartitionState::ALL.iter().map(|&value| (value as u64, value));
    assert_eq!(table("Number", "State"), pairs(states));
    assert_eq!(table("Number", "Reason"), pairs(EndReason::ALL.iter().map(|&value| (value as u64, value))));
    let reasons = Unsupported::ALL.iter().map(|&value| (value as u64, value));
    assert_eq!(table("Reason", "Constant"), pairs(reasons));
    let signals: Vec<_> = (0..100).filter_map(|number| SignalKind::try_from(number).ok()).collect();
    assert_eq!(table("x1", "Signal"), pairs(signals.into_iter().map(|kind| (kind as u64, kind))));
    let causes = Causes::all()
        .iter_names()
        .map(|(name, cause)| (cause.bits().trailing_zeros().to_string(), name.to_owned()));
    assert_eq!(table("Bit", "Cause"), causes.collect());
    let flags = RequestFlags::all()
        .iter_names()
        .map(|(name, flag)| ((32 + flag.bits().trailing_zeros()).to_string(), name.to_owned()));
    assert_eq!(table("Bit", "Flag"), flags.collect());
    assert!(PAGE.contains(&format!("INTID {} to {}", layout::CHOSEN_INTID_FIRST, layout::CHOSEN_INTID_LAST)));
    assert!(PAGE.contains(&format!("2^{}", RequestWord::TIMEOUT_MAX.trailing_zeros())));
}

#[test]
fn identification() {
    let identifiers = table("Identifier", "What");
    for (number, name) in [
        (smccc::VERSION, "SMCCC_VERSION"),
        (smccc::ARCH_FEATURES, "SMCCC_ARCH_FEATURES"),
        (smccc::VENDOR_HYP_UID, "UID query"),
        (smccc::VENDOR_HYP_REVISION, "revision query"),
    ] {
        assert!(identifiers.contains(&(format!("{number:#x}"), name.to_owned())), "{name}");
    }
    let bytes: Vec<u8> = UID.iter().flat_map(|word| word.to_le_bytes()).collect();
    let uid: String = bytes
        .iter()
        .enumerate()
        .map(|(at, byte)| format!("{}{byte:02x}", if [4, 6, 8, 10].contains(&at) { "-" } else { "" }))
        .collect();
    assert!(PAGE.contains(&uid), "{uid}");
    assert!(PAGE.contains(&format!("`{VERSION:#010x}`")) && FEATURES.bits() == 1);
}

#[test]
fn layout_of_addresses_and_interrupts() {
    let places = [
        (layout::GICD_BASE, "GICD_BASE"),
        (layout::GICR_BASE, "GICR_BASE"),
        (layout::UART_BASE, "UART_BASE"),
        (layout::DEVICE_BASE, "DEVICE_BASE"),
        (layout::STOLEN_TIME_BASE, "STOLEN_TIME_BASE"),
        (layout::MEMORY_BASE, "MEMORY_BASE"),
        (layout::ARCHIVE_BASE, "ARCHIVE_BASE"),
        (layout::WINDOW_BASE, "WINDOW_BASE"),
    ];
    for (address, name) in places {
        let address = format!("{address:#x}");
        assert!(rows().any(|row| row[0] == address && row.get(2) == Some(&name)), "{name} {address}");
    }
    let interrupts = [
        (layout::VIRTUAL_TIMER_INTID, "VIRTUAL_TIMER_INTID"),
        (layout::PHYSICAL_TIMER_INTID, "PHYSICAL_TIMER_INTID"),
        (layout::UART_INTID, "UART_INTID"),
        (layout::EVENT_INTID, "EVENT_INTID"),
    ];
    let interrupts = interrupts.map(|(intid, name)| (intid.to_string(), name.to_owned()));
    assert_eq!(table("INTID", "Constant"), BTreeSet::from(interrupts));
    assert!(PAGE.contains(&format!("have {} bits", layout::IPA_BITS)));
    assert!(PAGE.contains(&format!("up to {SHORT_MAX} bytes")));
}

#[test]
fn structures_of_the_boot() {
    let text = |magic: [u8; 8]| String::from_utf8(magic.to_vec()).unwrap();
    assert!(rows().any(|row| row[0] == "0" && row[2] == text(archive::MAGIC)));
    assert!(rows().any(|row| row[0] == "0" && row[1] == text(boot::MAGIC)));
    let fields = [
        (core::mem::offset_of!(archive::Header, processors), "logical processors of system-control"),
        (core::mem::offset_of!(archive::Header, size), "bytes of the archive"),
        (core::mem::offset_of!(archive::Header, image_offset), "offset of system-control's image"),
        (core::mem::offset_of!(archive::Header, image_size), "bytes of the image"),
        (core::mem::offset_of!(archive::Header, files_offset), "offset of the files"),
        (core::mem::offset_of!(archive::Header, files_size), "bytes of the files"),
    ];
    for (offset, field) in fields {
        assert!(rows().any(|row| row[0] == offset.to_string() && row[2] == field), "{field} at {offset}");
    }
    let fields = [
        (core::mem::offset_of!(boot::BootInfo, memory_base), "start of memory"),
        (core::mem::offset_of!(boot::BootInfo, memory_size), "bytes of memory"),
        (core::mem::offset_of!(boot::BootInfo, files_base), "start of the files, mapped read-only"),
        (core::mem::offset_of!(boot::BootInfo, files_size), "bytes of the files"),
    ];
    for (offset, field) in fields {
        assert!(rows().any(|row| row[0] == offset.to_string() && row[1] == field), "{field} at {offset}");
    }
    for byte in [console::SWITCH, console::SWITCH_END] {
        assert!(PAGE.contains(&format!("`{byte:#04x}`")), "{byte:#04x}");
    }
    assert!(PAGE.contains(console::END_RECORD));
}
