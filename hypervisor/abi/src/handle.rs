//! Names of things. A handle or a port means something only in the table of the partition it was given to; partition and
//! service ids mean the same everywhere.

macro_rules! number {
    ($(#[$doc:meta])* $name:ident, $bits:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(transparent)]
        pub struct $name(u32);

        impl $name {
            /// The number as it is; bits above the field's width are cut off.
            #[must_use]
            pub const fn new(number: u32) -> $name {
                $name((number as u64 & ((1u64 << $bits) - 1)) as u32)
            }

            /// From a register; `None` when it does not fit.
            #[must_use]
            pub const fn from_register(value: u64) -> Option<$name> {
                if value >> $bits == 0 { Some($name(value as u32)) } else { None }
            }

            /// The plain number.
            #[must_use]
            pub const fn get(self) -> u32 {
                self.0
            }
        }

        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// A partition, never used again for another one as long as the machine runs. 0 names nobody (or, where a call says so, the caller).
    PartitionId, 32
}
number! {
    /// A service that a partition offers: whatever number client and server agree on.
    ServiceId, 32
}
number! {
    /// An end of a channel in its partition's table. 0 is the control-signal port, which every partition has.
    Port, 24
}
number! {
    /// A message region in its partition's table. 0 names none.
    RegionHandle, 24
}

impl Port {
    /// The control-signal port.
    pub const CONTROL: Port = Port(0);
}
