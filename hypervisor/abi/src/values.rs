//! Numbers with names.

macro_rules! values {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $number:literal, $text:literal;)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u64)]
        pub enum $name { $($(#[$vdoc])* $variant = $number,)* }

        impl $name {
            /// Every value, in numeric order.
            pub const ALL: &[$name] = &[$($name::$variant,)*];

            /// A short phrase for people.
            #[must_use]
            pub fn text(self) -> &'static str {
                match self { $($name::$variant => $text,)* }
            }
        }

        impl TryFrom<u64> for $name {
            type Error = $crate::Error;

            fn try_from(value: u64) -> Result<$name, $crate::Error> {
                match value { $($number => Ok($name::$variant),)* _ => Err($crate::Error::InvalidArgument) }
            }
        }

        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.pad(self.text())
            }
        }
    };
}
