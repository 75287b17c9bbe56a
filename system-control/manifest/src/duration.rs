//! Amounts of time, written for people as `2 ms` and packed as a number of nanoseconds.

use alloc::{format, string::String};
use core::{fmt, str::FromStr};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

const UNITS: [(&str, u64); 3] = [("s", 1_000_000_000), ("ms", 1_000_000), ("us", 1000)];

/// An amount of time in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Duration(pub u64);

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match UNITS.iter().find(|(_, nanoseconds)| self.0 != 0 && self.0.is_multiple_of(*nanoseconds)) {
            Some((unit, nanoseconds)) => write!(f, "{} {unit}", self.0 / nanoseconds),
            None => write!(f, "{} ns", self.0),
        }
    }
}

impl FromStr for Duration {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wanted =
            || format!("`{text}` is no amount of time: write a whole number and us, ms or s, like `2 ms`");
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().map_err(|_| wanted())?;
        let (_, unit) = UNITS.iter().find(|(name, _)| *name == unit.trim_start()).ok_or_else(wanted)?;
        number.checked_mul(*unit).map(Self).ok_or_else(wanted)
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            serializer.serialize_u64(self.0)
        }
    }
}

impl<'de> Deserialize<'de> for Duration {
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
        for (text, nanoseconds) in [("100 us", 100_000), ("2 ms", 2_000_000), ("1 s", 1_000_000_000)] {
            assert_eq!(text.parse(), Ok(Duration(nanoseconds)));
            assert_eq!(Duration(nanoseconds).to_string(), text);
        }
        assert_eq!(Duration(0).to_string(), "0 ns");
    }

    #[test]
    fn refuses_everything_else() {
        for text in ["", "2", "ms", "-1 ms", "1.5 ms", "2 min", "18446744073709551615 s"] {
            assert!(text.parse::<Duration>().unwrap_err().contains("us, ms or s"), "{text}");
        }
    }
}
