//! Holds the driver's hand-written headers against the crates that define the same numbers.

use std::collections::BTreeMap;

use handover_abi::{
    Call, Causes, Error, Event, MessageWord, Port, RegionHandle, RequestFlags, RequestWord, ServiceId,
    SignalKind, VERSION, layout,
};
use handover_linux::uapi;

const ABI: &str = include_str!("../../driver/abi.h");
const UAPI: &str = include_str!("../../driver/uapi/handover.h");

/// `#define NAME value` of every macro without parameters.
fn definitions(header: &'static str) -> BTreeMap<&'static str, &'static str> {
    header
        .lines()
        .filter_map(|line| line.strip_prefix("#define ")?.split_once(' '))
        .filter(|(name, _)| !name.contains('('))
        .map(|(name, value)| (name, value.split("/*").next().unwrap_or(value).trim()))
        .collect()
}

fn number(text: &str) -> i64 {
    let text = text.trim_start_matches('(').trim_end_matches(')');
    match text.strip_prefix("0x") {
        Some(digits) => i64::from_str_radix(digits, 16).unwrap(),
        None => text.parse().unwrap(),
    }
}

/// A request's flags as its word has them.
fn request(flags: RequestFlags) -> i64 {
    RequestWord::new(ServiceId::new(0), flags).to_register() as i64
}

/// `RegionCreate` to `REGION_CREATE`.
fn screaming(name: &str) -> String {
    let mut text = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !text.is_empty() {
            text.push('_');
        }
        text.push(letter.to_ascii_uppercase());
    }
    text
}

#[test]
fn every_number_of_the_hypercall_interface_is_the_abi_crates() {
    let mut expected = BTreeMap::from([
        ("HANDOVER_ABI_MAJOR".to_owned(), i64::from(VERSION >> 16)),
        ("HANDOVER_PORT_CONTROL".to_owned(), i64::from(Port::CONTROL.get())),
        ("HANDOVER_WINDOW_SLOT".to_owned(), layout::WINDOW_SLOT as i64),
        ("HANDOVER_REGION_MIN".to_owned(), layout::REGION_MIN as i64),
        ("HANDOVER_REGION_MAX".to_owned(), layout::REGION_MAX as i64),
        ("HANDOVER_SIGNAL_KIND_CONNECT".to_owned(), SignalKind::Connect as i64),
        ("HANDOVER_SIGNAL_KIND_SHUTDOWN_REQUEST".to_owned(), SignalKind::ShutdownRequest as i64),
        ("HANDOVER_REQUEST_SEND_ONLY".to_owned(), request(RequestFlags::SEND_ONLY)),
        ("HANDOVER_REQUEST_RECEIVE_ONLY".to_owned(), request(RequestFlags::RECEIVE_ONLY)),
        ("HANDOVER_REQUEST_EVENTS".to_owned(), request(RequestFlags::EVENTS)),
        ("HANDOVER_REQUEST_MEMORY".to_owned(), request(RequestFlags::MEMORY)),
        ("HANDOVER_REQUEST_ORDER_SHIFT".to_owned(), 56),
    ]);
    for &call in Call::ALL {
        expected.insert(format!("HANDOVER_CALL_{}", screaming(&format!("{call:?}"))), i64::from(call as u32));
    }
    for &error in Error::ALL {
        expected.insert(format!("HANDOVER_ERROR_{}", screaming(&format!("{error:?}"))), error as i64);
    }
    for (name, cause) in Causes::all().iter_names() {
        expected.insert(format!("HANDOVER_CAUSE_{name}"), i64::from(cause.bits()));
    }
    let found = definitions(ABI);
    for (&name, value) in &found {
        if name != "HANDOVER_ABI_H" && !value.starts_with("BIT_ULL") {
            assert_eq!(expected.get(name), Some(&number(value)), "{name}");
        }
    }
    for error in Error::ALL {
        assert!(
            found.contains_key(format!("HANDOVER_ERROR_{}", screaming(&format!("{error:?}"))).as_str()),
            "{error:?}"
        );
    }
}

