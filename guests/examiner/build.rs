//! Links the guest as a flat image.

fn main() {
    println!("cargo:rustc-link-arg-bins=-Tflat.ld");
}
