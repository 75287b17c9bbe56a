//! The devices that the control OS keeps for itself.

pub mod gic;
pub mod pl011;
