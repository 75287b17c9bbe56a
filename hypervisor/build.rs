//! Links the image position-independent, by `link.ld`.

fn main() {
    let directory = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("none") {
        for argument in ["-pie", "--no-dynamic-linker", "-znotext", "--gc-sections", "-zseparate-code"] {
            println!("cargo:rustc-link-arg-bins={argument}");
        }
        println!("cargo:rustc-link-arg-bins=-T{directory}/link.ld");
    }
    println!("cargo:rerun-if-changed=link.ld");
}
