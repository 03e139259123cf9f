//! What the client knows of each RPC. It is generated from the protos, so that no table can
//! disagree with them.

use crate::v1;

/// An RPC.
#[derive(Debug)]
pub(crate) struct Rpc {
    pub(crate) path: &'static str,
    /// Its callers wait, so its deadline is short.
    pub(crate) is_check: bool,
    /// Sending the same request again does no harm.
    pub(crate) is_repeatable: bool,
}

/// A request. Each is of one RPC.
pub(crate) trait Call: prost::Message + Clone + 'static {
    /// What it is answered with.
    type Response: prost::Message + Default + 'static;
    const RPC: Rpc;

    /// The field by which the server carries a request out once, however often it is sent.
    fn request_id(&mut self) -> Option<&mut String> {
        None
    }

    fn carried_secrets<'a>(&'a self, _found: &mut Vec<&'a str>) {}
}

/// A message that a key or a password can be reached from.
trait Secrets {
    fn secrets<'a>(&'a self, found: &mut Vec<&'a str>);
}

include!("v1/calls.rs");
