//! Says hello, and who it is.

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    println!("hello from process {}: {}", std::process::id(), arguments.join(" "));
}
