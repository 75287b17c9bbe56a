//! Writes the linker scripts where the programs that use this crate find them.

use std::{env, fs, path::PathBuf};

/// Where a guest's ELF file is loaded: behind the device tree.
const GUEST_BASE: u64 = 0x4020_0000;
/// Where a flat image is loaded, at the start of memory.
const FLAT_BASE: u64 = 0x4000_0000;
/// Where a flat image with the feature `upper` finds itself: `mapping::OFFSET` above.
const UPPER_BASE: u64 = 0xffff_ff80_4000_0000;

fn main() {
    let template = "link/image.ld";
    println!("cargo:rerun-if-changed={template}");
    let template = fs::read_to_string(template).expect("read link/image.ld");
    let output = PathBuf::from(env::var_os("OUT_DIR").expect("OUT_DIR is set by cargo"));
    for (name, base) in [("guest.ld", GUEST_BASE), ("flat.ld", FLAT_BASE), ("upper.ld", UPPER_BASE)] {
        let script = template.replace("@BASE@", &format!("{base:#x}"));
        fs::write(output.join(name), script).unwrap_or_else(|error| panic!("write {name}: {error}"));
    }
    println!("cargo:rustc-link-search={}", output.display());
}
