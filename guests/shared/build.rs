//! Links the guest by the SDK's script.

fn main() {
    println!("cargo:rustc-link-arg-bins=-Tguest.ld");
}
