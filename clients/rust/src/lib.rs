//! The client of Keyfence: ask whose API key it is and what it may do, and manage keys.
//!
//! [`Client::check_scope`] and [`Client::authenticate`] answer checks. A key that does not pass is a
//! [`Verdict`]; an [`Error`] means that there was no answer. `Client::keys` and its neighbours have
//! the other RPCs of the API.
//!
//! With the feature `cache` checks can be answered from memory, with `tower` there are guards for
//! services, and with `testing` a fake server.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod batching;
mod calls;
mod checks;
mod client;
mod errors;
mod options;
mod secret;
mod target;
mod token;
mod transport;

#[cfg(feature = "cache")]
mod cache;
#[cfg(all(feature = "cache", not(feature = "conformance")))]
mod holder;
#[cfg(feature = "conformance")]
#[doc(hidden)]
pub mod holder;

#[cfg(feature = "tower")]
pub mod guard;
#[cfg(feature = "testing")]
pub mod testing;

pub use batching::Batching;
#[cfg(feature = "cache")]
pub use cache::{Cache, CacheStatus};
pub use calls::{AccountService, AuditService, KeyService, KeyspaceService, ReplicationService};
pub use checks::{Check, Verdict};
pub use client::Client;
pub use errors::{CallError, Error, Violation};
pub use options::{ClientBuilder, DEFAULT_CHECK_TIMEOUT, DEFAULT_TIMEOUT};
pub use secret::Secret;
pub use tonic::Code;
#[cfg(feature = "tls")]
pub use tonic::transport::{Certificate, ClientTlsConfig, Identity};
pub use v1::{Principal, RateLimitStatus, Reason, ScopeExplanation};

/// The messages of the API, generated from its protos. None of them prints a key.
#[allow(clippy::all, clippy::pedantic, missing_docs, rustdoc::all, unreachable_pub, reason = "generated")]
pub mod v1 {
    include!("v1/keyfence.v1.rs");
}
