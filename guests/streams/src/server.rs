//! The side that echoes: the examples of the SDK's documentation, word for word.

use handover_guest::{Error, ServiceId};

include!("../../../guest-sdk/examples/stream.rs");

/// Serves for ever.
pub(crate) async fn run(service: ServiceId) -> Result<(), Error> {
    many::run(service).await
}

mod many {
    use super::echo;

    include!("../../../guest-sdk/examples/serve.rs");

    pub(super) async fn run(service: ServiceId) -> Result<(), Error> {
        serve(service).await
    }
}
