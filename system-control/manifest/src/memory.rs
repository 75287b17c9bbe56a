//! Amounts of memory, written for people as `16 MiB` and packed as a number of bytes.

use alloc::{format, string::String};
use core::{fmt, str::FromStr};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

/// An amount of memory in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MemorySize(pub u64);

impl fmt::Display for MemorySize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match UNITS.iter().find(|(_, bytes)| self.0 != 0 && self.0.is_multiple_of(*bytes)) {
            Some((unit, bytes)) => write!(f, "{} {unit}", self.0 / bytes),
            None => write!(f, "{} bytes", self.0),
        }
    }
}

impl FromStr for MemorySize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wanted = || {
            format!(
                "`{text}` is no amount of memory: write a whole number and KiB, MiB or GiB, like `16 MiB`"
            )
        };
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().map_err(|_| wanted())?;
        let (_, bytes) = UNITS.iter().find(|(name, _)| *name == unit.trim_start()).ok_or_else(wanted)?;
        let bytes =
            number.checked_mul(*bytes).ok_or_else(|| format!("`{text}` is more than 64 bits can count"))?;
        Ok(Self(bytes))
    }
}

impl Serialize for MemorySize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            serializer.serialize_u64(self.0)
        }
    }
}

impl<'de> Deserialize<'de> for MemorySize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
        } else {
            u64::deserialize(deserializer).map(Self)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn reads_what_it_writes() {
        for (text, bytes) in [("4 KiB", 4096), ("16 MiB", 16 << 20), ("2 GiB", 2 << 30), ("3 MiB", 3 << 20)] {
            assert_eq!(text.parse(), Ok(MemorySize(bytes)));
            assert_eq!(MemorySize(bytes).to_string(), text);
        }
        assert_eq!("16MiB".parse(), Ok(MemorySize(16 << 20)));
    }

    #[test]
    fn refuses_everything_else() {
        for text in ["", "16", "MiB", "16 MB", "-1 MiB", "1.5 GiB", "16 MiB more"] {
            assert!(text.parse::<MemorySize>().unwrap_err().contains("KiB, MiB or GiB"), "{text}");
        }
        assert!("18446744073709551615 GiB".parse::<MemorySize>().unwrap_err().contains("64 bits"));
    }
}