/// The C macros, in the crate's terms: a change of a field's place must be made in both.
#[test]
fn fields_of_words_are_where_the_c_macros_look() {
    let word = MessageWord::new(Port::new(0xab_cdef), Some(RegionHandle::new(0x12_3456)), 128).with_order(30);
    let bits = word.to_register();
    for (definition, value) in [
        (
            "HANDOVER_WORD_REGION(word) ((u32)((word) >> 24) & 0xffffff)",
            (bits >> 24) as u32 & 0xff_ffff == 0x12_3456,
        ),
        ("HANDOVER_WORD_LENGTH(word) ((u32)((word) >> 48) & 0xff)", (bits >> 48) as u32 & 0xff == 128),
        ("HANDOVER_WORD_ORDER(word) ((u32)((word) >> 56) & 0x3f)", (bits >> 56) as u32 & 0x3f == 30),
        (
            "HANDOVER_WORD(port, region, length) ((u64)(port) | (u64)(region) << 24 | (u64)(length) << 48)",
            MessageWord::new(word.port(), word.region(), 128).to_register()
                == 0xab_cdef | 0x12_3456 << 24 | 128 << 48,
        ),
    ] {
        assert!(ABI.contains(definition), "{definition}");
        assert!(value, "{definition}");
    }
    for (bit, words) in [(63, word.lent()), (62, word.kept())] {
        assert_eq!(words.to_register(), bits | 1 << bit);
    }
    assert!(ABI.contains("HANDOVER_WORD_LENT BIT_ULL(63)") && ABI.contains("HANDOVER_WORD_KEPT BIT_ULL(62)"));
    let memory =
        RequestWord { service: ServiceId::new(3), flags: RequestFlags::MEMORY, order: 17 }.to_register();
    assert!(ABI.contains("HANDOVER_REQUEST_FLAGS(word) ((word) & 0xffffff00000000)"));
    assert_eq!((memory & 0xff_ffff_0000_0000, memory >> 56), (1 << 36, 17));
    let event = Event { port: Port::new(0xab_cdef), causes: Causes::SIGNAL }.to_register();
    assert!(ABI.contains("HANDOVER_EVENT_PORT(event) ((u32)(event) & 0xffffff)"));
    assert_eq!(event as u32 & 0xff_ffff, 0xab_cdef);
    assert!(ABI.contains("HANDOVER_EVENT_CAUSES(event) ((u32)((event) >> 32))"));
    assert_eq!((event >> 32) as u32, Causes::SIGNAL.bits());
}

fn size_of_struct(name: &str) -> u32 {
    let size = match name {
        "handover_info" => size_of::<uapi::Info>(),
        "handover_service" => size_of::<uapi::Service>(),
        "handover_connect" => size_of::<uapi::Connect>(),
        "handover_listen" => size_of::<uapi::Listen>(),
        "handover_request" => size_of::<uapi::Request>(),
        "handover_accept" => size_of::<uapi::Accept>(),
        "handover_refuse" => size_of::<uapi::Refuse>(),
        "handover_account" => size_of::<uapi::Account>(),
        "handover_region_create" => size_of::<uapi::RegionCreate>(),
        "handover_region_info" => size_of::<uapi::RegionInfo>(),
        "handover_message" => size_of::<uapi::Message>(),
        "handover_status" => size_of::<uapi::Status>(),
        "handover_share" => size_of::<uapi::Share>(),
        "handover_shared_info" => size_of::<uapi::SharedInfo>(),
        other => panic!("struct {other} is not in uapi.rs"),
    };
    size as u32
}

/// Linux's encoding: direction in bits 31:30, size in 29:16, type in 15:8, number in 7:0.
#[test]
fn every_request_is_encoded_as_the_uapi_header_says() {
    let found = definitions(UAPI);
    let magic = number(found["HANDOVER_MAGIC"]) as u32;
    let requests: BTreeMap<_, _> = uapi::REQUESTS.iter().copied().collect();
    let mut seen = 0;
    for (name, value) in &found {
        let Some((direction, arguments)) = value.strip_prefix("_IO").and_then(|rest| rest.split_once('('))
        else {
            continue;
        };
        let arguments: Vec<_> = arguments.trim_end_matches(')').split(", ").collect();
        let direction = match direction {
            "" => 0,
            "W" => 1,
            "R" => 2,
            "WR" => 3,
            other => panic!("_IO{other}"),
        };
        let size = match arguments.get(2) {
            None => 0,
            Some(&"__u64") => 8,
            Some(&"__u32") => 4,
            Some(structure) => size_of_struct(structure.strip_prefix("struct ").unwrap()),
        };
        let expected = direction << 30 | size << 16 | magic << 8 | number(arguments[1]) as u32;
        let name = name.strip_prefix("HANDOVER_").unwrap();
        assert_eq!(requests[name], expected, "{name}");
        seen += 1;
    }
    assert_eq!(seen, requests.len());
}

