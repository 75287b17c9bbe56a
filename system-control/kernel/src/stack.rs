//! What a program finds on its stack when it starts: argument count, arguments, environment, auxiliary vector.

use alloc::vec::Vec;

use linux_raw_sys::errno::E2BIG;

use crate::Errno;

/// Bytes that arguments and environment may take together.
pub const ARGUMENTS_MAX: usize = 128 << 10;

/// The stack's content, and where the stack pointer starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// The bytes from `pointer` up to the stack's top.
    pub bytes: Vec<u8>,
    /// A multiple of 16.
    pub pointer: u64,
}

/// Lays out a stack that ends at `top`. `auxiliary` gets AT_RANDOM and AT_EXECFN added, and its end.
///
/// # Errors
///
/// `E2BIG` for too many arguments.
pub fn build(
    top: u64,
    path: &[u8],
    arguments: &[Vec<u8>],
    environment: &[Vec<u8>],
    random: [u8; 16],
    auxiliary: &[(u32, u64)],
) -> Result<Image, Errno> {
    let strings: usize = arguments.iter().chain(environment).map(|string| string.len() + 1).sum();
    let words = arguments.len() + environment.len();
    if strings + 8 * words > ARGUMENTS_MAX {
        return Err(Errno::from_number(E2BIG as u16));
    }
    let mut data = Vec::new();
    let mut offsets = Vec::new();
    for string in arguments.iter().chain(environment) {
        offsets.push(data.len() as u64);
        data.extend_from_slice(string);
        data.push(0);
    }
    let path_offset = data.len() as u64;
    data.extend_from_slice(path);
    data.push(0);
    data.resize(data.len().next_multiple_of(16), 0);
    let random_offset = data.len() as u64;
    data.extend_from_slice(&random);

    // Count, arguments, 0, environment, 0, pairs, the pairs' end.
    let vector = 8 * (1 + words + 2) + 16 * (auxiliary.len() + 3);
    let total = (vector + data.len()).next_multiple_of(16);
    let pointer = top - total as u64;
    let base = top - data.len() as u64;
    let mut bytes = Vec::with_capacity(total);
    let mut word = |value: u64| bytes.extend_from_slice(&value.to_le_bytes());
    word(arguments.len() as u64);
    let (first, rest) = offsets.split_at(arguments.len());
    first.iter().for_each(|offset| word(base + offset));
    word(0);
    rest.iter().for_each(|offset| word(base + offset));
    word(0);
    let own = [
        (linux_raw_sys::auxvec::AT_RANDOM, base + random_offset),
        (linux_raw_sys::auxvec::AT_EXECFN, base + path_offset),
        (linux_raw_sys::auxvec::AT_NULL, 0),
    ];
    for &(key, value) in auxiliary.iter().chain(&own) {
        word(u64::from(key));
        word(value);
    }
    bytes.resize(total - data.len(), 0);
    bytes.extend_from_slice(&data);
    Ok(Image { bytes, pointer })
}

#[cfg(test)]
mod tests {
    use super::*;
    use linux_raw_sys::auxvec::{AT_NULL, AT_PAGESZ, AT_RANDOM};
    use std::vec;

    const TOP: u64 = 0x10_0000;

    fn word(image: &Image, address: u64) -> u64 {
        let at = (address - image.pointer) as usize;
        u64::from_le_bytes(image.bytes[at..at + 8].try_into().unwrap())
    }

    fn string(image: &Image, address: u64) -> &[u8] {
        let bytes = &image.bytes[(address - image.pointer) as usize..];
        &bytes[..bytes.iter().position(|&byte| byte == 0).unwrap()]
    }

    #[test]
    fn everything_is_where_its_pointer_says() {
        for count in 0..5 {
            let arguments = vec![b"argument".to_vec(); count];
            let environment = [b"HOME=/".to_vec()];
            let image =
                build(TOP, b"/bin/x", &arguments, &environment, [7; 16], &[(AT_PAGESZ, 4096)]).unwrap();
            assert_eq!(image.pointer % 16, 0);
            assert_eq!(image.pointer + image.bytes.len() as u64, TOP);
            let mut at = image.pointer;
            assert_eq!(word(&image, at), count as u64);
            for _ in 0..count {
                at += 8;
                assert_eq!(string(&image, word(&image, at)), b"argument");
            }
            assert_eq!(word(&image, at + 8), 0);
            assert_eq!(string(&image, word(&image, at + 16)), b"HOME=/");
            assert_eq!(word(&image, at + 24), 0);
            assert_eq!([word(&image, at + 32), word(&image, at + 40)], [u64::from(AT_PAGESZ), 4096]);
            assert_eq!(word(&image, at + 48), u64::from(AT_RANDOM));
            assert_eq!(word(&image, word(&image, at + 56)), 0x0707_0707_0707_0707);
            assert_eq!(string(&image, word(&image, at + 72)), b"/bin/x");
            assert_eq!(word(&image, at + 80), u64::from(AT_NULL));
        }
    }

    #[test]
    fn too_many_arguments() {
        let long = vec![vec![b'a'; 1000]; 200];
        assert_eq!(build(TOP, b"x", &long, &[], [0; 16], &[]), Err(Errno::from_number(E2BIG as u16)));
        assert_eq!(
            build(TOP, b"x", &[], &vec![vec![]; 100_000], [0; 16], &[]),
            Err(Errno::from_number(E2BIG as u16))
        );
    }
}
