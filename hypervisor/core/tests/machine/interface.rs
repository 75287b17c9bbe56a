//! Which rules carry out each call: every one of them must be cut at its boundaries, thrown in at random, and compared with what a naive one says.
//! A call that is added does not compile here until it says so too.

use handover_abi::Call;

/// What a call is carried out by.
pub enum Carried {
    /// These functions of the rules.
    By(&'static [&'static str]),
    /// Nothing that the rules know of. This file, from the repository's root, drives it on the machine, by this text.
    Outside(&'static str, &'static str),
}

/// What carries out a call.
pub fn carried(call: Call) -> Carried {
    use Carried::{By, Outside};
    match call {
        Call::Version => Outside("guests/fuzz/src/operations.rs", "self.call(Call::Version"),
        Call::Identify => Outside("guests/fuzz/src/operations.rs", "self.call(Call::Identify"),
        Call::End | Call::PartitionStop => By(&["end", "reap"]),
        Call::AccountRead => By(&["account"]),
        Call::RegionCreate => By(&["region_create"]),
        Call::RegionDestroy => By(&["region_destroy"]),
        Call::RegionMap => By(&["region_map"]),
        Call::RegionUnmap => By(&["region_unmap"]),
        Call::RegionInfo => By(&["region_info"]),
        Call::MemoryAdd => By(&["memory_add"]),
        Call::MemoryRemove => By(&["memory_remove"]),
        Call::MemoryInfo => By(&["memory_info"]),
        Call::Connect => By(&["connect", "expire"]),
        Call::Accept => By(&["accept"]),
        Call::Refuse => By(&["refuse"]),
        Call::Disconnect => By(&["disconnect"]),
        Call::Send => By(&["send"]),
        Call::Receive => By(&["receive"]),
        Call::PortStatus => By(&["port_status"]),
        Call::PortSetCreate => By(&["set_create"]),
        Call::PortSetDestroy => By(&["set_destroy"]),
        Call::PortSetAdd => By(&["set_add"]),
        Call::PortSetRemove => By(&["set_remove"]),
        Call::PortSetNext => By(&["set_next"]),
        Call::EventNext => By(&["event_next"]),
        Call::EventSend => By(&["event_send"]),
        Call::EventMask => By(&["event_mask"]),
        Call::EventUnmask => By(&["event_unmask"]),
        Call::EventBind => By(&["event_bind"]),
        Call::SignalNext => By(&["signal_next"]),
        Call::SharedMap => By(&["shared_map"]),
        Call::SharedUnmap => By(&["shared_unmap"]),
        Call::SharedInfo => By(&["shared_info"]),
        Call::Call => By(&["call", "call_expired"]),
        Call::CallWait => By(&["call_wait", "call_interrupted"]),
        Call::Reply => By(&["reply"]),
        Call::ReplyAndWait => By(&["reply_and_wait"]),
        Call::Forward | Call::ForwardAndWait => By(&["forward"]),
        Call::CallSetup => By(&["call_setup"]),
        Call::WatchdogKick => Outside("guests/subject/src/main.rs", "hvc::watchdog_kick"),
        Call::CountersRead => Outside("guests/examiner/src/counters.rs", "hvc::counters_read"),
        Call::PartitionCreate => By(&["create"]),
        Call::PartitionSetLimit => By(&["set_limit"]),
        Call::PartitionAddMemory => By(&["add_memory"]),
        Call::PartitionWrite => Outside("guests/examiner/src/devices.rs", "hvc::partition_write"),
        Call::PartitionStart => By(&["start", "vcpu_on"]),
        Call::PartitionDestroy => By(&["destroy"]),
        Call::PartitionStatus => Outside("guests/examiner/src/verbs.rs", "hvc::partition_status"),
        Call::MachineOff => Outside("guests/examiner/src/main.rs", "hvc::machine_off"),
        Call::MachineInfo => Outside("guests/examiner/src/shares.rs", "hvc::machine_info"),
        Call::ProcessorSet => By(&["promise_time"]),
        Call::ProcessorRead => Outside("guests/examiner/src/shares.rs", "hvc::processor_read"),
        Call::PartitionSetColours => By(&["set_colours"]),
        Call::CacheInfo => Outside("guests/examiner/src/colours.rs", "hvc::cache_info"),
        Call::DeviceInfo => Outside("guests/examiner/src/devices.rs", "hvc::device_info"),
        Call::DeviceAssign => By(&["device_assign"]),
        Call::DeviceRevoke => By(&["device_revoke"]),
        Call::PartitionSetBus => By(&["set_bus", "broadcast"]),
        Call::PartitionSetTraffic => Outside("guests/examiner/src/bus.rs", "hvc::partition_set_traffic"),
        Call::BusRead => Outside("guests/examiner/src/bus.rs", "hvc::bus_read"),
        Call::PartitionPause => By(&["pause"]),
        Call::PartitionResume => By(&["resume"]),
        Call::PartitionShutdown => By(&["request_shutdown"]),
        Call::PartitionReset => By(&["reset"]),
        Call::PartitionSetWatchdog => Outside("guests/examiner/src/verbs.rs", "hvc::partition_set_watchdog"),
    }
}

/// The rules that carry out a call.
pub fn rules(call: Call) -> &'static [&'static str] {
    match carried(call) {
        Carried::By(rules) => rules,
        Carried::Outside(..) => &[],
    }
}

/// Rules that no call names, but something else that guests do: a page that firmware calls ask for, a processor that is switched off.
pub const OTHERS: &[&str] = &["stolen_time_page", "vcpu_off"];

/// All rules.
pub fn all() -> impl Iterator<Item = &'static str> {
    Call::ALL.iter().flat_map(|call| rules(*call)).chain(OTHERS).copied()
}

/// The test that holds a rule against a naive one.
pub fn model(rule: &str) -> &'static str {
    match rule {
        "call" | "call_expired" | "call_wait" | "call_interrupted" | "reply" | "reply_and_wait"
        | "forward" | "vcpu_on" | "vcpu_off" | "call_setup" => "calls",
        "set_bus" | "broadcast" => "bus",
        "set_colours" => "colours",
        "device_assign" | "device_revoke" => "chaos",
        _ => "model",
    }
}
