//! No call is forgotten: each is carried out by rules that the other tests drive, or driven on the machine.

mod machine;

use std::fs;
use std::path::{Path, PathBuf};

use handover_abi::Call;
use machine::interface::{self, Carried};

fn here() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

#[test]
#[cfg_attr(miri, ignore = "reads files")]
fn what_the_rules_do_not_carry_out_is_driven_on_the_machine() {
    for &call in Call::ALL {
        if let Carried::Outside(file, text) = interface::carried(call) {
            let source = fs::read_to_string(here().join("../..").join(file)).unwrap_or_default();
            assert!(source.contains(text), "{call:?}: `{file}` has no `{text}`");
        }
    }
}

/// A test, with the modules in the folder of its name.
fn source(test: &str) -> String {
    let tests = here().join("tests");
    let mut text = fs::read_to_string(tests.join(test).with_extension("rs")).unwrap();
    for module in fs::read_dir(tests.join(test)).into_iter().flatten() {
        text.push_str(&fs::read_to_string(module.unwrap().path()).unwrap());
    }
    text
}

#[test]
#[cfg_attr(miri, ignore = "reads files")]
fn what_the_rules_carry_out_has_a_naive_model() {
    let mut missing = Vec::new();
    for rule in interface::all() {
        let source = source(interface::model(rule));
        if !source.contains(&format!(".{rule}(")) {
            missing.push((rule, interface::model(rule)));
        }
    }
    assert_eq!(missing, []);
}
