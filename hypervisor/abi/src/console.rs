//! How the control OS frames the partitions' consoles on the machine's one UART.
//!
//! A stream is selected by [`SWITCH`], a partition's name (empty: the control OS itself) and [`SWITCH_END`]; the bytes up
//! to the next [`SWITCH`] are that partition's. A partition's own [`SWITCH`] bytes are replaced by `?`. The same frame sent to the machine selects
//! whose keyboard the following bytes are.

/// ASCII GS: a stream switch starts.
pub const SWITCH: u8 = 0x1d;
/// ASCII US: the name ends.
pub const SWITCH_END: u8 = 0x1f;

/// The control OS's last line, before the number: what `cargo xtask run` exits with.
pub const END_RECORD: &str = "handover: end status=";
