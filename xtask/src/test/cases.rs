//! The cases that run on the machine.

use super::machine::{Case, Line};

/// All cases, short ones first.
pub(crate) fn all() -> Vec<Case> {
    vec![Case {
        name: "demo",
        manifest: include_str!("../../../manifests/demo.toml"),
        lines: &[Line::Lacks("", "panic")],
        status: 0,
        limit: 300,
    }]
}