#[test]
fn constants_of_the_uapi_header_are_the_librarys() {
    let found = definitions(UAPI);
    for (name, value) in [
        ("HANDOVER_SHORT_MAX", handover_linux::SHORT_MAX as u32),
        ("HANDOVER_NAME_SIZE", uapi::NAME_SIZE as u32),
        ("HANDOVER_NONBLOCK", uapi::NONBLOCK),
        ("HANDOVER_REASON_NO_LISTENER", uapi::REASON_NO_LISTENER),
        ("HANDOVER_REASON_BACKLOG", uapi::REASON_BACKLOG),
        ("HANDOVER_REASON_CLOSED", uapi::REASON_CLOSED),
        ("HANDOVER_SEND_ONLY", uapi::SEND_ONLY),
        ("HANDOVER_RECEIVE_ONLY", uapi::RECEIVE_ONLY),
        ("HANDOVER_EVENTS", uapi::EVENTS),
        ("HANDOVER_LEND", uapi::LEND),
        ("HANDOVER_SHOW", uapi::SHOW),
        ("HANDOVER_LISTEN_SHARED", uapi::LISTEN_SHARED),
        ("HANDOVER_LISTEN_ONE_WAY", uapi::LISTEN_ONE_WAY),
        ("HANDOVER_SHARE_I_WRITE", uapi::SHARE_I_WRITE),
        ("HANDOVER_SHARE_PEER_WRITES", uapi::SHARE_PEER_WRITES),
        ("HANDOVER_SHARED_OWN", uapi::SHARED_OWN),
        ("HANDOVER_SHARED_PEER", uapi::SHARED_PEER),
        ("HANDOVER_ROLE_CLIENT", uapi::ROLE_CLIENT),
        ("HANDOVER_ROLE_SERVER", uapi::ROLE_SERVER),
        ("HANDOVER_STATE_CONNECTED", Causes::CONNECTED.bits()),
        ("HANDOVER_STATE_MESSAGE", Causes::MESSAGE.bits()),
        ("HANDOVER_STATE_PEER_CLOSED", Causes::PEER_CLOSED.bits()),
        ("HANDOVER_STATE_REFUSED", Causes::REFUSED.bits()),
        ("HANDOVER_STATE_SPACE", Causes::SPACE.bits()),
        ("HANDOVER_STATE_SIGNAL", Causes::SIGNAL.bits()),
    ] {
        assert_eq!(number(found[name]), i64::from(value), "{name}");
    }
}

/// Field by field, in order: `type name` of each structure in the header against the fields of the Rust one.
#[test]
fn fields_stand_in_the_same_order() {
    const RUST: &str = include_str!("../src/uapi.rs");
    for (c, rust) in [
        ("handover_info", "Info"),
        ("handover_service", "Service"),
        ("handover_connect", "Connect"),
        ("handover_listen", "Listen"),
        ("handover_request", "Request"),
        ("handover_accept", "Accept"),
        ("handover_refuse", "Refuse"),
        ("handover_account", "Account"),
        ("handover_region_create", "RegionCreate"),
        ("handover_region_info", "RegionInfo"),
        ("handover_message", "Message"),
        ("handover_status", "Status"),
        ("handover_share", "Share"),
        ("handover_shared_info", "SharedInfo"),
    ] {
        let body = UAPI.split_once(&format!("struct {c} {{")).unwrap().1.split_once("};").unwrap().0;
        let c_fields: Vec<String> = body
            .lines()
            .filter_map(|line| line.split_once(';'))
            .map(|(field, _)| field.split_whitespace().last().unwrap().split('[').next().unwrap().to_owned())
            .collect();
        let body = RUST.split_once(&format!("\n    {rust} = ")).unwrap().1.split_once('{').unwrap().1;
        let body = body.split_once('}').unwrap().0;
        let rust_fields: Vec<String> = body
            .split(": ")
            .filter_map(|part| part.split([' ', ',', '\n']).rfind(|word| !word.is_empty()))
            .map(str::to_owned)
            .collect();
        assert_eq!(c_fields, rust_fields[..rust_fields.len() - 1], "{c}");
    }
}
