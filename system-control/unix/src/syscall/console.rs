//! Descriptors 1 and 2: the console.

use handover_guest::console;
use handover_unix::Errno;

use super::Outcome;
use crate::kernel::Kernel;

/// `write`.
pub fn write(kernel: &mut Kernel, fd: u64, address: u64, length: u64) -> Outcome {
    if !(1..=2).contains(&fd) {
        return Err(Errno::BADF.into());
    }
    let mut bytes = [0; 256];
    let mut done = 0;
    while done < length {
        let size = bytes.len().min((length - done) as usize);
        kernel.read(address.wrapping_add(done), &mut bytes[..size])?;
        for line in bytes[..size].split_inclusive(|&byte| byte == b'\n') {
            match line.strip_suffix(b"\n") {
                Some(line) => {
                    console::write_bytes(line);
                    console::write_bytes(b"\r\n");
                }
                None => console::write_bytes(line),
            }
        }
        done += size as u64;
    }
    Ok(length)
}

/// `writev`.
pub fn write_vector(kernel: &mut Kernel, fd: u64, vector: u64, count: u64) -> Outcome {
    let mut done = 0;
    for index in 0..count.min(1024) {
        let [address, length] = kernel.read_words(vector.wrapping_add(16 * index))?;
        done += write(kernel, fd, address, length)?;
    }
    Ok(done)
}
